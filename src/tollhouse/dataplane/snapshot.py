"""The read model of people: every key and whose it is, in memory, so that a call never waits for the database.

Refreshed by the management API before it answers, so a change holds from the next request on.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from tollhouse.dataplane.payers import Payers
from tollhouse.dataplane.stored_keys import StoredKeys
from tollhouse.ports import LimitHolder
from tollhouse.rules.plans import holds_under, limits_in_force, nearest_plan, output_cap, plan_in_force
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, DirectoryImage, OwnKeyRule, Plan, Team, User, VirtualKey

if TYPE_CHECKING:
    from tollhouse.dataplane.holds import Purse


SIGNED_IN = "session"
"""Stands where a key's id does for a call by a signed-in browser."""


class Principal:
    """Who a call belongs to, with everything that holds for it: limits, models and budgets of the organisation, the
    team, the user and the key, and of their plans.

    called      what people call it: `key laptop`, or `user alice` where no key is shown
    models      lists of globs, each of which must admit a model
    output_cap  most output tokens of one call by the plans; None when no plan says
    payers      whose keys may pay for the calls; None: the provider's own credential pays for all of them
    """

    __slots__ = (
        "budgets",
        "called",
        "capture_days",
        "holders",
        "key",
        "lasting",
        "models",
        "output_cap",
        "payers",
        "plan_id",
        "purse",
        "team",
        "user",
    )

    def __init__(
        self,
        key: VirtualKey,
        user: User,
        budgets: tuple[Budget, ...],
        team: Team | None = None,
        plans: tuple[Plan | None, Plan | None, Plan | None] = (None, None, None),
    ) -> None:
        """`plans` are those in force of the team, the user and the key."""
        self.called = f"key {key.name or key.key_id}"
        self.capture_days = key.capture_days
        self.key = key
        self.user = user
        self.team = team
        self.budgets = budgets
        self.purse: Purse | None = None
        """Where the accounts keep what they have looked up of `budgets`."""
        self.lasting = key.expires_at_ns is None
        """Stays valid until somebody changes the directory; without an expiry of the key or one of its secrets."""
        of_team, of_user, of_key = plans
        named = [
            (f"user:{user.user_id}", limits_in_force(user.limits, of_user)),
            (f"key:{key.key_id}", limits_in_force(key.limits, of_key)),
        ]
        if team is not None:
            named.insert(0, (f"team:{team.team_id}", limits_in_force(team.limits, of_team)))
        self.holders = tuple(LimitHolder(name, limits) for name, limits in named if limits != NO_LIMITS)
        given = [plan for plan in plans if plan is not None]
        self.plan_id = next((plan.plan_id for plan in reversed(given)), "")
        """The plan nearest to the call: the key's, else the user's, else the team's."""
        lists = (*((plan.models) for plan in given), None if team is None else team.models, key.models)
        self.models = tuple(dict.fromkeys(globs for globs in lists if globs is not None))
        self.output_cap = output_cap(given)
        self.payers: Payers | None = None


class Proof:
    """Who the credential of a head belongs to, found in a certain version of the snapshot. Shared by equal heads."""

    __slots__ = ("principal", "version")

    def __init__(self) -> None:
        self.principal: Principal | None = None
        self.version = -1


class Secret:
    """One way to prove to be a principal: a key's current secret, or an older one within its grace."""

    __slots__ = ("digest", "expires_at_ns", "principal")

    def __init__(self, digest: bytes, principal: Principal, expires_at_ns: int | None) -> None:
        self.digest = digest
        self.principal = principal
        self.expires_at_ns = expires_at_ns


class Snapshot:
    """All secrets by their keyed hash, and the budgets that exist."""

    def __init__(self) -> None:
        self.by_digest: dict[bytes, Secret] = {}
        self.version = 0
        """Counts changes: what was found in another version must be looked up again."""
        self._digests_of_user: dict[str, list[bytes]] = defaultdict(list)
        self._users: dict[str, User] = {}
        self._teams: dict[str, Team] = {}
        self._plans: dict[str, Plan] = {}
        self._budgets: dict[tuple[ScopeKind, str], tuple[Budget, ...]] = {}
        """Of the organisation, the teams and the users."""
        self._keyless: dict[str, dict[str, Principal]] = {}
        """By user and by how they showed who they are."""
        self._stored = StoredKeys()
        self._two_faced = False
        """Some plan lets own keys pay."""

    def calendar_holders(self) -> Iterator[LimitHolder]:
        """Whose requests are limited by day or month, each once: users and teams also without a key."""
        found: dict[str, LimitHolder] = {}
        keyless = [self._users[user_id] for user_id in self._stored.owners if user_id in self._users]
        principals = (
            *(secret.principal for secret in self.by_digest.values()),
            *(self._principal(VirtualKey(SIGNED_IN, user.user_id), user) for user in keyless),
        )
        for principal in principals:
            payers = principal.payers
            for face in (principal,) if payers is None else payers.faces():
                found.update((holder.name, holder) for holder in face.holders)
        for user in self._users.values():
            limits = limits_in_force(user.limits, plan_in_force(self._plans, user.plan_id))
            found.setdefault(f"user:{user.user_id}", LimitHolder(f"user:{user.user_id}", limits))
        for team in self._teams.values():
            limits = limits_in_force(team.limits, plan_in_force(self._plans, team.plan_id))
            found.setdefault(f"team:{team.team_id}", LimitHolder(f"team:{team.team_id}", limits))
        for holder in found.values():
            if holder.limits.requests_per_day is not None or holder.limits.requests_per_month is not None:
                yield holder

    def of_user(self, user_id: str, via: str = SIGNED_IN) -> Principal | None:
        """Who a user is without a virtual key: signed in, or by a token of the application's own. `via` stands where
        the key's id does, in the ledger too. None for an unknown user; whether they are blocked is the caller's to ask.
        """
        by_user = self._keyless.get(user_id)
        if by_user is None:
            if user_id not in self._users:
                return None
            by_user = self._keyless[user_id] = {}
        principal = by_user.get(via)
        if principal is None:
            key = VirtualKey(via, user_id, name=via)
            principal = by_user[via] = self._principal(key, self._users[user_id])
            principal.called = f"user {user_id}"
        return principal

    def replace(self, image: DirectoryImage, user_id: str | None) -> None:
        """Take over an image: of one user (his old entries go), or of everybody."""
        self.version += 1
        if user_id is None:
            self.by_digest.clear()
            self._digests_of_user.clear()
            self._users.clear()
            self._keyless.clear()
            self._budgets.clear()
        else:
            for digest in self._digests_of_user.pop(user_id, ()):
                self.by_digest.pop(digest, None)
            self._keyless.pop(user_id, None)
        self._teams = {team.team_id: team for team in image.teams}
        self._plans = {plan.plan_id: plan for plan in image.plans}
        self._two_faced = any(plan.own_key is not OwnKeyRule.NEVER for plan in image.plans)
        self._stored.replace(image, user_id)
        self._users.update((user.user_id, user) for user in image.users)
        budgets: dict[tuple[ScopeKind, str], list[Budget]] = defaultdict(list)
        for budget in image.budgets:
            budgets[budget.scope, budget.scope_id].append(budget)
        if user_id is not None:
            self._budgets.pop((ScopeKind.USER, user_id), None)
        self._budgets.update((scope, tuple(some)) for scope, some in budgets.items())
        principals = {key.key_id: self._principal(key, self._users[key.user_id]) for key in image.keys}
        for key in image.keys:  # their budgets stand in their principals
            self._budgets.pop((ScopeKind.KEY, key.key_id), None)
        for secret in image.secrets:
            principal = principals[secret.key_id]
            if secret.expires_at_ns is not None:
                principal.lasting = False
            self.by_digest[secret.digest] = Secret(secret.digest, principal, secret.expires_at_ns)
            self._digests_of_user[principal.user.user_id].append(secret.digest)

    def _principal(self, key: VirtualKey, user: User) -> Principal:
        team = self._teams.get(key.team_id or user.team_id or "")
        scopes = [
            (ScopeKind.ORGANISATION, str(user.org_id)),
            (ScopeKind.USER, user.user_id),
            (ScopeKind.KEY, key.key_id),
        ]
        if team is not None:
            scopes.insert(1, (ScopeKind.TEAM, team.team_id))
        budgets = tuple(budget for scope in scopes for budget in self._budgets.get(scope, ()))
        principal = self._face(key, user, team, budgets, own=False)
        assigned = self._stored.assigned_to(user.user_id)
        if assigned or self._two_faced:
            given = nearest_plan(self._plans, key.plan_id, user.plan_id, None if team is None else team.plan_id)
            if assigned or (given is not None and given.own_key is not OwnKeyRule.NEVER):
                principal.payers = Payers(
                    principal,
                    given,
                    None if given is None else plan_in_force(self._plans, given.plan_id),
                    self._stored.of_user(user.user_id),
                    assigned,
                    partial(self._face, key, user, team, budgets, own=True),
                )
        return principal

    def _face(
        self, key: VirtualKey, user: User, team: Team | None, budgets: tuple[Budget, ...], *, own: bool
    ) -> Principal:
        """What holds for calls that an own key pays, or for all others. `budgets` are those of both."""
        plans = self._plans
        of_team = plan_in_force(plans, None if team is None else team.plan_id, has_own_key=own)
        of_user = plan_in_force(plans, user.plan_id, has_own_key=own)
        of_key = plan_in_force(plans, key.plan_id, has_own_key=own)
        if self._two_faced and budgets:
            of_scope = {ScopeKind.TEAM: of_team, ScopeKind.USER: of_user, ScopeKind.KEY: of_key}
            budgets = tuple(budget for budget in budgets if holds_under(budget, of_scope.get(budget.scope)))
        return Principal(key, user, budgets, team, (of_team, of_user, of_key))

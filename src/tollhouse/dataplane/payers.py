"""Whose key pays for a call, and under whose limits: limits follow whose key pays.

A principal has two faces. The shared one is what holds without a key of their own; the own one is the plan itself, and
counts toward budgets only where the plan says `counts_own_key`. By the rule of the plan nearest to the call:

    never         the shared key
    own_only      the own key; without one the shared key, where the plan names what holds then (`without_own_key`)
    own_first     the own key, else the shared one; when the provider refuses the own key, the shared one if `fall_back`
    shared_first  the shared key; when its limits, budgets, models or the provider refuse it, the own one

"Shared" is the provider's own credential, or the one that the operator assigned to this user for it.
"""

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING

from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.refusals import assigned_key_unusable, own_key_required, own_key_unusable
from tollhouse.dataplane.stored_keys import NO_KEYS, Opener, StoredKey
from tollhouse.ports import LimitHolder
from tollhouse.rules.plans import OWN_HOLDER, open_to_shared, own_key_first
from tollhouse.terms.errors import Refusal, VaultError
from tollhouse.terms.people import OwnKeyRule, Plan

if TYPE_CHECKING:
    from tollhouse.dataplane.accounts import Accounts
    from tollhouse.dataplane.snapshot import Principal

Said = int | str
"""What ended a way: the provider's status, or the code of a refusal of ours."""
Way = tuple["Principal", Attempt]
Ways = Generator[Way, Said, None]

OWN_REFUSED: frozenset[Said] = frozenset((401, 402, 403, 429))
SHARED_REFUSED: frozenset[Said] = frozenset(
    (
        *(401, 403, 429),
        *("rate_limited", "budget_exhausted", "model_not_allowed", "max_tokens_over_plan", "credential_unavailable"),
    )
)
"""After these another key is tried, where the rule has another one."""


class Payers:
    """Of a principal for whom more than the shared key may pay.

    plan      the one nearest to the call, as it was given; its rule holds
    own       by provider: the user's own credentials
    assigned  by provider: those of the operator's that this user's calls are sent with
    """

    __slots__ = (
        "_make_own_face",
        "_own_face",
        "assigned",
        "falls_back",
        "open_to_shared",
        "own",
        "own_first",
        "plan",
        "rule",
        "shared",
    )

    def __init__(
        self,
        shared: "Principal",
        plan: Plan | None,
        in_force: Plan | None,
        own: Mapping[str, StoredKey],
        assigned: Mapping[str, StoredKey],
        make_own_face: Callable[[], "Principal"],
    ) -> None:
        """`in_force` is what holds instead of the plan while the shared key pays."""
        self.shared = shared
        self.plan = plan
        self.rule = OwnKeyRule.NEVER if plan is None else plan.own_key
        self.own = NO_KEYS if self.rule is OwnKeyRule.NEVER else own
        self.assigned = assigned
        self.open_to_shared = open_to_shared(plan, in_force)
        self.own_first = own_key_first(plan, in_force)
        self.falls_back = plan is not None and plan.fall_back and self.rule is OwnKeyRule.OWN_FIRST
        self._make_own_face = make_own_face
        self._own_face: Principal | None = None

    @property
    def own_face(self) -> "Principal":
        """What holds for calls that an own key pays; made when first asked for."""
        face = self._own_face
        if face is None:
            face = self._own_face = self._make_own_face()
            face.called, face.lasting = self.shared.called, self.shared.lasting
            theirs = self.shared.holders
            face.holders = tuple(one if one in theirs else _apart(one) for one in face.holders)
            if self.plan is None or not self.plan.counts_own_key:
                face.budgets = ()
        return face

    def best(self, attempt: Attempt, opener: Opener) -> Way:
        """The first of `ways`, without asking where it is known already. Raises Refusal."""
        if self.own_first:
            key = self.own.get(attempt.provider.name)
            keyed = None if key is None else key.attempts.get(attempt)
            if keyed is not None:
                return self._own_face or self.own_face, keyed
        else:
            key = self.assigned.get(attempt.provider.name)
            keyed = attempt if key is None else key.attempts.get(attempt)
            if keyed is not None:
                return self.shared, keyed
        return next(self.ways(attempt, opener))

    def ways(self, attempt: Attempt, opener: Opener) -> Ways:
        """How this attempt may be paid, best first; another one is asked for with what ended the last. Raises Refusal
        when there is none (402 `own_key_required`, 503 `own_key_unusable`), VaultError when the last one's key does not
        open.
        """
        provider = attempt.provider.name
        key = self.own.get(provider)
        if self.rule is OwnKeyRule.SHARED_FIRST and not self.own_first:
            try:
                shared = self._shared(attempt, opener)
            except Refusal as refusal:
                if key is None:
                    raise
                said: Said = refusal.code
            else:
                said = yield shared
            if key is not None and said in SHARED_REFUSED:
                yield self.own_face, key.sends(attempt, opener)
            return
        if key is not None:
            try:
                keyed = key.sends(attempt, opener)
            except VaultError as error:
                if not (self.falls_back and self.open_to_shared):
                    raise own_key_unusable(provider, str(error)) from error
            else:
                said = yield self.own_face, keyed
                if said not in OWN_REFUSED or not self.falls_back:
                    return
        if self.open_to_shared:
            yield self._shared(attempt, opener)
        elif key is None:
            assert self.plan is not None
            raise own_key_required(self.plan.plan_id, provider)

    def _shared(self, attempt: Attempt, opener: Opener) -> Way:
        """With the operator's key: the one assigned to this user, else the provider's own."""
        given = self.assigned.get(attempt.provider.name)
        if given is None:
            return self.shared, attempt
        try:
            return self.shared, given.sends(attempt, opener)
        except VaultError as error:
            raise assigned_key_unusable(attempt.provider.name, str(error)) from error

    def first(self, provider: str | None = None) -> "Principal":
        """The face of a call to this provider, for people to look at; of any that has an own key if none is named."""
        has_key = bool(self.own) if provider is None else provider in self.own
        return self.own_face if has_key and self.own_first else self.shared

    def with_room(self, accounts: "Accounts") -> "Principal":
        """The face of a call that would find room in its budgets, of the first kind if neither would."""
        first = self.first()
        for face in (first, *self.faces()):
            if all(accounts.standing(budget).remaining > 0 for budget in face.budgets):
                return face
        return first

    def faces(self, provider: str | None = None) -> tuple["Principal", ...]:
        """All under which a call may be made now, to this provider where one is named."""
        has_key = bool(self.own) if provider is None else provider in self.own
        shared = (self.shared,) if self.open_to_shared or not has_key else ()
        return (*shared, self.own_face) if has_key else shared


def _apart(holder: LimitHolder) -> LimitHolder:
    """Limits that hold only for calls an own key pays, and count only these."""
    return LimitHolder(OWN_HOLDER + holder.name, holder.limits)

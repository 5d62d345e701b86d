"""The read model of people: every key and whose it is, in memory, so that a call never waits for the database.

Refreshed by the management API before it answers, so a change holds from the next request on.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tollhouse.ports import LimitHolder
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, DirectoryImage, User, VirtualKey

if TYPE_CHECKING:
    from tollhouse.dataplane.holds import Purse


class Principal:
    """Who a call belongs to, with everything that holds for it: limits and budgets of the organisation, the user and
    the key.
    """

    __slots__ = ("budgets", "holders", "key", "lasting", "purse", "user")

    def __init__(self, key: VirtualKey, user: User, budgets: tuple[Budget, ...]) -> None:
        self.key = key
        self.user = user
        self.budgets = budgets
        self.purse: Purse | None = None
        """Where the accounts keep what they have looked up of `budgets`."""
        self.lasting = key.expires_at_ns is None
        """Stays valid until somebody changes the directory; without an expiry of the key or one of its secrets."""
        self.holders = tuple(
            LimitHolder(name, limits)
            for name, limits in ((f"user:{user.user_id}", user.limits), (f"key:{key.key_id}", key.limits))
            if any(value is not None for value in (getattr(limits, field) for field in limits.__struct_fields__))
        )


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

    def calendar_holders(self) -> Iterator[tuple[dict[str, str], LimitHolder]]:
        """Whose requests are limited by day or month: ({`user_id` or `key_id`: …}, holder), each once."""
        found: dict[str, tuple[dict[str, str], LimitHolder]] = {}
        for secret in self.by_digest.values():
            principal = secret.principal
            for holder in principal.holders:
                limits = holder.limits
                if limits.requests_per_day is not None or limits.requests_per_month is not None:
                    of_user = holder.name == f"user:{principal.user.user_id}"
                    who = {"user_id": principal.user.user_id} if of_user else {"key_id": principal.key.key_id}
                    found[holder.name] = who, holder
        yield from found.values()

    def replace(self, image: DirectoryImage, user_id: str | None) -> None:
        """Take over an image: of one user (his old entries go), or of everybody."""
        self.version += 1
        if user_id is None:
            self.by_digest.clear()
            self._digests_of_user.clear()
        else:
            for digest in self._digests_of_user.pop(user_id, ()):
                self.by_digest.pop(digest, None)
        users = {user.user_id: user for user in image.users}
        budgets: dict[tuple[ScopeKind, str], list[Budget]] = defaultdict(list)
        for budget in image.budgets:
            budgets[budget.scope, budget.scope_id].append(budget)
        principals: dict[str, Principal] = {}
        for key in image.keys:
            user = users[key.user_id]
            principals[key.key_id] = Principal(
                key,
                user,
                (
                    *budgets[ScopeKind.ORGANISATION, user.org_id],
                    *budgets[ScopeKind.USER, user.user_id],
                    *budgets[ScopeKind.KEY, key.key_id],
                ),
            )
        for secret in image.secrets:
            principal = principals[secret.key_id]
            if secret.expires_at_ns is not None:
                principal.lasting = False
            self.by_digest[secret.digest] = Secret(secret.digest, principal, secret.expires_at_ns)
            self._digests_of_user[principal.user.user_id].append(secret.digest)

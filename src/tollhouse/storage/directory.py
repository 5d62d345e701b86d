"""Users, keys, their secrets and budgets: plain functions of a Connection, one transaction around as many as the
caller needs.

Changing something is: get, `msgspec.structs.replace`, update, all inside one `database.run`. Lists are ordered by id;
the cursor is the last id seen.
"""

from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from tollhouse.storage.filters import counts_toward
from tollhouse.storage.rows import decode_globs, decode_limits, decode_mapping, encode, page
from tollhouse.storage.tables import budget_windows, budgets, key_secrets, users, virtual_keys
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import (
    Budget,
    BudgetEdge,
    BudgetUnit,
    BudgetWindow,
    KeySecret,
    Role,
    User,
    VirtualKey,
)

# Users


def anybody(connection: Connection) -> bool:
    """Whether there is any user at all."""
    return connection.execute(select(users.c.user_id).limit(1)).scalar() is not None


def create_user(connection: Connection, user: User) -> bool:
    """Insert a user; False when there is one of this id (nothing is changed then)."""
    if get_user(connection, user.user_id) is not None:
        return False
    connection.execute(insert(users).values(_user_row(user)))
    return True


def ensure_user(connection: Connection, user_id: str, now_ns: int, org_id: str = DEFAULT_ORG) -> User:
    """The user of this id, created at first mention."""
    create_user(connection, User(user_id, org_id=org_id, created_at_ns=now_ns))
    return cast(User, get_user(connection, user_id))


def get_user(connection: Connection, user_id: str) -> User | None:
    row = connection.execute(select(users).where(users.c.user_id == user_id)).one_or_none()
    return None if row is None else user_of(row)


def list_users(
    connection: Connection, *where: ColumnElement[bool], cursor: str = "", limit: int = 100
) -> tuple[User, ...]:
    """At most `limit` users with an id after `cursor`, of those that meet all conditions."""
    return tuple(map(user_of, page(connection, users, users.c.user_id, cursor, limit, *where)))


def count_owners(connection: Connection) -> int:
    """Users of the role owner who are not blocked."""
    owners = users.c.role == Role.OWNER.value
    return connection.execute(select(func.count()).where(owners, users.c.blocked_at_ns.is_(None))).scalar_one()


def update_user(connection: Connection, user: User) -> bool:
    """Write all of a user's fields (block by `blocked_at_ns`); False when there is none of this id. Users are never
    deleted.
    """
    row = _user_row(user)
    return connection.execute(update(users).where(users.c.user_id == user.user_id).values(row)).rowcount == 1


# Keys and their secrets


def create_key(connection: Connection, key: VirtualKey, secret: KeySecret) -> None:
    """Insert a key with its first secret; the user is created at first mention."""
    ensure_user(connection, key.user_id, key.created_at_ns)
    connection.execute(insert(virtual_keys).values(_key_row(key)))
    connection.execute(insert(key_secrets).values(msgspec.structs.asdict(secret)))


def get_key(connection: Connection, key_id: str) -> VirtualKey | None:
    row = connection.execute(select(virtual_keys).where(virtual_keys.c.key_id == key_id)).one_or_none()
    return None if row is None else key_of(row)


def list_keys(
    connection: Connection,
    *where: ColumnElement[bool],
    user_id: str | None = None,
    team_id: str | None = None,
    cursor: str = "",
    limit: int = 100,
) -> tuple[VirtualKey, ...]:
    """At most `limit` keys with an id after `cursor`, revoked ones too; of one user, or those made for one team, when
    asked, and of those that meet all conditions.
    """
    wanted = list(where) if user_id is None else [*where, virtual_keys.c.user_id == user_id]
    if team_id is not None:
        wanted.append(virtual_keys.c.team_id == team_id)
    return tuple(map(key_of, page(connection, virtual_keys, virtual_keys.c.key_id, cursor, limit, *wanted)))


def update_key(connection: Connection, key: VirtualKey) -> bool:
    """Write all of a key's fields; False when there is none of this id. A key stays its user's: ValueError for
    another `user_id`.
    """
    stored = get_key(connection, key.key_id)
    if stored is None:
        return False
    if stored.user_id != key.user_id:
        raise ValueError(f"the key {key.key_id} belongs to {stored.user_id}; create a new one for {key.user_id}")
    connection.execute(update(virtual_keys).where(virtual_keys.c.key_id == key.key_id).values(_key_row(key)))
    return True


def add_secret(connection: Connection, secret: KeySecret, *, others_expire_at_ns: int) -> bool:
    """Rotate: add a secret, let the key's others end at that time at the latest, show the new hint. False when there
    is no such key.
    """
    if get_key(connection, secret.key_id) is None:
        return False
    end = key_secrets.c.expires_at_ns
    connection.execute(
        update(key_secrets)
        .where(key_secrets.c.key_id == secret.key_id, or_(end.is_(None), end > others_expire_at_ns))
        .values(expires_at_ns=others_expire_at_ns)
    )
    connection.execute(insert(key_secrets).values(msgspec.structs.asdict(secret)))
    connection.execute(update(virtual_keys).where(virtual_keys.c.key_id == secret.key_id).values(hint=secret.hint))
    return True


def count_secrets(connection: Connection, user_id: str) -> int:
    """Secrets of all of a user's keys, ended ones too."""
    query = select(func.count()).select_from(key_secrets.join(virtual_keys)).where(virtual_keys.c.user_id == user_id)
    return connection.execute(query).scalar_one()


def list_secrets(connection: Connection, key_id: str) -> tuple[KeySecret, ...]:
    """The secrets of one key, oldest first, ended ones too."""
    query = select(key_secrets).where(key_secrets.c.key_id == key_id).order_by(key_secrets.c.created_at_ns)
    return tuple(map(secret_of, connection.execute(query)))


def revoke_key(connection: Connection, key_id: str, now_ns: int) -> VirtualKey | None:
    """Revoke a key for good; the first revocation's time stays. None when there is no such key."""
    connection.execute(
        update(virtual_keys)
        .where(virtual_keys.c.key_id == key_id, virtual_keys.c.revoked_at_ns.is_(None))
        .values(revoked_at_ns=now_ns)
    )
    return get_key(connection, key_id)


def revoke_in_team(connection: Connection, team_id: str, user_id: str, now_ns: int) -> list[str]:
    """Revoke the user's keys that count toward the team; their ids."""
    column = virtual_keys.c
    alive = (column.user_id == user_id, column.revoked_at_ns.is_(None), counts_toward(frozenset((team_id,))))
    key_ids = list(connection.scalars(select(column.key_id).where(*alive).order_by(column.key_id)))
    for key_id in key_ids:
        revoke_key(connection, key_id, now_ns)
    return key_ids


# Budgets


def create_budget(connection: Connection, budget: Budget) -> bool:
    """Insert a budget; False when there is one of this id."""
    if get_budget(connection, budget.budget_id) is not None:
        return False
    connection.execute(insert(budgets).values(_budget_row(budget)))
    return True


def get_budget(connection: Connection, budget_id: str) -> Budget | None:
    row = connection.execute(select(budgets).where(budgets.c.budget_id == budget_id)).one_or_none()
    return None if row is None else budget_of(row)


def list_budgets(
    connection: Connection,
    *where: ColumnElement[bool],
    scope: ScopeKind | None = None,
    scope_id: str | None = None,
    cursor: str = "",
    limit: int = 100,
) -> tuple[Budget, ...]:
    """At most `limit` budgets with an id after `cursor`; of one kind of scope, or one scope, when asked, and of those
    that meet all conditions.
    """
    wanted = list(where) if scope is None else [*where, budgets.c.scope == scope.value]
    if scope_id is not None:
        wanted.append(budgets.c.scope_id == scope_id)
    return tuple(map(budget_of, page(connection, budgets, budgets.c.budget_id, cursor, limit, *wanted)))


def update_budget(connection: Connection, budget: Budget) -> bool:
    """Write `limit`, `edge` and whose file declares it; what is posted stays. False when there is no such budget.

    Raises ValueError when anything else differs: what was posted in another unit or window means nothing in the new
    one.
    """
    stored = get_budget(connection, budget.budget_id)
    if stored is None:
        return False
    if msgspec.structs.replace(stored, limit=budget.limit, edge=budget.edge, owned_by=budget.owned_by) != budget:
        raise ValueError("only the limit and the edge of a budget can be changed; delete it and create another one")
    row = {"cap": budget.limit, "edge": budget.edge.value, "owned_by": budget.owned_by}
    connection.execute(update(budgets).where(budgets.c.budget_id == budget.budget_id).values(row))
    return True


def delete_budget(connection: Connection, budget_id: str) -> bool:
    """Remove a budget with what is posted on it (the ledger entries stay); False when there is none of this id."""
    connection.execute(delete(budget_windows).where(budget_windows.c.budget_id == budget_id))
    return connection.execute(delete(budgets).where(budgets.c.budget_id == budget_id)).rowcount == 1


def posted_windows(connection: Connection, budget_id: str) -> dict[int, int]:
    """Window start (seconds) → what is posted, in the budget's unit, all windows."""
    query = select(budget_windows.c.window_start_s, budget_windows.c.posted).where(
        budget_windows.c.budget_id == budget_id
    )
    return {row.window_start_s: row.posted for row in connection.execute(query)}


# Rows to terms and back


def _user_row(user: User) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(user),
        "role": user.role.value,
        "limits": encode(user.limits),
        "metadata": encode(user.metadata),
    }


def user_of(row: Row[Any]) -> User:
    return User(
        row.user_id,
        org_id=row.org_id,
        name=row.name,
        email=row.email,
        limits=decode_limits(row.limits),
        metadata=decode_mapping(row.metadata),
        created_at_ns=row.created_at_ns,
        blocked_at_ns=row.blocked_at_ns,
        role=Role(row.role),
        team_id=row.team_id,
        plan_id=row.plan_id,
        owned_by=row.owned_by,
        erased_at_ns=row.erased_at_ns,
    )


def _key_row(key: VirtualKey) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(key),
        "models": None if key.models is None else encode(key.models),
        "limits": encode(key.limits),
        "metadata": encode(key.metadata),
    }


def key_of(row: Row[Any]) -> VirtualKey:
    return VirtualKey(
        row.key_id,
        row.user_id,
        name=row.name,
        hint=row.hint,
        models=None if row.models is None else decode_globs(row.models),
        limits=decode_limits(row.limits),
        metadata=decode_mapping(row.metadata),
        created_at_ns=row.created_at_ns,
        expires_at_ns=row.expires_at_ns,
        revoked_at_ns=row.revoked_at_ns,
        team_id=row.team_id,
        plan_id=row.plan_id,
        owned_by=row.owned_by,
        paused_at_ns=row.paused_at_ns,
        pause_reason=row.pause_reason,
        capture_days=row.capture_days,
    )


def secret_of(row: Row[Any]) -> KeySecret:
    return KeySecret(
        row.digest, row.key_id, hint=row.hint, created_at_ns=row.created_at_ns, expires_at_ns=row.expires_at_ns
    )


def _budget_row(budget: Budget) -> dict[str, Any]:
    return {
        "budget_id": budget.budget_id,
        "scope": budget.scope.value,
        "scope_id": budget.scope_id,
        "cap": budget.limit,
        "unit": budget.unit.value,
        "window": budget.window.value,
        "timezone": budget.timezone,
        "edge": budget.edge.value,
        "created_at_ns": budget.created_at_ns,
        "owned_by": budget.owned_by,
    }


def budget_of(row: Row[Any]) -> Budget:
    return Budget(
        row.budget_id,
        scope=ScopeKind(row.scope),
        scope_id=row.scope_id,
        limit=row.cap,
        unit=BudgetUnit(row.unit),
        window=BudgetWindow(row.window),
        timezone=row.timezone,
        edge=BudgetEdge(row.edge),
        created_at_ns=row.created_at_ns,
        owned_by=row.owned_by,
    )

"""Who shows up with good claims is made a user, or brought up to what the claims say now.

What the claims of a source said last is remembered: what they say anew is applied, what they no longer say is taken
back, and what somebody changed by hand since then stays until the claims change. Claims never touch owners, services,
blocked users, or what a file declares.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from tollhouse.rules.claims import Claimed
from tollhouse.storage import directory, teams
from tollhouse.storage.plans import get_plan
from tollhouse.storage.rows import encode
from tollhouse.storage.sign_in_tables import provisions
from tollhouse.storage.tables import virtual_keys
from tollhouse.terms.people import Membership, Role, User


class _Given(msgspec.Struct, frozen=True, omit_defaults=True):
    """What claims said, as it is stored."""

    email: str = ""
    name: str = ""
    team_ids: tuple[str, ...] = ()
    role: Role | None = None
    plan_id: str | None = None


_decode = msgspec.json.Decoder(_Given).decode


def provision(connection: Connection, claimed: Claimed, now_ns: int) -> tuple[User, bool]:
    """The user and whether anything of the directory changed. Raises ValueError when the claims give a team or plan
    that is not there: somebody without it would have no limits.
    """
    if not claimed.user_id:
        raise ValueError("the claims name no user")
    user = directory.get_user(connection, claimed.user_id)
    is_new = user is None
    if user is None:
        plan_id = claimed.plan_id or claimed.new_plan_id
        user = User(
            claimed.user_id, name=claimed.name, email=claimed.email, created_at_ns=now_ns, plan_id=plan_id or None
        )
        _check(connection, claimed, plan_id)
        directory.create_user(connection, user)
    elif user.blocked_at_ns is not None or user.owned_by or user.role in (Role.OWNER, Role.SERVICE):
        return user, False
    before = _last_given(connection, claimed)
    # An address that claims say no more stays, and so must it be known whose word it was.
    email = claimed.email or before.email
    now = _Given(email, claimed.name, claimed.team_ids, claimed.role, claimed.plan_id)
    if now == before and not is_new:
        return user, False
    _check(connection, claimed, claimed.plan_id)
    _remember(connection, claimed, now)
    moved = _changed(user, before, now)
    if moved != user:
        directory.update_user(connection, moved)
    movements = _move(connection, claimed.user_id, before, now, now_ns)
    return directory.get_user(connection, claimed.user_id) or moved, is_new or movements or moved != user


def _check(connection: Connection, claimed: Claimed, plan_id: str | None) -> None:
    if plan_id and get_plan(connection, plan_id) is None:
        raise ValueError(f"there is no plan {plan_id!r}, which the claims or the settings give")
    for team_id in claimed.team_ids:
        if teams.get_team(connection, team_id) is None:
            raise ValueError(f"there is no team {team_id!r}, which the claims give")


def _changed(user: User, before: _Given, now: _Given) -> User:
    """The user with each field for which the claims say something else than last time."""
    changes: dict[str, Any] = {}
    for field in ("email", "name"):
        said = getattr(now, field)
        if said and said != getattr(before, field):
            changes[field] = said
    if now.role is not before.role:
        if now.role is not None:
            changes["role"] = now.role
        elif user.role is before.role:
            changes["role"] = Role.MEMBER
    if now.plan_id != before.plan_id and (now.plan_id is not None or user.plan_id == before.plan_id):
        changes["plan_id"] = now.plan_id
    return msgspec.structs.replace(user, **changes)


def _move(connection: Connection, user_id: str, before: _Given, now: _Given, now_ns: int) -> bool:
    """Into teams and out of them; a team that a file declares keeps its people."""
    moved = False
    inside = {member.team_id for member in teams.memberships_of(connection, user_id)}
    for team_id in set(now.team_ids) - inside - set(before.team_ids):
        if _open(connection, team_id):
            teams.put_member(connection, Membership(team_id, user_id, created_at_ns=now_ns))
            moved = True
    for team_id in (set(before.team_ids) - set(now.team_ids)) & inside:
        if _open(connection, team_id):
            teams.remove_member(connection, team_id, user_id)
            _end_keys(connection, team_id, user_id, now_ns)
            moved = True
    return moved


def _open(connection: Connection, team_id: str) -> bool:
    team = teams.get_team(connection, team_id)
    return team is not None and not team.owned_by


def _end_keys(connection: Connection, team_id: str, user_id: str, now_ns: int) -> None:
    keys = virtual_keys.c
    query = select(keys.key_id).where(keys.user_id == user_id, keys.team_id == team_id)
    for key_id in connection.execute(query).scalars().all():
        directory.revoke_key(connection, key_id, now_ns)


def _last_given(connection: Connection, claimed: Claimed) -> _Given:
    column = provisions.c
    query = select(column.given).where(column.user_id == claimed.user_id, column.source == claimed.source)
    text = connection.execute(query).scalar_one_or_none()
    return _Given() if text is None else _decode(text)


def _remember(connection: Connection, claimed: Claimed, now: _Given) -> None:
    column = provisions.c
    connection.execute(delete(provisions).where(column.user_id == claimed.user_id, column.source == claimed.source))
    row = {"user_id": claimed.user_id, "source": claimed.source, "given": encode(now)}
    connection.execute(insert(provisions).values(row))

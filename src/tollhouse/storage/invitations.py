"""Invitations: links that let one person in, once. Plain functions of a Connection."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.rows import page
from tollhouse.storage.sign_in_tables import invitations
from tollhouse.terms.people import Role

SETUP = "setup"
"""The id of the one that makes the first owner; never in a list."""


class Invitation(msgspec.Struct, frozen=True):
    """The link's token is known by its hash only. `user_id`: somebody who is there already and gets a new password, or
    who has accepted. `invited_by` is empty for the operator.
    """

    invitation_id: str
    digest: bytes
    email: str
    role: Role
    invited_by: str
    created_at_ns: int
    expires_at_ns: int
    user_id: str | None = None
    team_id: str | None = None
    team_role: Role = Role.MEMBER
    plan_id: str | None = None
    accepted_at_ns: int | None = None


def add_invitation(connection: Connection, invitation: Invitation) -> None:
    """Insert; of the one that sets up, the one before is gone."""
    connection.execute(delete(invitations).where(invitations.c.invitation_id == invitation.invitation_id))
    row = {**msgspec.structs.asdict(invitation), "role": invitation.role.value, "team_role": invitation.team_role.value}
    connection.execute(insert(invitations).values(row))


def get_invitation(connection: Connection, invitation_id: str) -> Invitation | None:
    return _one(connection, invitations.c.invitation_id == invitation_id)


def invitation_by_token(connection: Connection, digest: bytes, now_ns: int) -> Invitation | None:
    """The one of a token that may still be accepted."""
    column = invitations.c
    return _one(
        connection,
        and_(column.digest == digest, column.accepted_at_ns.is_(None), column.expires_at_ns > now_ns),
    )


def accept_invitation(connection: Connection, invitation_id: str, user_id: str, now_ns: int) -> bool:
    """False when somebody else was first."""
    column = invitations.c
    open_ = (column.invitation_id == invitation_id, column.accepted_at_ns.is_(None))
    changes = {"accepted_at_ns": now_ns, "user_id": user_id}
    return connection.execute(update(invitations).where(*open_).values(changes)).rowcount == 1


def list_invitations(
    connection: Connection, *, teams: frozenset[str] | None = None, cursor: str = "", limit: int = 100
) -> tuple[Invitation, ...]:
    """At most `limit`, by id after `cursor`; only those into some teams when asked."""
    column = invitations.c
    where = [column.invitation_id != SETUP]
    if teams is not None:
        where.append(column.team_id.in_(sorted(teams)))
    return tuple(map(_invitation, page(connection, invitations, column.invitation_id, cursor, limit, *where)))


def delete_invitation(connection: Connection, invitation_id: str) -> bool:
    """False when there is none of this id."""
    return connection.execute(delete(invitations).where(invitations.c.invitation_id == invitation_id)).rowcount == 1


def forget_old_invitations(connection: Connection, before_ns: int) -> int:
    """Remove those that were accepted, or over, before a time; how many."""
    column = invitations.c
    old = or_(column.accepted_at_ns < before_ns, column.expires_at_ns < before_ns)
    return connection.execute(delete(invitations).where(old).execution_options(**UNRECORDED)).rowcount


def _one(connection: Connection, where: Any) -> Invitation | None:
    row = connection.execute(select(invitations).where(where)).one_or_none()
    return None if row is None else _invitation(row)


def _invitation(row: Row[Any]) -> Invitation:
    fields = dict(row._mapping)
    fields.update(role=Role(row.role), team_role=Role(row.team_role))
    return Invitation(**fields)

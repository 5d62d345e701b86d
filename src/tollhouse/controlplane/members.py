"""Who is in a team, and as what. Who leaves a team loses the keys that count toward it at once, and for good."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.access import forbidden
from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import not_found
from tollhouse.controlplane.shapes import DEFAULT_PAGE, CursorQuery, Input, LimitQuery, Page, cursor_position, cut
from tollhouse.controlplane.tenancy import known_team, known_user, reached, tenant_of_user
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.storage import directory, teams
from tollhouse.storage.tables import memberships as table
from tollhouse.terms.people import Membership, Role

router = APIRouter(prefix="/api/v1/teams/{team_id}/members", tags=["teams"])


class MemberIn(Input):
    role: Literal[Role.ADMIN, Role.MEMBER, Role.VIEWER] = Role.MEMBER


class MemberOut(BaseModel):
    team_id: str
    user_id: str
    role: Role
    created_at: str | None


class MemberGone(BaseModel):
    """`revoked_keys` are those that counted toward the team."""

    team_id: str
    user_id: str
    revoked_keys: list[str]


def _member_out(member: Membership) -> MemberOut:
    return MemberOut(
        team_id=member.team_id, user_id=member.user_id, role=member.role, created_at=iso_ns(member.created_at_ns)
    )


@router.get("")
async def list_members(
    team_id: str, deps: Deps, by: By, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_PAGE
) -> Page[MemberOut]:
    """The members of a team by user id; for who only belongs to it: themselves."""
    after = cursor_position(cursor)
    seen = reached(by.caller, Action.READ_USERS)
    only_me = () if seen.everybody or team_id in seen.team_ids else (table.c.user_id == by.caller.user_id,)

    def query(connection: Connection) -> tuple[Membership, ...]:
        known_team(connection, by.caller, Action.READ_TEAMS, team_id)
        return teams.members_of(connection, team_id, *only_me, cursor=after, limit=limit + 1)

    page, next_cursor = cut(await deps.read(query), limit, lambda member: member.user_id)
    return Page(items=[_member_out(member) for member in page], next_cursor=next_cursor)


@router.put("/{user_id:path}")
async def put_member(team_id: str, user_id: str, body: MemberIn, deps: Deps, by: By) -> MemberOut:
    """Take a user into the team, or give them another role there. Whose calls counted toward no team count toward this
    one from now on. Who leads a team takes in people of other teams that they lead, and invites all others.
    """
    led = reached(by.caller, Action.WRITE_MEMBERS)

    def change(connection: Connection) -> Membership:
        writable(known_team(connection, by.caller, Action.WRITE_MEMBERS, team_id))
        known_user(connection, by.caller, Action.READ_USERS, user_id)
        if tenant_of_user(connection, user_id).team_ids.isdisjoint(led.team_ids) and not led.everybody:
            raise forbidden(by.caller, Action.WRITE_MEMBERS)  # who only sees people does not get to make keys of theirs
        old = teams.get_member(connection, team_id, user_id)
        now_ns = deps.now_ns() if old is None else old.created_at_ns
        member = Membership(team_id, user_id, body.role, created_at_ns=now_ns)
        teams.put_member(connection, member)
        return member

    return _member_out(await deps.write(change, touches=lambda member: member.user_id))


@router.delete("/{user_id:path}")
async def remove_member(team_id: str, user_id: str, deps: Deps, by: By) -> MemberGone:
    """Take a user out of the team and revoke their keys in it."""

    def change(connection: Connection) -> list[str]:
        writable(known_team(connection, by.caller, Action.WRITE_MEMBERS, team_id))
        if teams.get_member(connection, team_id, user_id) is None:
            raise not_found("member", user_id, f"Nobody of this id is in the team {team_id}.")
        revoked = directory.revoke_in_team(connection, team_id, user_id, deps.now_ns())
        teams.remove_member(connection, team_id, user_id)
        return revoked

    revoked = await deps.write(change, touches=lambda _: user_id)
    return MemberGone(team_id=team_id, user_id=user_id, revoked_keys=revoked)

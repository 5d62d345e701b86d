"""Letting people in by a link: it is shown once to who asked for it, is good for one person and some days, and is known
by its hash only. No mail is sent: the link travels as its sender likes.

    somebody new     gets an account with the role, team and plan that the link gives
    somebody here    gets a new password; whoever was signed in as them is not any more
    the first owner  by the link that `serve` prints, for as long as no owner can sign in

What a link gives, its sender must still be allowed to give when it is followed.
"""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.sign_in.book import Browser, SignedIn
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.notes import note
from tollhouse.controlplane.sign_in.tokens import TOKEN_BYTES, Tokens
from tollhouse.rules.roles import Action, Reach, may_give, reach, teams_within
from tollhouse.storage import directory
from tollhouse.storage.invitations import (
    SETUP,
    Invitation,
    accept_invitation,
    add_invitation,
    delete_invitation,
    invitation_by_token,
)
from tollhouse.storage.passwords import Password, any_owner_signs_in, password_of_user, put_password
from tollhouse.storage.plans import get_plan
from tollhouse.storage.sessions import end_sessions_of
from tollhouse.storage.teams import get_team, memberships_of, put_member
from tollhouse.terms.people import Membership, Role, User

NS_PER_S = 1_000_000_000


def may_invite(role: Role | None, team_roles: Mapping[str, Role], wish: Invitation) -> bool:
    """Whether somebody may send this: into the organisation with roles below their own; or into a team of theirs, as a
    member or viewer of it and nothing more.
    """
    how_far = reach(role, team_roles, Action.INVITE)
    if how_far is Reach.ALL:
        return may_give(role, wish.role)
    return (
        how_far is Reach.TEAM
        and wish.team_id in teams_within(team_roles, Action.INVITE)
        and wish.role is Role.MEMBER
        and wish.team_role in (Role.MEMBER, Role.VIEWER)
        and wish.plan_id is None
        and wish.user_id is None
    )


async def send(keeper: Doorkeeper, invitation: Invitation) -> str:
    """The link's token. Raises Problem for what is not there, or an address that is taken."""
    token, invitation = _sealed(keeper, invitation)

    def write(connection: Connection) -> None:
        _check(keeper, connection, invitation)
        add_invitation(connection, invitation)

    await keeper.database.run(write)
    note("invited", by=invitation.invited_by or "the operator", invitation=invitation.invitation_id)
    return token


async def first_owner(keeper: Doorkeeper) -> str | None:
    """The token of a new link for the first owner, which ends those before; None where an owner can sign in."""
    now_ns = keeper.now_ns()
    ends_ns = now_ns + int(keeper.options.setup_s * NS_PER_S)
    token, invitation = _sealed(keeper, Invitation(SETUP, b"", "", Role.OWNER, "", now_ns, ends_ns))

    def write(connection: Connection) -> bool:
        if any_owner_signs_in(connection):
            delete_invitation(connection, SETUP)
            return False
        add_invitation(connection, invitation)
        return True

    return token if await keeper.database.run(write) else None


async def look(keeper: Doorkeeper, token: str, *, setup: bool) -> Invitation:
    """Problem 404 for a link that is not good, or not any more; `setup`: as the one for the first owner, or another."""
    digest = keeper.invitation_tokens.digest(token)

    def query(connection: Connection) -> Invitation | None:
        return None if digest is None else _good(keeper, connection, digest)

    found = await keeper.database.read(query)
    if found is None or (found.invitation_id == SETUP) is not setup:
        raise over()
    return found


async def accept(
    keeper: Doorkeeper, token: str, *, email: str, password: str, name: str, browser: Browser, setup: bool
) -> SignedIn:
    """Make the account, or give it its new password, and sign in. `setup`: only by the link for the first owner."""
    invitation = await look(keeper, token, setup=setup)
    typed = keeper.email(email) if email.strip() else ""
    if invitation.email and typed not in ("", invitation.email):
        raise invalid("email", "is not the one that was invited")
    address = invitation.email or typed
    user = None
    if invitation.user_id is not None:
        user, address = await keeper.database.read(lambda connection: _who(connection, invitation, address))
    if not address:
        raise invalid("email", "is missing")
    hashed = await keeper.hashed(password, (address, name or ("" if user is None else user.name)))
    user_id = keeper.new_user_id() if user is None else user.user_id
    now_ns = keeper.now_ns()

    def write(connection: Connection) -> None:
        if _good(keeper, connection, invitation.digest) is None:
            raise over()
        _check(keeper, connection, invitation)
        keeper.refuse_taken(connection, address, but=user_id)
        accept_invitation(connection, invitation.invitation_id, user_id, now_ns)
        if user is None:
            directory.create_user(connection, _new_user(invitation, user_id, name, address, now_ns))
            if invitation.team_id is not None:
                put_member(connection, Membership(invitation.team_id, user_id, invitation.team_role, now_ns))
        vouched = _vouched(connection, invitation, address)
        put_password(connection, Password(address, user_id, hashed, vouched, now_ns))
        end_sessions_of(connection, [user_id])

    await keeper.database.run(write)
    keeper.book.end_of_user(user_id)
    await keeper.changed(user_id)
    note("accepted", user_id=user_id, address=browser.address, invitation=invitation.invitation_id)
    return await keeper.begin(user_id, browser, "setup" if setup else "invitation")


def over() -> Problem:
    return Problem(
        404,
        "invitation_over",
        "This link is not good, or not any more: it works once, for some days. Ask for a new one.",
    )


def _sealed(keeper: Doorkeeper, invitation: Invitation) -> tuple[str, Invitation]:
    token = Tokens.mint(keeper.random_bytes(TOKEN_BYTES))
    digest = keeper.invitation_tokens.digest(token)
    assert digest is not None
    return token, msgspec.structs.replace(invitation, digest=digest)


def _check(keeper: Doorkeeper, connection: Connection, wish: Invitation) -> None:
    """Raises Problem for what an invitation gives and is not there."""
    if wish.plan_id is not None and get_plan(connection, wish.plan_id) is None:
        raise invalid("plan_id", f"there is no plan {wish.plan_id!r}")
    if wish.team_id is not None:
        team = get_team(connection, wish.team_id)
        if team is None:
            raise invalid("team_id", f"there is no team {wish.team_id!r}")
        writable(team)
    if wish.email:
        keeper.refuse_taken(connection, wish.email, but=wish.user_id)


def _good(keeper: Doorkeeper, connection: Connection, digest: bytes) -> Invitation | None:
    """The invitation of a token, if it may be followed now."""
    found = invitation_by_token(connection, digest, keeper.now_ns())
    if found is None:
        return None
    if found.invitation_id == SETUP:
        return None if any_owner_signs_in(connection) else found
    if found.user_id is not None:
        target = directory.get_user(connection, found.user_id)
        if target is None or target.role is not found.role or target.blocked_at_ns is not None:
            return None
    if found.invited_by:
        sender = directory.get_user(connection, found.invited_by)
        if sender is None or sender.blocked_at_ns is not None:
            return None
        team_roles = {member.team_id: member.role for member in memberships_of(connection, found.invited_by)}
        if not may_invite(sender.role, team_roles, found):
            return None
    return found


def _who(connection: Connection, invitation: Invitation, typed: str) -> tuple[User | None, str]:
    """Who is to get a new password, and the address they sign in with."""
    assert invitation.user_id is not None
    user = directory.get_user(connection, invitation.user_id)
    stored = password_of_user(connection, invitation.user_id)
    return user, invitation.email or ("" if stored is None else stored.email) or typed


def _vouched(connection: Connection, invitation: Invitation, address: str) -> bool:
    """Whether anybody but the one who follows the link says that the address is theirs: the link names it and was sent
    by who may vouch for anybody's, or it was known before. Whoever gets the first owner's link is believed.
    """
    if invitation.invitation_id == SETUP:
        return True
    if invitation.email:
        sender = directory.get_user(connection, invitation.invited_by) if invitation.invited_by else None
        return sender is None or reach(sender.role, {}, Action.INVITE) is Reach.ALL
    stored = None if invitation.user_id is None else password_of_user(connection, invitation.user_id)
    return stored is not None and stored.vouched and stored.email == address


def _new_user(invitation: Invitation, user_id: str, name: str, email: str, now_ns: int) -> User:
    return User(
        user_id,
        name=name,
        email=email,
        created_at_ns=now_ns,
        role=invitation.role,
        plan_id=invitation.plan_id,
        team_id=invitation.team_id,
    )

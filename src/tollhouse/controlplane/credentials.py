"""Stored credentials of providers: users' own, and the operator's, which may be assigned to users.

A user has one of their own for each provider at most; storing again replaces it (`…/secret`). What users do with theirs
stands at `/api/v1/me/credentials`.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Connection

from tollhouse.controlplane.access import Caller, forbidden
from tollhouse.controlplane.credential_shapes import (
    CredentialDetail,
    CredentialOut,
    ProviderName,
    TestOut,
    credential_detail,
    credential_out,
    untold,
)
from tollhouse.controlplane.credential_tests import tested
from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.problems import Problem, invalid, not_found
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    NameText,
    Page,
    UserIdText,
    cursor_position,
    cut,
)
from tollhouse.controlplane.storing import SecretText, checked, fresh, put_again, put_new, told
from tollhouse.controlplane.tenancy import admit, known_user, reached
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.rules.tenants import Tenant
from tollhouse.storage import credentials as stored
from tollhouse.storage.credential_tables import credentials as table
from tollhouse.terms.credentials import Credential

router = APIRouter(prefix="/api/v1", tags=["credentials"])

MAX_USERS_NAMED = 500
WRITE = Action.WRITE_CREDENTIALS


class CredentialIn(Input):
    provider: ProviderName
    secret: SecretText
    user_id: UserIdText | None = Field(None, description="Whose own it is; the operator's when missing")
    name: NameText = ""
    base_url: Annotated[str | None, Field(max_length=2_048)] = None


class CredentialPatch(Input):
    name: NameText


class SecretIn(Input):
    secret: SecretText


class AssignmentIn(Input):
    credential_id: str = Field(max_length=64)


class Assignment(BaseModel):
    """The user's calls to the provider are sent with this credential of the operator's."""

    user_id: str
    provider: str
    credential_id: str


def known_credential(connection: Connection, caller: Caller, action: Action, credential_id: str) -> Credential:
    """One that is named, for who may do this with it. Raises Problem: 404 or 403."""
    missing = not_found("credential", credential_id, "`tollhouse credentials list` shows those there are.")
    credential = stored.get_credential(connection, credential_id)
    if credential is None:
        raise missing
    admit(caller, action, Tenant(credential.user_id), missing)
    return credential


@router.post("/credentials", status_code=201)
async def create_credential(body: CredentialIn, deps: Deps, by: By) -> CredentialOut:
    """Store a credential: a user's own, or one of the operator's, which provider rows name as `stored:NAME` and which
    can be assigned to users.
    """
    host = deps.providers.host_of(body.provider)
    if host is None:
        raise invalid("provider", f"there is no provider {body.provider!r} that takes a credential")
    if body.base_url is not None and not body.user_id:
        raise invalid("base_url", "is for a user's own credential; the operator's go where their provider's row says")
    what = checked(deps, body.provider, body.secret, body.base_url, host)
    user_id = body.user_id or ""

    def change(connection: Connection) -> Credential:
        if user_id:
            known_user(connection, by.caller, Action.READ_USERS, user_id)
        if Tenant(user_id) not in reached(by.caller, WRITE):
            raise forbidden(by.caller, WRITE)
        if user_id and stored.own_credential(connection, user_id, body.provider) is not None:
            raise _taken("credential_exists", f"{user_id} has one for {body.provider} already; replace its secret")
        if user_id and stored.count_own(connection, user_id) >= deps.credentials.per_user:
            raise _taken("too_many_credentials", f"{user_id} has enough of them (vault.credentials_per_user)")
        new = fresh(deps, what, user_id=user_id, name=body.name, created_by=by.caller.user_id)
        _only_of_its_name(connection, new)
        again = stored.same_secret(connection, new)
        if again is not None:
            raise _taken("same_secret", f"this secret is stored already, as {again.credential_id}")
        return put_new(connection, deps, new, what.secret)

    credential = await deps.write(change, touches=_whose)
    by.tag(untold(credential))
    return credential_out(credential)


@router.get("/credentials")
async def list_credentials(
    deps: Deps,
    by: By,
    user: str | None = Query(None, max_length=256, description="Only this user's own"),
    provider: str | None = Query(None, max_length=64, description="Only those for this provider"),
    managed: bool | None = Query(None, description="Only the operator's, or only users' own"),
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[CredentialOut]:
    """Stored credentials by id: those the caller may know of. None tells its secret."""
    after = cursor_position(cursor)
    theirs = reached(by.caller, Action.READ_CREDENTIALS)
    wanted: list[ColumnElement[bool]] = [] if theirs.everybody else [table.c.user_id == (theirs.user_id or None)]
    if user is not None:
        wanted.append(table.c.user_id == user)
    if provider is not None:
        wanted.append(table.c.provider == provider)
    if managed is not None:
        wanted.append(table.c.user_id == "" if managed else table.c.user_id != "")
    rows = await deps.read(
        lambda connection: stored.list_credentials(connection, *wanted, cursor=after, limit=limit + 1)
    )
    page, next_cursor = cut(rows, limit, lambda credential: credential.credential_id)
    return Page(items=[credential_out(credential) for credential in page], next_cursor=next_cursor)


@router.get("/credentials/{credential_id}")
async def get_credential(credential_id: str, deps: Deps, by: By) -> CredentialDetail:
    """One credential, and the users it is assigned to."""

    def query(connection: Connection) -> tuple[Credential, tuple[str, ...]]:
        credential = known_credential(connection, by.caller, Action.READ_CREDENTIALS, credential_id)
        return credential, stored.users_assigned(connection, credential_id, limit=MAX_USERS_NAMED)

    credential, users = await deps.read(query)
    by.tag(untold(credential))
    return credential_detail(credential, users)


@router.patch("/credentials/{credential_id}")
async def edit_credential(credential_id: str, body: CredentialPatch, deps: Deps, by: By) -> CredentialDetail:
    """Give it another name."""

    def change(connection: Connection) -> Credential:
        credential = known_credential(connection, by.caller, WRITE, credential_id)
        by.meets(untold(credential))
        renamed = msgspec.structs.replace(credential, name=body.name)
        _only_of_its_name(connection, renamed)
        stored.update_credential(connection, renamed)
        return renamed

    await deps.write(change, touches=_whose)
    return await get_credential(credential_id, deps, by)


@router.put("/credentials/{credential_id}/secret")
async def replace_secret(credential_id: str, body: SecretIn, deps: Deps, by: By) -> CredentialDetail:
    """Put another secret in its place; calls from now on are sent with it. It is bound to where its provider is now,
    or to the user's own endpoint that it was for.
    """
    before = await deps.read(lambda connection: known_credential(connection, by.caller, WRITE, credential_id))
    host = deps.providers.host_of(before.provider)
    if host is None:
        raise Problem(409, "provider_gone", f"There is no provider {before.provider!r} any more; remove this instead.")
    what = checked(deps, before.provider, body.secret, before.base_url or None, host)

    def change(connection: Connection) -> Credential:
        old = known_credential(connection, by.caller, WRITE, credential_id)
        by.meets(untold(old))
        new = told(deps, msgspec.structs.replace(old, created_by=by.caller.user_id), what)
        again = stored.same_secret(connection, new)
        if again is not None:
            raise _taken("same_secret", f"this secret is stored already, as {again.credential_id}")
        return put_again(connection, deps, new, what.secret)

    await deps.write(change, touches=_whose)
    return await get_credential(credential_id, deps, by)


@router.delete("/credentials/{credential_id}", status_code=204)
async def remove_credential(credential_id: str, deps: Deps, by: By) -> None:
    """Forget a credential, and take it from the users it was assigned to."""

    def change(connection: Connection) -> Credential:
        credential = known_credential(connection, by.caller, WRITE, credential_id)
        by.meets(untold(credential))
        stored.delete_credential(connection, credential_id)
        return credential

    await deps.write(change, touches=_whose)


@router.post("/credentials/{credential_id}/test")
async def test_credential(credential_id: str, deps: Deps, by: By) -> TestOut:
    """Ask its provider whether it takes this credential: one call that costs nothing. What it said is passed on."""
    credential = await deps.read(lambda connection: known_credential(connection, by.caller, WRITE, credential_id))
    return await tested(deps, by.caller, credential)


@router.put("/users/{user_id:path}/credentials/{provider}")
async def assign_credential(user_id: str, provider: str, body: AssignmentIn, deps: Deps, by: By) -> Assignment:
    """Send a user's calls to this provider with one of the operator's credentials instead of the shared one."""

    def change(connection: Connection) -> None:
        _only_operators(connection, by.caller, user_id)
        credential = stored.get_credential(connection, body.credential_id)
        if credential is None or credential.user_id:
            raise invalid("credential_id", f"there is no credential {body.credential_id!r} of the operator's")
        if credential.provider != provider:
            raise invalid("credential_id", f"{body.credential_id} is for {credential.provider}, not for {provider}")
        stored.assign(connection, credential, user_id, deps.now_ns())

    await deps.write(change, touches=lambda _: user_id)
    return Assignment(user_id=user_id, provider=provider, credential_id=body.credential_id)


@router.delete("/users/{user_id:path}/credentials/{provider}", status_code=204)
async def unassign_credential(user_id: str, provider: str, deps: Deps, by: By) -> None:
    """Send a user's calls to this provider with the shared credential again."""

    def change(connection: Connection) -> None:
        _only_operators(connection, by.caller, user_id)
        if not stored.unassign(connection, user_id, provider):
            raise not_found("assignment", provider, f"{user_id!r} was given no credential for it.")

    await deps.write(change, touches=lambda _: user_id)


def _only_operators(connection: Connection, caller: Caller, user_id: str) -> None:
    """Raises Problem: 404 or 403."""
    known_user(connection, caller, Action.READ_USERS, user_id)
    if not reached(caller, WRITE).everybody:
        raise forbidden(caller, WRITE)


def _only_of_its_name(connection: Connection, credential: Credential) -> None:
    """Provider rows name the operator's by name. Raises Problem (409)."""
    if credential.user_id or not credential.name:
        return
    others = [
        other.credential_id
        for other in stored.managed_named(connection, credential.name)
        if other.credential_id != credential.credential_id
    ]
    if others:
        raise _taken("name_taken", f"{others[0]} has this name; choose another", field="name")


def _taken(code: str, why: str, *, field: str = "") -> Problem:
    return Problem(409, code, f"{why[0].upper()}{why[1:]}.", field=field)


def _whose(credential: Credential) -> str | None:
    """Whose part of the directory changed: the user's, or everybody's."""
    return credential.user_id or None

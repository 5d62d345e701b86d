"""One's own credentials for providers: stored, replaced and removed signed in; a virtual key may look at them.

There is one for each provider at most, so they are named by it: storing again replaces what was there.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.credential_shapes import CredentialOut, TestOut, credential_out, untold
from tollhouse.controlplane.credential_tests import tested
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, not_found
from tollhouse.controlplane.shapes import Input, NameText
from tollhouse.controlplane.storing import SecretText, checked, fresh, put_again, put_new, told
from tollhouse.controlplane.visit import By
from tollhouse.storage import credentials as stored
from tollhouse.storage.credential_tables import credentials as table
from tollhouse.terms.credentials import Credential

router = APIRouter(prefix="/api/v1/me/credentials", tags=["me"])

MAX_LISTED = 1_000


class MyCredentialIn(Input):
    secret: SecretText
    name: NameText = ""
    base_url: Annotated[str | None, Field(max_length=2_048)] = None


class MyCredentials(BaseModel):
    items: list[CredentialOut]
    assigned: list[str]
    """Providers for which the operator gave one; calls are sent with it unless the plan says otherwise."""
    providers: list[str]
    """Those for which one can be stored."""
    can_store: bool
    """False: this gateway has no master key, so nothing can be."""


@router.get("")
async def list_mine(deps: Deps, by: By) -> MyCredentials:
    """What the caller stored, and what they could."""
    user_id = by.caller.key.user_id if by.caller.key is not None else by.caller.user_id

    def query(connection: Connection) -> tuple[tuple[Credential, ...], tuple[str, ...]]:
        mine = stored.list_credentials(connection, table.c.user_id == user_id, limit=MAX_LISTED)
        return mine, stored.assigned_to(connection, user_id)

    mine, assigned = await deps.read(query)
    return MyCredentials(
        items=[credential_out(credential) for credential in sorted(mine, key=lambda one: one.provider)],
        assigned=list(assigned),
        providers=_taking(deps),
        can_store=deps.vault.ready,
    )


@router.put("/{provider}")
async def put_mine(provider: str, body: MyCredentialIn, deps: Deps, by: By) -> CredentialOut:
    """Store one's own credential for a provider, in place of the one there was."""
    user_id = _signed_in(by.caller)
    host = deps.providers.host_of(provider)
    if host is None:
        raise not_found("provider", provider, f"Those that take a credential: {', '.join(_taking(deps)) or 'none'}.")
    what = checked(deps, provider, body.secret, body.base_url, host)

    def change(connection: Connection) -> Credential:
        old = stored.own_credential(connection, user_id, provider)
        if old is not None:
            by.meets(untold(old))
            name = body.name if "name" in body.model_fields_set else old.name
            kept = msgspec.structs.replace(old, name=name, created_by=user_id)
            return put_again(connection, deps, told(deps, kept, what), what.secret)
        if stored.count_own(connection, user_id) >= deps.credentials.per_user:
            most = deps.credentials.per_user
            raise Problem(409, "too_many_credentials", f"You have stored {most}, which is the most; remove one first.")
        new = fresh(deps, what, user_id=user_id, name=body.name, created_by=user_id)
        return put_new(connection, deps, new, what.secret)

    credential = await deps.write(change, touches=lambda _: user_id)
    by.tag(untold(credential))
    return credential_out(credential)


@router.delete("/{provider}", status_code=204)
async def remove_mine(provider: str, deps: Deps, by: By) -> None:
    """Forget one's own credential for a provider."""
    user_id = _signed_in(by.caller)

    def change(connection: Connection) -> None:
        credential = _mine(connection, user_id, provider)
        by.meets(untold(credential))
        stored.delete_credential(connection, credential.credential_id)

    await deps.write(change, touches=lambda _: user_id)


@router.post("/{provider}/test")
async def test_mine(provider: str, deps: Deps, by: By) -> TestOut:
    """Ask the provider whether it takes one's credential: one call that costs nothing."""
    user_id = _signed_in(by.caller)
    credential = await deps.read(lambda connection: _mine(connection, user_id, provider))
    return await tested(deps, by.caller, credential)


def _mine(connection: Connection, user_id: str, provider: str) -> Credential:
    credential = stored.own_credential(connection, user_id, provider)
    if credential is None:
        raise not_found("credential", provider, "You have stored none for this provider.")
    return credential


def _signed_in(caller: Caller) -> str:
    if not caller.user_id:
        raise Problem(400, "session_only", "This is about who is signed in; the operator's are at /api/v1/credentials.")
    return caller.user_id


def _taking(deps: ControlDeps) -> list[str]:
    return [row["name"] for row in deps.providers.rows() if deps.providers.host_of(row["name"]) is not None]

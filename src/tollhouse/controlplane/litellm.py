"""LiteLLM's key routes as its users type them: other words for what `/api/v1/keys` and `/api/v1/budgets` do. Those of
users and teams stand in `litellm_people`.

    words      a key's id is its `token`, its name `key_alias`, its hint `key_name`; a secret is `key`, shown once
    budget     `max_budget` is the key's budget in USD; of several, the tightest is told and none is changed
    spend      what stands against that budget, or all the key ever spent where it has none
    deleted    is revoked: the ledger names keys for ever, these routes no longer find it
    money      goes in and out as the exact digits of a JSON number

The Content-Type of a body is not looked at. That is safe because these routes know the owner by the master key in
`Authorization: Bearer` alone, which no web page can make a browser send.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection, select

from tollhouse.controlplane.budgets import new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.keys import new_key_id, new_secret
from tollhouse.controlplane.litellm_fields import (
    DURATIONS,
    NO_BUDGET,
    BlockIn,
    DeleteIn,
    GenerateIn,
    KeyFields,
    UpdateIn,
    budget_text,
    read_fields,
)
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.pausing import pause, resume_key
from tollhouse.controlplane.problems import NO_STORE, Problem, invalid
from tollhouse.controlplane.references import team_there
from tollhouse.controlplane.shapes import Input, NameText
from tollhouse.controlplane.times import iso_ns, iso_s
from tollhouse.controlplane.visit import AS_OWNER
from tollhouse.rules import keys as key_rules
from tollhouse.storage import directory, ledger
from tollhouse.storage.tables import key_secrets, virtual_keys
from tollhouse.storage.teams import get_member, put_member
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, BudgetUnit, BudgetWindow, KeySecret, Membership, Role, VirtualKey

router = APIRouter(prefix="/key", tags=["litellm"])

DEFAULT_USER = "default"
"""Whose a key is when nobody says."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


def takes(shape: type[Input]) -> dict[str, Any]:
    """For the API's description, which cannot see a body that a route reads itself."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/generate", openapi_extra=takes(GenerateIn))
async def generate(request: Request, deps: Deps) -> Response:
    """Create a key, and its user on first mention; takes LiteLLM's fields."""
    fields = await read_fields(request, GenerateIn, minted=True)
    new = new_key(deps, fields, fields.user_id or DEFAULT_USER)
    await deps.write(lambda connection: insert_key(connection, new), touches=lambda key: key.user_id)
    return answer({**told(deps, new.key, new.budgets), "spend": Decimal(0), "key": new.text})


@router.get("/info")
async def info(
    deps: Deps, key: Annotated[NameText, Query(min_length=1, description="Its secret or its id")]
) -> Response:
    """One key in LiteLLM's words, by its secret or its id; the secret is not repeated."""
    await deps.shipped()

    def query(connection: Connection) -> tuple[VirtualKey, tuple[Budget, ...], int]:
        found, budgets = with_budgets(connection, _named(connection, deps, key, field="key"))
        rows = ledger.usage(connection, "key", key_id=found.key_id) if not budgets else ()
        return found, budgets, sum(row.amount_nusd for row in rows)

    found, budgets, spent_nusd = await deps.read(query)
    if budgets:
        spent_nusd = deps.standing.standing(tightest(deps, budgets)).posted
    return answer({"key": found.key_id, "info": {**told(deps, found, budgets), "spend": usd(spent_nusd)}})


@router.post("/update", openapi_extra=takes(UpdateIn))
async def update(request: Request, deps: Deps) -> Response:
    """Change the given fields of a key; effective on its next call. Null removes a limit or the budget.

    The key is named by `key` (its secret or its id), or without that by `key_alias`.
    """
    fields = await read_fields(request, UpdateIn)
    now_ns = deps.now_ns()

    def change(connection: Connection) -> VirtualKey:
        key = _meant(connection, deps, fields)
        writable(key)
        if fields.user_id not in (None, key.user_id):
            raise invalid("user_id", f"this key stays {key.user_id!r}'s; generate another for another user")
        name = key.name if fields.key_alias is None else fields.key_alias
        if name != key.name:
            _alias_is_free(connection, name)
        if fields.team_id is not None:
            join(connection, fields.team_id, key.user_id, Role.MEMBER, now_ns, field="team_id")
        changed = msgspec.structs.replace(
            key,
            name=name,
            team_id=fields.team_id or key.team_id,
            models=key.models if fields.models is None else tuple(fields.models) or None,
            limits=fields.limits().over(key.limits),
            expires_at_ns=fields.expires_at_ns(now_ns) if fields.duration else key.expires_at_ns,
            metadata=fields.labels(key.metadata),
        )
        directory.update_key(connection, changed)
        _change_budget(connection, deps, key, fields)
        return changed

    changed = await deps.write(change, touches=lambda key: key.user_id)
    key, budgets = await deps.read(lambda connection: with_budgets(connection, changed))
    return answer({**told(deps, key, budgets), "key": key.key_id})


@router.post("/delete", openapi_extra=takes(DeleteIn))
async def delete(request: Request, deps: Deps) -> Response:
    """Revoke keys for good, by secret, id (`keys`) or name (`key_aliases`); all of them or, if one is unknown, none."""
    fields = await read_fields(request, DeleteIn)
    names, aliases = fields.keys or [], fields.key_aliases or []
    if not names and not aliases:
        raise invalid("keys", "is empty; name keys by secret or id in `keys`, or by name in `key_aliases`")
    now_ns = deps.now_ns()

    def change(connection: Connection) -> set[str]:
        meant = [_named(connection, deps, name, field=f"keys.{place}") for place, name in enumerate(names)]
        meant += [_called(connection, alias, field=f"key_aliases.{place}") for place, alias in enumerate(aliases)]
        for key in meant:
            directory.revoke_key(connection, key.key_id, now_ns)
        return {key.user_id for key in meant}

    await deps.write(change, touches=lambda users: users.pop() if len(users) == 1 else None)
    return answer({"deleted_keys": [*names, *aliases]})


@router.post("/block", openapi_extra=takes(BlockIn))
async def block(request: Request, deps: Deps) -> Response:
    """Refuse a key, named by its secret or id, until it is unblocked (`tollhouse keys pause`)."""
    fields = await read_fields(request, BlockIn)
    found = await deps.read(lambda connection: _named(connection, deps, fields.key, field="key"))
    await pause(deps, found.key_id, "")
    return await _told_again(deps, found.key_id)


@router.post("/unblock", openapi_extra=takes(BlockIn))
async def unblock(request: Request, deps: Deps) -> Response:
    """Take a blocked key up again."""
    fields = await read_fields(request, BlockIn)
    found = await deps.read(lambda connection: _named(connection, deps, fields.key, field="key"))
    await resume_key(found.key_id, deps, AS_OWNER)
    return await _told_again(deps, found.key_id)


async def _told_again(deps: ControlDeps, key_id: str) -> Response:
    key, budgets = await deps.read(lambda connection: with_budgets(connection, _named(connection, deps, key_id)))
    return answer({**told(deps, key, budgets), "key": key.key_id})


# Making one


class NewKey(msgspec.Struct, frozen=True):
    """A key that is not stored yet; `text` is its secret as a client shows it."""

    key: VirtualKey
    secret: KeySecret
    text: str
    budgets: tuple[Budget, ...]


def new_key(deps: ControlDeps, fields: KeyFields, user_id: str, *, limited: bool = True) -> NewKey:
    """What the fields ask for; without limits and budget where those are its user's. Raises Problem (400)."""
    now_ns = deps.now_ns()
    key_id = new_key_id(deps)
    text, secret = new_secret(deps, key_id)
    key = VirtualKey(
        key_id,
        user_id,
        name=fields.key_alias or "",
        hint=secret.hint,
        models=tuple(fields.models or ()) or None,
        limits=fields.limits().over(NO_LIMITS) if limited else NO_LIMITS,
        metadata=fields.labels({}) if limited else {},
        created_at_ns=now_ns,
        expires_at_ns=fields.expires_at_ns(now_ns),
        team_id=fields.team_id,
    )
    cap = fields.budget_text() if limited else None
    budgets = () if cap is None else (new_budget(deps, cap, ScopeKind.KEY, key_id, field="max_budget"),)
    return NewKey(key, secret, text, budgets)


def insert_key(connection: Connection, new: NewKey) -> VirtualKey:
    """Raises Problem: 400 for a name that is taken or an unknown team, 409 for a blocked user."""
    key = new.key
    user = directory.get_user(connection, key.user_id)
    if user is not None and user.blocked_at_ns is not None:
        raise Problem(409, "user_blocked", f"The user {key.user_id!r} is blocked; unblock them first.", field="user_id")
    _alias_is_free(connection, key.name)
    directory.create_key(connection, key, new.secret)
    if key.team_id is not None:
        join(connection, key.team_id, key.user_id, Role.MEMBER, key.created_at_ns, field="team_id")
    only_new(connection, new.budgets)
    return key


def join(connection: Connection, team_id: str, user_id: str, role: Role, now_ns: int, *, field: str) -> None:
    """Whose calls count toward a team is in it. Raises Problem: 400 for a team that is not there, 409 for one whose
    members a file declares.
    """
    team = team_there(connection, team_id, field=field)
    if get_member(connection, team_id, user_id) is None:
        writable(team)
        put_member(connection, Membership(team_id, user_id, role=role, created_at_ns=now_ns))


# Which key is meant


def _meant(connection: Connection, deps: ControlDeps, fields: UpdateIn) -> VirtualKey:
    if fields.key:
        return _named(connection, deps, fields.key, field="key")
    if fields.key_alias:
        return _called(connection, fields.key_alias, field="key_alias")
    raise invalid("key", "is missing: which key? Name it by its secret or id, or by `key_alias`")


def _named(connection: Connection, deps: ControlDeps, name: str, *, field: str = "") -> VirtualKey:
    """The key of this secret or id. Raises Problem (404), which never repeats what may be a secret."""
    key_id: str | None = name
    if key_rules.is_well_formed(name):
        digest = key_rules.digest(deps.server_secret, name.encode())
        key_id = connection.scalar(select(key_secrets.c.key_id).where(key_secrets.c.digest == digest))
    key = None if key_id is None else directory.get_key(connection, key_id)
    if key is None:
        hint = "Name it by its secret or its id (`token`); `tollhouse keys list` shows those there are."
        raise Problem(404, "not_found", f"There is no such key. {hint}", field=field)
    if key.revoked_at_ns is not None:
        raise Problem(404, "key_revoked", f"The key {key.key_id} was deleted; generate a new one.", field=field)
    return key


def _called(connection: Connection, alias: str, *, field: str) -> VirtualKey:
    """The key of this name. Raises Problem: 404, or 409 where `/api/v1` gave the name more than once."""
    found = _living(connection, alias)
    if not found:
        raise Problem(404, "not_found", f"There is no key named {alias!r}.", field=field)
    if len(found) > 1:
        ids = ", ".join(found)
        raise Problem(
            409, "alias_ambiguous", f"Several keys are named {alias!r} ({ids}); name one by its id.", field=field
        )
    return _alive(directory.get_key(connection, found[0]))


def _alive(key: VirtualKey | None) -> VirtualKey:
    assert key is not None  # its id was read in this transaction
    return key


def _alias_is_free(connection: Connection, alias: str) -> None:
    """LiteLLM's names are unique among keys that are not deleted. Raises Problem (400)."""
    if alias and (found := _living(connection, alias)):
        raise invalid("key_alias", f"the key {found[0]} is named so already; choose another name, or update that key")


def _living(connection: Connection, alias: str) -> Sequence[str]:
    """Ids of the first few keys of this name that are not revoked."""
    column = virtual_keys.c
    wanted = select(column.key_id).where(column.name == alias, column.revoked_at_ns.is_(None))
    return connection.scalars(wanted.order_by(column.key_id).limit(3)).all()


# Budgets


def with_budgets(connection: Connection, key: VirtualKey) -> tuple[VirtualKey, tuple[Budget, ...]]:
    """A key with its budgets in USD."""
    budgets = directory.list_budgets(connection, scope=ScopeKind.KEY, scope_id=key.key_id)
    return key, tuple(budget for budget in budgets if budget.unit is BudgetUnit.USD)


def _change_budget(connection: Connection, deps: ControlDeps, key: VirtualKey, fields: KeyFields) -> None:
    """A new amount keeps what is posted; with a new window another budget begins, at nothing. Raises Problem."""
    given = fields.model_fields_set
    if not given & {"max_budget", "budget_duration"}:
        return
    _, there = with_budgets(connection, key)
    if len(there) > 1:
        ids = ", ".join(budget.budget_id for budget in there)
        raise Problem(
            409,
            "several_budgets",
            f"This key has several budgets in USD ({ids}); change them at /api/v1/budgets.",
            field="max_budget",
        )
    old = there[0] if there else None
    limit_nusd = fields.max_budget if "max_budget" in given or old is None else old.limit
    asked = fields.budget_duration or BudgetWindow.TOTAL
    window = asked if "budget_duration" in given or old is None else old.window
    if limit_nusd is None and fields.budget_duration is not None:
        raise invalid("budget_duration", NO_BUDGET)
    if old is not None and old.window is window and limit_nusd is not None:
        directory.update_budget(connection, msgspec.structs.replace(old, limit=limit_nusd))
        return
    if old is not None:
        directory.delete_budget(connection, old.budget_id)
    if limit_nusd is not None:
        text = budget_text(limit_nusd, window)
        directory.create_budget(connection, new_budget(deps, text, ScopeKind.KEY, key.key_id, field="max_budget"))


def tightest(deps: ControlDeps, budgets: Sequence[Budget]) -> Budget:
    return min(budgets, key=lambda budget: deps.standing.standing(budget).remaining)


# Answers


def told(deps: ControlDeps, key: VirtualKey, budgets: Sequence[Budget]) -> dict[str, Any]:
    """A key in LiteLLM's words; what only LiteLLM has is there, and empty, for clients that read it."""
    budget = tightest(deps, budgets) if budgets else None
    return {
        "token": key.key_id,
        "token_id": key.key_id,
        "key_name": f"sk-...{key.hint}",
        "key_alias": key.name or None,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "models": [] if key.models is None else list(key.models),
        "max_budget": None if budget is None else usd(budget.limit),
        "budget_duration": None if budget is None else DURATIONS[budget.window],
        "budget_reset_at": None if budget is None else iso_s(deps.standing.standing(budget).resets_at_s),
        "rpm_limit": key.limits.requests_per_minute,
        "tpm_limit": key.limits.tokens_per_minute,
        "max_parallel_requests": key.limits.parallel_requests,
        "expires": iso_ns(key.expires_at_ns),
        "blocked": key.paused_at_ns is not None,
        "metadata": key.metadata,
        "aliases": {},
        "permissions": {},
        "config": {},
        "created_at": iso_ns(key.created_at_ns),
    }


def usd(amount_nusd: int) -> Decimal:
    return Decimal(decimal_usd(amount_nusd))


def answer(body: dict[str, Any]) -> Response:
    return Response(_encode(body), 200, NO_STORE, "application/json")

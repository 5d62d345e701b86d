"""Virtual keys. A key's secret appears once, in the answer that made it; what is stored is its keyed hash."""

from typing import Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from tollhouse.controlplane.budgets import BudgetOut, budgets_out, new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, invalid, not_found
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    MAX_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    LimitsIn,
    LimitsOut,
    MetadataIn,
    ModelGlobs,
    NameText,
    Page,
    UserIdText,
    cursor_position,
    cut,
    limits_out,
)
from tollhouse.controlplane.times import NS_PER_S, iso_ns, parse_duration_s, parse_instant_s
from tollhouse.rules import keys as key_rules
from tollhouse.storage import directory
from tollhouse.storage.tables import virtual_keys
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, KeySecret, VirtualKey

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

MAX_GRACE_S = 30 * 86_400
"""How long a rotated secret may go on working."""
_ID_BYTES = 10


class KeyIn(Input):
    user_id: UserIdText = Field(description="Whose key; the user is created on first mention")
    name: NameText = ""
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    budget: str | None = Field(None, max_length=100, description="A hard cap such as `20/month` or `1M tokens/day`")
    expires: str | None = Field(None, max_length=64, description="`30d`, `2026-12-31`, a time with zone, or `never`")
    metadata: MetadataIn


class KeyPatch(Input):
    """Only the fields that are given change; `models: null` admits every model; `metadata` is replaced as a whole."""

    name: NameText = ""
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    expires: str | None = Field(None, max_length=64)
    metadata: MetadataIn


class RotateIn(Input):
    grace: str = Field("0", max_length=20, description="How long the old secret still works, such as `1h`")


class KeyOut(BaseModel):
    key_id: str
    name: str
    user_id: str
    hint: str
    """The last characters of the secret's random part, to recognise it by."""
    status: str
    """active | expired | revoked"""
    models: list[str] | None
    limits: LimitsOut
    metadata: dict[str, Any]
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None


class SecretOut(BaseModel):
    hint: str
    created_at: str | None
    expires_at: str | None


class KeyDetail(KeyOut):
    budgets: list[BudgetOut]
    secrets: list[SecretOut]


class KeyWithSecret(KeyDetail):
    key: str
    """The key itself, as a client shows it: only here."""


def key_out(key: VirtualKey, now_ns: int) -> KeyOut:
    expired = key.expires_at_ns is not None and key.expires_at_ns <= now_ns
    return KeyOut(
        key_id=key.key_id,
        name=key.name,
        user_id=key.user_id,
        hint=key.hint,
        status="revoked" if key.revoked_at_ns is not None else "expired" if expired else "active",
        models=None if key.models is None else list(key.models),
        limits=limits_out(key.limits),
        metadata=key.metadata,
        created_at=iso_ns(key.created_at_ns),
        expires_at=iso_ns(key.expires_at_ns),
        revoked_at=iso_ns(key.revoked_at_ns),
    )


def _known(connection: Connection, key_id: str, *, alive: bool = False) -> VirtualKey:
    """Raises Problem: 404, or 409 for a revoked key that should be changed."""
    key = directory.get_key(connection, key_id)
    if key is None:
        raise not_found("key", key_id, "`tollhouse keys list` shows those there are.")
    if alive and key.revoked_at_ns is not None:
        raise Problem(409, "key_revoked", f"The key {key_id} was revoked for good; create a new one instead.")
    return key


def expiry_ns(text: str | None, now_ns: int) -> int | None:
    """When a key ends, as somebody wrote it; None is never. Raises Problem (400)."""
    if text is None or text.strip().lower() == "never":
        return None
    now_s = now_ns // NS_PER_S
    try:
        at_s = parse_instant_s(text, now_s, ahead=True)
    except ValueError as error:
        raise invalid("expires", str(error)) from error
    if at_s <= now_s:
        raise invalid("expires", f"{text} is past; revoke the key to end it now")
    return at_s * NS_PER_S


def new_key_id(deps: ControlDeps) -> str:
    return f"key_{deps.random_bytes(_ID_BYTES).hex()}"


def new_secret(deps: ControlDeps, key_id: str) -> tuple[str, KeySecret]:
    """A secret as a client shows it, and as it is stored."""
    text = key_rules.mint(deps.random_bytes(key_rules.RANDOM_BYTES))
    digest = key_rules.digest(deps.server_secret, text.encode())
    return text, KeySecret(digest, key_id, hint=key_rules.hint(text), created_at_ns=deps.now_ns())


@router.post("", status_code=201)
async def create_key(body: KeyIn, deps: Deps) -> KeyWithSecret:
    """Create a key. The answer is the only place its secret ever appears."""
    now_ns = deps.now_ns()
    key_id = new_key_id(deps)
    text, secret = new_secret(deps, key_id)
    key = VirtualKey(
        key_id,
        body.user_id,
        name=body.name,
        hint=secret.hint,
        models=None if body.models is None else tuple(body.models),
        limits=body.limits.over(NO_LIMITS),
        metadata=body.metadata,
        created_at_ns=now_ns,
        expires_at_ns=expiry_ns(body.expires, now_ns),
    )
    budgets = () if body.budget is None else (new_budget(deps, body.budget, ScopeKind.KEY, key_id),)

    def change(connection: Connection) -> str:
        user = directory.get_user(connection, body.user_id)
        if user is not None and user.blocked_at_ns is not None:
            raise Problem(
                409, "user_blocked", f"The user {body.user_id!r} is blocked; unblock them first.", field="user_id"
            )
        directory.create_key(connection, key, secret)
        only_new(connection, budgets)
        return body.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await _with_secret(deps, key_id, text)


@router.get("")
async def list_keys(
    deps: Deps,
    user: str | None = Query(None, description="Only this user's"),
    name: str | None = Query(None, description="Only those of exactly this name"),
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[KeyOut]:
    """Keys by id, revoked ones too."""
    after = cursor_position(cursor)

    def query(connection: Connection) -> tuple[VirtualKey, ...]:
        if name is None:
            return directory.list_keys(connection, user_id=user, cursor=after, limit=limit + 1)
        return _named(connection, name, user, after, limit + 1)

    rows = await deps.read(query)
    page, next_cursor = cut(rows, limit, lambda key: key.key_id)
    now_ns = deps.now_ns()
    return Page(items=[key_out(key, now_ns) for key in page], next_cursor=next_cursor)


def _named(connection: Connection, name: str, user: str | None, after: str, limit: int) -> tuple[VirtualKey, ...]:
    column = virtual_keys.c
    wanted = [column.name == name, column.key_id > after]
    if user is not None:
        wanted.append(column.user_id == user)
    ids = select(column.key_id).where(*wanted).order_by(column.key_id).limit(limit)
    found = [directory.get_key(connection, key_id) for key_id in connection.scalars(ids).all()]
    return tuple(key for key in found if key is not None)


@router.get("/{key_id}")
async def get_key(key_id: str, deps: Deps) -> KeyDetail:
    """One key with its secrets' hints and what is left of its budgets."""

    def query(connection: Connection) -> tuple[VirtualKey, tuple[KeySecret, ...], tuple[Budget, ...]]:
        key = _known(connection, key_id)
        budgets = directory.list_budgets(connection, scope=ScopeKind.KEY, scope_id=key_id)
        return key, directory.list_secrets(connection, key_id), budgets

    key, secrets, budgets = await deps.read(query)
    shown = [
        SecretOut(hint=one.hint, created_at=iso_ns(one.created_at_ns), expires_at=iso_ns(one.expires_at_ns))
        for one in secrets[-MAX_PAGE:]
    ]
    out = key_out(key, deps.now_ns())
    return KeyDetail(**out.model_dump(), budgets=await budgets_out(deps, budgets), secrets=shown)


@router.patch("/{key_id}")
async def edit_key(key_id: str, body: KeyPatch, deps: Deps) -> KeyDetail:
    """Change a key; effective on its next call."""
    given = body.model_fields_set
    expires_at_ns = expiry_ns(body.expires, deps.now_ns())

    def change(connection: Connection) -> str:
        key = _known(connection, key_id, alive=True)
        key = msgspec.structs.replace(
            key,
            name=body.name if "name" in given else key.name,
            models=(body.models and tuple(body.models)) if "models" in given else key.models,
            limits=body.limits.over(key.limits),
            expires_at_ns=expires_at_ns if "expires" in given else key.expires_at_ns,
            metadata=body.metadata if "metadata" in given else key.metadata,
        )
        directory.update_key(connection, key)
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await get_key(key_id, deps)


@router.post("/{key_id}/rotate")
async def rotate_key(key_id: str, deps: Deps, body: RotateIn | None = None) -> KeyWithSecret:
    """Give the key a new secret; the old one works until `grace` is over."""
    grace_s = _grace_s((body or RotateIn()).grace)
    text, secret = new_secret(deps, key_id)

    def change(connection: Connection) -> str:
        key = _known(connection, key_id, alive=True)
        directory.add_secret(connection, secret, others_expire_at_ns=deps.now_ns() + grace_s * NS_PER_S)
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await _with_secret(deps, key_id, text)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, deps: Deps) -> KeyDetail:
    """Revoke a key for good; its next call is refused. The ledger keeps what it did."""

    def change(connection: Connection) -> str:
        key = _known(connection, key_id)
        directory.revoke_key(connection, key_id, deps.now_ns())
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await get_key(key_id, deps)


def _grace_s(text: str) -> int:
    try:
        grace_s = parse_duration_s(text)
    except ValueError as error:
        raise invalid("grace", str(error)) from error
    if grace_s > MAX_GRACE_S:
        raise invalid("grace", f"is at most {MAX_GRACE_S // 86_400} days; edit the key's expiry for more")
    return grace_s


async def _with_secret(deps: ControlDeps, key_id: str, text: str) -> KeyWithSecret:
    detail = await get_key(key_id, deps)
    return KeyWithSecret(**detail.model_dump(), key=text)

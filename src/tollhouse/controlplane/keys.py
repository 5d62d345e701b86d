"""Virtual keys. A key's secret appears once, in the answer that made it; what is stored is its keyed hash.

A member makes keys for themselves, which their own limits, plan and budgets hold over as over all their calls; on a key
that is there they may narrow what it admits, never widen it. Who leads a team does it for the keys that count toward
the team, its members' only. Plans are given to keys by who gives plans.

Who shows a key is its user, also to applications that ask `/authz`: a secret of an owner's or admin's key is for
themselves and for owners.
"""

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Query
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.budgets import budgets_out, new_budget, only_new
from tollhouse.controlplane.contents import captured_for
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.key_shapes import (
    KeyDetail,
    KeyIn,
    KeyOut,
    KeyPatch,
    KeyWithSecret,
    RotateIn,
    SecretOut,
    key_out,
)
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.references import member_of, plan_there
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    MAX_PAGE,
    CursorQuery,
    LimitQuery,
    Page,
    cursor_position,
    cut,
)
from tollhouse.controlplane.tenancy import known_key, known_user, reached, tenant_of_key
from tollhouse.controlplane.times import NS_PER_S, iso_ns, parse_duration_s, parse_instant_s
from tollhouse.controlplane.visit import By, Visit
from tollhouse.rules import keys as key_rules
from tollhouse.rules.narrowing import widened
from tollhouse.rules.roles import Action, may_give
from tollhouse.storage import directory, filters
from tollhouse.storage.tables import virtual_keys
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, KeySecret, Role, User, VirtualKey

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

MAX_GRACE_S = 30 * 86_400
"""How long a rotated secret may go on working."""
_ID_BYTES = 10


def alive(connection: Connection, by: Visit, key_id: str) -> VirtualKey:
    """A key that is to be changed. Raises Problem: 404, 403, 412, or 409 for a revoked one."""
    key = known_key(connection, by.caller, Action.WRITE_KEYS, key_id)
    by.meets(key)
    if key.revoked_at_ns is not None:
        raise Problem(409, "key_revoked", f"The key {key_id} was revoked for good; create a new one instead.")
    return key


def _may_carry(connection: Connection, caller: Caller, key: VirtualKey, old: VirtualKey | None = None) -> None:
    """Whether the caller may have a key be so: its team and plan are there, and theirs to give. Raises Problem."""
    team_before, plan_before = (None, None) if old is None else (old.team_id, old.plan_id)
    if key.team_id != team_before:
        member_of(connection, key.team_id, key.user_id)
    if key.plan_id != plan_before:
        if not reached(caller, Action.WRITE_PLANS).everybody:
            raise Problem(403, "forbidden", "Who gives plans gives them to keys too: ask an admin.", field="plan_id")
        plan_there(connection, key.plan_id)
    if tenant_of_key(connection, key) not in reached(caller, Action.WRITE_KEYS):
        raise Problem(403, "forbidden", "That key would not count toward a team of yours: name one.", field="team_id")


def _secret_for(connection: Connection, deps: ControlDeps, caller: Caller, user: User) -> None:
    """Whether the caller may be told a secret of this user's, and one more. Raises Problem: 403 or 409."""
    above = user.role in (Role.OWNER, Role.ADMIN) and user.user_id != caller.user_id
    if above and not may_give(caller.role, user.role):
        raise Problem(403, "forbidden", f"Only an owner, and they themselves, make keys of an {user.role}.")
    everybody = reached(caller, Action.WRITE_KEYS).everybody
    if not everybody and directory.count_secrets(connection, user.user_id) >= deps.options.secrets_of_user:
        raise Problem(409, "too_many_keys", f"{user.user_id} has had too many keys (management.secrets_of_user).")


def only_narrower(connection: Connection, caller: Caller, old: VirtualKey, new: VirtualKey) -> None:
    """Who has a key only as its user does not take off it what others put on it. Raises Problem (403)."""
    theirs = reached(caller, Action.WRITE_KEYS)
    if theirs.everybody or not theirs.team_ids.isdisjoint(tenant_of_key(connection, old).team_ids):
        return
    field = widened(old, new)
    if field:
        raise Problem(
            403, "forbidden", f"{field}: you may narrow your key, not widen it; make a new one or ask.", field=field
        )


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


def new_key_id(deps: ControlDeps, prefix: str = "key_") -> str:
    return f"{prefix}{deps.random_bytes(_ID_BYTES).hex()}"


def new_secret(deps: ControlDeps, key_id: str) -> tuple[str, KeySecret]:
    """A secret as a client shows it, and as it is stored."""
    text = key_rules.mint(deps.random_bytes(key_rules.RANDOM_BYTES))
    digest = key_rules.digest(deps.server_secret, text.encode())
    return text, KeySecret(digest, key_id, hint=key_rules.hint(text), created_at_ns=deps.now_ns())


@router.post("", status_code=201)
async def post_key(body: KeyIn, deps: Deps, by: By) -> KeyWithSecret:
    """Create a key. The answer is the only place its secret ever appears."""
    return await create_key(body, deps, by)


async def create_key(
    body: KeyIn,
    deps: ControlDeps,
    by: Visit,
    *,
    id_prefix: str = "key_",
    before: Callable[[Connection], None] = lambda _connection: None,
) -> KeyWithSecret:
    """Create a key whose id begins so. `before` runs in its transaction once the caller may make it. Raises Problem."""
    now_ns, caller = deps.now_ns(), by.caller
    user_id = body.user_id or caller.user_id
    if not user_id:
        raise invalid("user_id", "is missing")
    key_id = new_key_id(deps, id_prefix)
    text, secret = new_secret(deps, key_id)
    key = VirtualKey(
        key_id,
        user_id,
        name=body.name,
        hint=secret.hint,
        models=None if body.models is None else tuple(body.models),
        limits=body.limits.over(NO_LIMITS),
        metadata=body.metadata,
        created_at_ns=now_ns,
        expires_at_ns=expiry_ns(body.expires, now_ns),
        team_id=body.team_id,
        plan_id=body.plan_id,
        capture_days=captured_for(deps, body.capture_days),
    )
    budgets = () if body.budget is None else (new_budget(deps, body.budget, ScopeKind.KEY, key_id),)

    def change(connection: Connection) -> None:
        user = directory.get_user(connection, user_id)
        if user is not None or not reached(caller, Action.WRITE_KEYS).everybody:
            user = known_user(connection, caller, Action.READ_USERS, user_id)
            if user.blocked_at_ns is not None:
                raise Problem(
                    409, "user_blocked", f"The user {user_id!r} is blocked; unblock them first.", field="user_id"
                )
        _may_carry(connection, caller, key)
        before(connection)
        if user is not None:
            _secret_for(connection, deps, caller, user)
        directory.create_key(connection, key, secret)
        only_new(connection, budgets)

    await deps.write(change, touches=lambda _: user_id)
    return await _with_secret(deps, by, key_id, text)


@router.get("")
async def list_keys(
    deps: Deps,
    by: By,
    user: str | None = Query(None, max_length=256, description="Only this user's"),
    name: str | None = Query(None, max_length=256, description="Only those of exactly this name"),
    team: str | None = Query(None, max_length=256, description="Only those that count toward this team"),
    plan: str | None = Query(None, max_length=256, description="Only those that were given this plan"),
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[KeyOut]:
    """Keys by id, revoked ones too: those the caller may know of."""
    after = cursor_position(cursor)
    wanted = filters.keys_of(reached(by.caller, Action.READ_KEYS))
    if name is not None:
        wanted.append(virtual_keys.c.name == name)
    if team is not None:
        wanted.append(filters.counts_toward(frozenset((team,))))
    if plan is not None:
        wanted.append(virtual_keys.c.plan_id == plan)
    rows = await deps.read(
        lambda connection: directory.list_keys(connection, *wanted, user_id=user, cursor=after, limit=limit + 1)
    )
    page, next_cursor = cut(rows, limit, lambda key: key.key_id)
    now_ns = deps.now_ns()
    return Page(items=[key_out(key, now_ns) for key in page], next_cursor=next_cursor)


@router.get("/{key_id}")
async def get_key(key_id: str, deps: Deps, by: By) -> KeyDetail:
    """One key with its secrets' hints and what is left of its budgets."""

    def query(connection: Connection) -> tuple[VirtualKey, tuple[KeySecret, ...], tuple[Budget, ...]]:
        key = known_key(connection, by.caller, Action.READ_KEYS, key_id)
        budgets = directory.list_budgets(connection, scope=ScopeKind.KEY, scope_id=key_id)
        return key, directory.list_secrets(connection, key_id), budgets

    key, secrets, budgets = await deps.read(query)
    by.tag(key)
    shown = [
        SecretOut(hint=one.hint, created_at=iso_ns(one.created_at_ns), expires_at=iso_ns(one.expires_at_ns))
        for one in secrets[-MAX_PAGE:]
    ]
    out = key_out(key, deps.now_ns())
    return KeyDetail(**out.model_dump(), budgets=await budgets_out(deps, budgets), secrets=shown)


@router.patch("/{key_id}")
async def edit_key(key_id: str, body: KeyPatch, deps: Deps, by: By) -> KeyDetail:
    """Change a key; effective on its next call."""
    given = body.model_fields_set
    expires_at_ns = expiry_ns(body.expires, deps.now_ns())
    capture_days = captured_for(deps, body.capture_days)

    def change(connection: Connection) -> str:
        key = alive(connection, by, key_id)
        writable(key)
        after = msgspec.structs.replace(
            key,
            team_id=body.team_id if "team_id" in given else key.team_id,
            plan_id=body.plan_id if "plan_id" in given else key.plan_id,
            name=body.name if "name" in given else key.name,
            models=(body.models and tuple(body.models)) if "models" in given else key.models,
            limits=body.limits.over(key.limits),
            expires_at_ns=expires_at_ns if "expires" in given else key.expires_at_ns,
            metadata=body.metadata if "metadata" in given else key.metadata,
            capture_days=capture_days if "capture_days" in given else key.capture_days,
        )
        _may_carry(connection, by.caller, after, key)
        only_narrower(connection, by.caller, key, after)
        directory.update_key(connection, after)
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await get_key(key_id, deps, by)


@router.post("/{key_id}/rotate")
async def rotate_key(key_id: str, deps: Deps, by: By, body: RotateIn | None = None) -> KeyWithSecret:
    """Give the key a new secret; the old one works until `grace` is over."""
    grace_s = _grace_s((body or RotateIn()).grace)
    text, secret = new_secret(deps, key_id)

    def change(connection: Connection) -> str:
        key = alive(connection, by, key_id)
        user = directory.get_user(connection, key.user_id)
        assert user is not None
        _secret_for(connection, deps, by.caller, user)
        directory.add_secret(connection, secret, others_expire_at_ns=deps.now_ns() + grace_s * NS_PER_S)
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await _with_secret(deps, by, key_id, text)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, deps: Deps, by: By) -> KeyDetail:
    """Revoke a key for good; its next call is refused. The ledger keeps what it did."""

    def change(connection: Connection) -> str:
        key = known_key(connection, by.caller, Action.WRITE_KEYS, key_id)
        by.meets(key)
        directory.revoke_key(connection, key_id, deps.now_ns())
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await get_key(key_id, deps, by)


def _grace_s(text: str) -> int:
    try:
        grace_s = parse_duration_s(text)
    except ValueError as error:
        raise invalid("grace", str(error)) from error
    if grace_s > MAX_GRACE_S:
        raise invalid("grace", f"is at most {MAX_GRACE_S // 86_400} days; edit the key's expiry for more")
    return grace_s


async def _with_secret(deps: ControlDeps, by: Visit, key_id: str, text: str) -> KeyWithSecret:
    detail = await get_key(key_id, deps, by)
    return KeyWithSecret(**detail.model_dump(), key=text)

"""Webhooks: who is told of notices, signed with a secret that appears once, in the answer that made it."""

import secrets as randomness
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, invalid, not_found
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    NameText,
    Page,
    cursor_position,
    cut,
)
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.events.signature import MAX_BYTES, new_secret, secret_bytes
from tollhouse.rules.webhook_urls import MAX_URL_CHARS
from tollhouse.storage import notices as noted
from tollhouse.storage import webhooks as stored
from tollhouse.terms.errors import VaultError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.webhooks import (
    DECLARED_PREFIX,
    EVERYTHING,
    HOOK_PREFIX,
    Delivery,
    DeliveryState,
    RecordedNotice,
    Webhook,
    wants,
)

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

_ID_BYTES = 10
_MAX_SECRET_CHARS = 2 * MAX_BYTES


def _known_kind(glob: str) -> str:
    if not any(wants((glob,), kind.value) for kind in NoticeKind):
        raise ValueError(f"matches no kind of notice; there are {', '.join(kind.value for kind in NoticeKind)}")
    return glob


KindGlob = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_known_kind)]
KindGlobs = Annotated[list[KindGlob], Field(min_length=1, max_length=50)]
UrlText = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS)]
SecretText = Annotated[str, Field(max_length=_MAX_SECRET_CHARS)]


class WebhookIn(Input):
    url: UrlText
    name: NameText = ""
    kinds: KindGlobs | None = Field(None, description="Globs such as `budget.*`; all kinds when missing")
    enabled: bool = True
    secret: SecretText | None = Field(
        None, description="`whsec_…`; a new one is made when missing. Empty: the webhook is off"
    )


class WebhookPatch(Input):
    """Only the fields that are given change; `kinds: null` is all kinds, an empty `secret` switches the webhook off."""

    url: UrlText = ""
    name: NameText = ""
    kinds: KindGlobs | None = None
    enabled: bool = True
    secret: SecretText = ""


class WebhookOut(BaseModel):
    webhook_id: str
    url: str
    name: str
    kinds: list[str]
    enabled: bool
    status: str
    """on | off | no_secret | gone (its receiver answered 410, which switched it off)"""
    hint: str
    """The last characters of its secret."""
    declared: bool
    """It stands in the settings, which alone change it."""
    created_by: str
    created_at: str | None
    gone_at: str | None


class WebhookWithSecret(WebhookOut):
    secret: str
    """What its messages are signed with: only here. Empty where it was given none."""


class DeliveryOut(BaseModel):
    webhook_id: str
    notice_id: str
    """The `webhook-id` of the message."""
    kind: str
    state: str
    """pending | delivered | dead"""
    attempts: int
    created_at: str | None
    next_at: str | None
    """When it is tried next; null when it is not."""
    ended_at: str | None
    status: int
    """What the receiver answered last; 0: nothing."""
    error: str


def webhook_out(hook: Webhook) -> WebhookOut:
    return WebhookOut(
        webhook_id=hook.webhook_id,
        url=hook.url,
        name=hook.name,
        kinds=list(hook.kinds),
        enabled=hook.enabled,
        status=_status(hook),
        hint=hook.hint,
        declared=hook.webhook_id.startswith(DECLARED_PREFIX),
        created_by=hook.created_by,
        created_at=iso_ns(hook.created_at_ns) if hook.created_at_ns else None,
        gone_at=iso_ns(hook.gone_at_ns),
    )


def _status(hook: Webhook) -> str:
    if hook.gone_at_ns is not None:
        return "gone"
    if not hook.enabled:
        return "off"
    return "on" if hook.hint else "no_secret"


def delivery_out(delivery: Delivery) -> DeliveryOut:
    pending = delivery.state is DeliveryState.PENDING
    return DeliveryOut(
        webhook_id=delivery.webhook_id,
        notice_id=delivery.notice_id,
        kind=delivery.kind,
        state=delivery.state.value,
        attempts=delivery.attempts,
        created_at=iso_ns(delivery.created_at_ns),
        next_at=iso_ns(delivery.next_at_ns) if pending else None,
        ended_at=iso_ns(delivery.ended_at_ns),
        status=delivery.status,
        error=delivery.error,
    )


def _open(hook: Webhook) -> Webhook:
    """What may be told of it: without the envelope of its secret."""
    return msgspec.structs.replace(hook, sealed=b"", sealed_under=0)


def _known(connection: Connection, deps: ControlDeps, webhook_id: str) -> Webhook:
    """Raises Problem (404)."""
    declared = {hook.webhook_id: hook for hook in deps.hooks.declared}
    hook = declared.get(webhook_id) or stored.get_webhook(connection, webhook_id)
    if hook is None:
        raise not_found("webhook", webhook_id, "`tollhouse webhooks list` shows those there are.")
    return hook


def _writable(connection: Connection, deps: ControlDeps, by: By, webhook_id: str) -> Webhook:
    """Raises Problem: 404, 409 for one of the settings, 412."""
    hook = _known(connection, deps, webhook_id)
    if webhook_id.startswith(DECLARED_PREFIX):
        raise Problem(409, "declared", "This webhook stands in the settings of the server; it is changed there.")
    by.meets(_open(hook))
    return hook


def _checked_url(deps: ControlDeps, url: str) -> str:
    try:
        return deps.hooks.check_url(url)
    except ValueError as error:
        raise invalid("url", str(error)) from None


def _sealed(deps: ControlDeps, hook: Webhook, secret: str) -> Webhook:
    """With this secret; with none, it is off. Raises Problem: 400, or 409 where nothing can be stored."""
    if not secret:
        return msgspec.structs.replace(hook, hint="", sealed=b"", sealed_under=0)
    try:
        secret_bytes(secret)
        sealed, under = deps.hooks.seal(hook.webhook_id, secret)
    except ValueError as error:
        raise invalid("secret", str(error)) from None
    except VaultError as error:
        raise Problem(409, "no_vault", f"The secret cannot be stored: {error}.") from None
    return msgspec.structs.replace(hook, hint=secret[-4:], sealed=sealed, sealed_under=under)


@router.post("", status_code=201)
async def create_webhook(body: WebhookIn, deps: Deps, by: By) -> WebhookWithSecret:
    """Have notices sent to an address. The answer is the only place where the secret ever appears."""
    secret = new_secret() if body.secret is None else body.secret
    hook = Webhook(
        f"{HOOK_PREFIX}{deps.random_bytes(_ID_BYTES).hex()}",
        _checked_url(deps, body.url),
        name=body.name,
        kinds=tuple(body.kinds or EVERYTHING),
        enabled=body.enabled,
        created_by=by.caller.user_id,
        created_at_ns=deps.now_ns(),
    )

    def change(connection: Connection) -> Webhook:
        if stored.count_webhooks(connection) >= deps.hooks.max_webhooks:
            raise Problem(
                409, "too_many_webhooks", "There are as many webhooks as there may be (notices.max_webhooks)."
            )
        # Sealed in the transaction, so that whoever counts envelopes there counts this one.
        sealed = _sealed(deps, hook, secret)
        stored.create_webhook(connection, sealed)
        return sealed

    hook = await deps.write(change, touches=lambda _: _NOBODY)
    by.tag(_open(hook))
    return WebhookWithSecret(**webhook_out(hook).model_dump(), secret=secret)


_NOBODY = ""
"""Whose part of the directory changed: nobody's."""


@router.get("")
async def list_webhooks(deps: Deps, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_PAGE) -> Page[WebhookOut]:
    """Webhooks by id. Those of the settings come first, on the first page."""
    after = cursor_position(cursor)
    rows = await deps.read(lambda connection: stored.list_webhooks(connection, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda hook: hook.webhook_id)
    declared = () if after else deps.hooks.declared
    return Page(items=[webhook_out(hook) for hook in (*declared, *page)], next_cursor=next_cursor)


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: str, deps: Deps, by: By) -> WebhookOut:
    hook = await deps.read(lambda connection: _known(connection, deps, webhook_id))
    by.tag(_open(hook))
    return webhook_out(hook)


@router.patch("/{webhook_id}")
async def edit_webhook(webhook_id: str, body: WebhookPatch, deps: Deps, by: By) -> WebhookOut:
    """Change a webhook; what it is owed already goes to the new address. Switched on again, it is not gone any more."""
    given = body.model_fields_set
    url = _checked_url(deps, body.url) if "url" in given else ""

    def change(connection: Connection) -> None:
        hook = _writable(connection, deps, by, webhook_id)
        after = msgspec.structs.replace(
            hook,
            url=url or hook.url,
            name=body.name if "name" in given else hook.name,
            kinds=tuple(body.kinds or EVERYTHING) if "kinds" in given else hook.kinds,
            enabled=body.enabled if "enabled" in given else hook.enabled,
        )
        if after.enabled and "enabled" in given:
            after = msgspec.structs.replace(after, gone_at_ns=None)
        stored.update_webhook(connection, _sealed(deps, after, body.secret) if "secret" in given else after)

    await deps.write(change, touches=lambda _: _NOBODY)
    return await get_webhook(webhook_id, deps, by)


@router.delete("/{webhook_id}")
async def delete_webhook(webhook_id: str, deps: Deps, by: By) -> WebhookOut:
    """Tell this address nothing more; what it is owed is forgotten. The answer is what it was."""

    def change(connection: Connection) -> Webhook:
        hook = _writable(connection, deps, by, webhook_id)
        stored.delete_webhook(connection, webhook_id)
        return hook

    return webhook_out(await deps.write(change, touches=lambda _: _NOBODY))


@router.post("/{webhook_id}/test")
async def test_webhook(webhook_id: str, deps: Deps, by: By) -> DeliveryOut:
    """Send a notice of the kind `test` to this webhook alone. The answer tells how that went; where the receiver did
    not take it, it is tried again like any other.
    """
    at_ns = deps.now_ns()
    notice_id = f"ntc_{at_ns // 1_000_000:011x}{randomness.token_hex(8)}"

    def change(connection: Connection) -> None:
        hook = _known(connection, deps, webhook_id)
        if not deps.hooks.running:
            raise Problem(503, "no_server", "Nothing is sent where no server runs: start `tollhouse serve`.")
        if not hook.on:
            why = "has no secret, so nothing is sent" if hook.enabled else "is off"
            raise Problem(409, "webhook_off", f"The webhook {webhook_id} {why}.")
        notice = Notice(NoticeKind.TEST, f"webhook {webhook_id}", "This is a test.", at_ns=at_ns)
        noted.record_test(connection, RecordedNotice(notice_id, notice), webhook_id)

    await deps.write(change, touches=lambda _: _NOBODY)
    await deps.hooks.tried(webhook_id, notice_id)
    delivery = await deps.read(lambda connection: noted.get_delivery(connection, webhook_id, notice_id))
    if delivery is None:
        raise not_found("webhook", webhook_id, "It was removed meanwhile.")
    return delivery_out(delivery)


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str,
    deps: Deps,
    state: Annotated[DeliveryState | None, Query(description="Only those that stand so")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[DeliveryOut]:
    """What was sent to a webhook and what it is owed, newest first."""
    after = cursor_position(cursor)

    def query(connection: Connection) -> tuple[Delivery, ...]:
        _known(connection, deps, webhook_id)
        return noted.list_deliveries(connection, webhook_id, state=state, cursor=after, limit=limit + 1)

    page, next_cursor = cut(await deps.read(query), limit, lambda one: one.notice_id)
    return Page(items=[delivery_out(one) for one in page], next_cursor=next_cursor)

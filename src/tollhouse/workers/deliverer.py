"""Delivers what is owed to webhooks, at least once and always under the same id, until a receiver takes it or it is
too old.

    taken       answered 2xx: delivered
    not taken   tried again after `first_retry_s`, twice that, … `last_retry_s` (later, where the receiver asks for it
                by Retry-After), until it is `give_up_s` old: then it is dead, and stays to be seen
    gone        answered 410: the webhook is switched off and what it is owed is dead
    no answer   the receiver is left alone until the next try of this one; its other deliveries wait with it

One message at a time goes to a receiver, oldest first, so order is kept where nothing fails; `parallel` receivers are
sent to at once, so a slow one holds up nobody else. All of it stands in the database: a killed process goes on where
it was, and what it was just sending is sent again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection

from tollhouse.events import Outcome
from tollhouse.events.message import body_of
from tollhouse.events.signature import signed_headers
from tollhouse.storage import notices as stored
from tollhouse.storage.database import Database
from tollhouse.storage.notices import Owed
from tollhouse.storage.webhooks import all_webhooks, get_webhook, update_webhook
from tollhouse.terms.errors import StorageError, VaultError
from tollhouse.terms.webhooks import Delivery, DeliveryState, Webhook
from tollhouse.workers.tending import tend

BATCH: Final = 20
"""Deliveries of one webhook that are read at once."""
RETRY_S: Final = 1.0
"""After the database failed."""
LONGEST_SLEEP_S: Final = 60.0
GONE: Final = 410
_NS_PER_S: Final = 1_000_000_000
_PENDING, _DELIVERED, _DEAD = DeliveryState

_log = logging.getLogger("tollhouse.webhooks")


class DelivererOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings under `notices`."""

    parallel: int = 8
    first_retry_s: float = 5.0
    last_retry_s: float = 3_600.0
    give_up_s: float = 86_400.0


class Sender(Protocol):
    """The way to receivers; `events.Poster` is one."""

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome: ...


class Deliverer:
    """One per process, in the event loop's thread.

    secret_of  the bytes that sign for a webhook. Raises ValueError or VaultError with what is wrong
    declared   webhooks of the settings
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        secret_of: Callable[[Webhook], bytes],
        declared: Iterable[Webhook],
        options: DelivererOptions,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._database = database
        self._sender = sender
        self._secret_of = secret_of
        self._declared = {hook.webhook_id: hook for hook in declared}
        self._options = options
        self._now_ns = now_ns
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(options.parallel)
        self._rounds: dict[str, asyncio.Task[None]] = {}
        """By webhook: its deliveries that are being sent."""
        self._rests: dict[str, int] = {}
        """Webhooks that did not answer, and when they are asked again (wall clock, ns)."""
        self._tried: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.delivered = 0
        self.failed = 0
        """Tries since the start that were taken, and that were not."""

    def start(self) -> None:
        self._wake.set()
        self._task = tend(self._run, "deliverer")

    async def stop(self) -> None:
        """End at once: what was being sent is sent again by the next process."""
        tasks = [*self._rounds.values(), *([self._task] if self._task else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """There is something new to deliver."""
        self._wake.set()

    async def tried(self, webhook_id: str, notice_id: str, timeout_s: float) -> None:
        """Returns when this delivery has been tried once more, or the time is over."""
        future = self._tried.setdefault((webhook_id, notice_id), asyncio.get_running_loop().create_future())
        self._rests.pop(webhook_id, None)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(future)
        except TimeoutError:
            return
        finally:
            self._tried.pop((webhook_id, notice_id), None)

    # --- what is due

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                sleep_s = await self._begin()
            except StorageError as error:
                _log.warning("webhooks wait, the database does not answer: %s", error)
                sleep_s = RETRY_S
            try:
                async with asyncio.timeout(sleep_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin(self) -> float:
        """Begin a round for every webhook that is owed something; how long to sleep then."""
        now_ns = self._now_ns()
        busy = set(self._rounds)

        def look(connection: Connection) -> list[tuple[Webhook, int]]:
            hooks = [*all_webhooks(connection), *self._declared.values()]
            found = ((hook, stored.next_due_ns(connection, hook.webhook_id)) for hook in hooks if hook.on)
            return [(hook, due_ns) for hook, due_ns in found if due_ns is not None and hook.webhook_id not in busy]

        next_ns = now_ns + int(LONGEST_SLEEP_S * _NS_PER_S)
        for hook, due_ns in await self._database.read(look):
            begins_ns = max(due_ns, self._rests.get(hook.webhook_id, 0))
            if begins_ns > now_ns:
                next_ns = min(next_ns, begins_ns)
                continue
            self._rests.pop(hook.webhook_id, None)
            task = asyncio.create_task(self._round(hook), name=f"tollhouse-webhook-{hook.webhook_id}")
            self._rounds[hook.webhook_id] = task
            task.add_done_callback(partial(self._ended, hook.webhook_id))
        return max(next_ns - now_ns, 0) / _NS_PER_S

    async def _round(self, hook: Webhook) -> None:
        """Send what is due to one webhook."""
        try:
            async with self._places:
                while await self._send_some(hook):
                    pass
        except StorageError as error:
            _log.warning("the webhook %s waits, the database does not answer: %s", hook.webhook_id, error)
            self._rests[hook.webhook_id] = self._now_ns() + int(RETRY_S * _NS_PER_S)

    def _ended(self, webhook_id: str, task: "asyncio.Task[None]") -> None:
        """A round is over. One that ended in a defect of ours must not stop the others."""
        del self._rounds[webhook_id]
        self._wake.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("the webhook %s could not be served", webhook_id, exc_info=error)
            self._rests[webhook_id] = self._now_ns() + int(LONGEST_SLEEP_S * _NS_PER_S)

    async def _send_some(self, hook: Webhook) -> bool:
        """Some of what is due; False when nothing is left, or the receiver is to be left alone."""
        now_ns, webhook_id = self._now_ns(), hook.webhook_id

        def look(connection: Connection) -> tuple[Webhook | None, Sequence[Owed]]:
            # As it is now: it may have another address, another secret, or be off.
            current = self._declared.get(webhook_id) or get_webhook(connection, webhook_id)
            return current, stored.due(connection, webhook_id, now_ns=now_ns, limit=BATCH)

        current, owed = await self._database.read(look)
        if current is None or not current.on:
            return False
        for one in owed:
            if not await self._send(current, one):
                return False
        return len(owed) == BATCH

    # --- one delivery

    async def _send(self, hook: Webhook, owed: Owed) -> bool:
        """Send one; False when the receiver is to be left alone."""
        began_ns = self._now_ns()
        delivery = owed.delivery
        try:
            body = body_of(owed.recorded)
            headers = signed_headers(self._secret_of(hook), delivery.notice_id, began_ns // _NS_PER_S, body)
        except (ValueError, VaultError) as error:
            outcome = Outcome(0, f"not sent: {error}")
        else:
            outcome = await self._sender.post(hook.url, body, headers)
        after = self._after(delivery, outcome)
        await self._database.run(lambda connection: self._enter(connection, hook, after, outcome))
        future = self._tried.get((hook.webhook_id, delivery.notice_id))
        if future is not None and not future.done():
            future.set_result(None)
        if outcome.taken:
            self.delivered += 1
            return True
        self.failed += 1
        if delivery.attempts == 0 or after.state is _DEAD:
            fate = "given up" if after.state is _DEAD else "tried again later"
            _log.warning("%s to the webhook %s: %s; %s", delivery.kind, hook.webhook_id, outcome.error, fate)
        if outcome.status == 0:
            self._rests[hook.webhook_id] = after.next_at_ns
        return outcome.status not in (0, GONE)

    def _after(self, delivery: Delivery, outcome: Outcome) -> Delivery:
        """How far it has come with this try."""
        now_ns, attempts = self._now_ns(), delivery.attempts + 1
        tried = msgspec.structs.replace(delivery, attempts=attempts, status=outcome.status, error=outcome.error)
        if outcome.taken:
            return msgspec.structs.replace(tried, state=_DELIVERED, ended_at_ns=now_ns)
        next_at_ns = now_ns + int(self.pause_s(attempts, outcome.retry_after_s) * _NS_PER_S)
        too_old_ns = delivery.created_at_ns + int(self._options.give_up_s * _NS_PER_S)
        if outcome.status == GONE or now_ns >= too_old_ns:
            return msgspec.structs.replace(tried, state=_DEAD, ended_at_ns=now_ns)
        return msgspec.structs.replace(tried, next_at_ns=min(next_at_ns, too_old_ns))

    def pause_s(self, attempts: int, asked_s: int | None) -> float:
        """Before the next try; spread by a tenth, so that receivers that come back are not met by all at once."""
        options = self._options
        pause_s = min(options.first_retry_s * 2.0 ** min(attempts - 1, 30), options.last_retry_s)
        return max(pause_s * random.uniform(0.9, 1.1), asked_s or 0)  # noqa: S311  no secret is made of it

    def _enter(self, connection: Connection, hook: Webhook, after: Delivery, outcome: Outcome) -> None:
        stored.put_outcome(connection, after)
        if outcome.status != GONE:
            return
        stored.give_up(connection, hook.webhook_id, now_ns=self._now_ns(), error=outcome.error)
        current = get_webhook(connection, hook.webhook_id)
        if current is not None:
            off = msgspec.structs.replace(current, enabled=False, gone_at_ns=self._now_ns())
            update_webhook(connection, off)

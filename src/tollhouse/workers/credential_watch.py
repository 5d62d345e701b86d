"""What providers say of stored credentials: refused now, or working again. Noted in the database a moment later, never
while a call waits, and told to whoever wants to know of it, once an hour for each credential.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from tollhouse.terms.credentials import PaidBy, paid_by
from tollhouse.terms.errors import StorageError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.workers.tending import tend

TOLD_EVERY_S = 3_600
MOST_OWN_AN_HOUR = 60
"""Notices of users' own keys, all together: whoever stores one bad key after the other buries no other notice."""
PAUSE_S = 1.0
"""Between two writes: what is said meanwhile is one."""
STOP_S = 5.0
"""How long the end of the process waits for the last write."""
MAX_KNOWN = 10_000
"""Credentials remembered, of those last refused; one that is forgotten is told of again."""

_log = logging.getLogger("tollhouse.credentials")

Note = Callable[[Mapping[str, int | None]], Awaitable[None]]
"""Writes when each was last refused, by id, in nanoseconds since 1970 UTC; None: it works. Raises StorageError."""


class CredentialWatch:
    """One per process, in the event loop's thread."""

    def __init__(
        self,
        note: Note,
        emit: Callable[[Notice], None],
        refused: Mapping[str, int],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`refused`: those that are known to be, since when."""
        self._note = note
        self._emit = emit
        self._now_ns = now_ns
        self._refused = dict(refused)
        self._told_hour: dict[str, int] = {}
        self._own_hour = self._own_told = 0
        self._unwritten: dict[str, int | None] = {}
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = tend(self._run, "credential-watch")

    async def stop(self) -> None:
        """What can be written now, is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            with contextlib.suppress(StorageError, TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._write()

    def refused(self, provider: str, credential_id: str, status: int) -> None:
        """Its provider answered 401 or 403."""
        now_ns = self._now_ns()
        hour = now_ns // 10**9 // TOLD_EVERY_S
        self._remember(self._refused, credential_id, now_ns)
        self._say(credential_id, now_ns)
        if self._told_hour.get(credential_id) == hour:
            return
        self._remember(self._told_hour, credential_id, hour)
        payer = paid_by(credential_id)
        if payer is PaidBy.OWN and not self._room_for_own(hour):
            return
        whose = "a user's own key" if payer is PaidBy.OWN else "a key of the operator's"
        self._emit(
            Notice(
                NoticeKind.CREDENTIAL_REFUSED,
                f"credential {credential_id}",
                f"The provider {provider} refuses {whose} ({credential_id}) with {status}: it may have been revoked.",
                {"provider": provider, "credential_id": credential_id, "status": status, "paid_by": payer.value},
                once=f"{NoticeKind.CREDENTIAL_REFUSED}:{credential_id}:{hour}",
            )
        )

    def _room_for_own(self, hour: int) -> bool:
        """Whether one more notice of a user's own key is told this hour, and counts it."""
        if hour != self._own_hour:
            self._own_hour, self._own_told = hour, 0
        self._own_told += 1
        return self._own_told <= MOST_OWN_AN_HOUR

    def worked(self, credential_id: str) -> None:
        """Its provider took it; of nearly all calls nothing else is to be said."""
        if credential_id in self._refused:
            del self._refused[credential_id]
            self._say(credential_id, None)

    def _say(self, credential_id: str, refused_at_ns: int | None) -> None:
        self._remember(self._unwritten, credential_id, refused_at_ns)
        self._some.set()

    def _remember(self, known: dict[str, int] | dict[str, int | None], credential_id: str, value: int | None) -> None:
        known.pop(credential_id, None)
        while len(known) >= MAX_KNOWN:
            del known[next(iter(known))]
        known[credential_id] = value  # type: ignore[assignment]  # each dict gets values of its own kind

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            try:
                await self._write()
            except StorageError as error:
                _log.warning("what providers say of stored credentials could not be noted now: %s", error)
                self._some.set()
            await asyncio.sleep(PAUSE_S)

    async def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        if unwritten:
            try:
                await self._note(unwritten)
            except StorageError:
                self._unwritten = unwritten | self._unwritten
                raise

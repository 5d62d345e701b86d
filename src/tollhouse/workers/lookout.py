"""The lookout: is told of calls that stand in the ledger, tells of what is unusual, and has keys paused where the
operator wants that. Nothing of it is on the way of a call.

What is usual is known from the ledger's latest rows, read once after the start. A finding that was told before, by the
last process too, pauses nothing: somebody may have taken the key up again since.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from tollhouse.rules.anomalies import Batch, Finding, Watch
from tollhouse.storage.database import Database
from tollhouse.storage.habits import hours_of_keys
from tollhouse.storage.notices import untold
from tollhouse.terms.credentials import PaidBy, paid_by
from tollhouse.terms.errors import StorageError
from tollhouse.terms.events import Refused
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.workers.tallies import Tally
from tollhouse.workers.tending import tend

KEY_PREFIX: Final = "key_"
"""How ids of virtual keys begin; calls without one have a word of ours in its place."""
NOT_LET_IN: Final = 401
KEY_REFUSED: Final = (401, 403)
"""What providers say of the key they were sent."""
MAX_PAUSES: Final = 1_000
"""Keys that wait to be paused; more are told of and not paused."""
RETRY_S: Final = 1.0
_NS_PER_S: Final = 1_000_000_000
_DAY_S: Final = 86_400

_log = logging.getLogger("tollhouse.anomalies")


class Lookout:
    """One per process, in the event loop's thread.

    tell    puts a notice up
    pause   pauses a key, with the reason
    pauses  rules whose findings pause
    """

    def __init__(
        self,
        watch: Watch,
        database: Database,
        tell: Callable[[Notice], None],
        pause: Callable[[str, str], Awaitable[object]],
        pauses: Collection[str],
        *,
        history_days: int,
        history_rows: int,
    ) -> None:
        self._watch = watch
        self._database = database
        self._tell = tell
        self._pause = pause
        self._pauses = frozenset(pauses)
        self._history_s = history_days * _DAY_S
        self._history_rows = history_rows
        self._early: list[tuple[Sequence[Tally], Sequence[Refused]]] | None = []
        """Batches from before the history is known."""
        self._to_pause: deque[Finding] = deque()
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = tend(self._run, "lookout")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def shipped(self, tallies: Sequence[Tally], refused: Sequence[Refused]) -> None:
        """These stand in the ledger and in the request log."""
        if self._early is not None:
            if len(self._early) < MAX_PAUSES:
                self._early.append((tallies, refused))
            return
        for key_id, batch in batches(tallies, refused).items():
            for finding in self._watch.take(key_id if key_id.startswith(KEY_PREFIX) else "", batch):
                self._found(finding)

    def forget(self, user_id: str) -> None:
        """This user is erased: what is usual for them is known no more."""
        self._watch.forget(user_id)

    def seen(self, key_id: str, user_id: str, network: str) -> None:
        """A connection shows a key, from this network."""
        if key_id.startswith(KEY_PREFIX):
            finding = self._watch.network(key_id, user_id, network, int(time.time()))
            if finding is not None:
                self._found(finding)

    def _found(self, finding: Finding) -> None:
        if finding.key_id and finding.rule in self._pauses and len(self._to_pause) < MAX_PAUSES:
            self._to_pause.append(finding)
            self._some.set()
        else:
            self._tell(notice_of(finding))

    async def _run(self) -> None:
        await self._learn()
        while True:
            await self._some.wait()
            self._some.clear()
            while self._to_pause:
                finding = self._to_pause[0]
                try:
                    if await self._is_new(finding):
                        await self._pause(finding.key_id, finding.text)
                        self._tell(notice_of(finding))
                except StorageError as error:
                    _log.warning("the key %s is not paused yet: %s", finding.key_id, error)
                    await asyncio.sleep(RETRY_S)
                else:
                    self._to_pause.popleft()

    async def _is_new(self, finding: Finding) -> bool:
        return bool(await self._database.read(lambda connection: untold(connection, [finding.once])))

    async def _learn(self) -> None:
        """What the ledger says of the last days; then what came meanwhile."""
        since_s = int(time.time()) - self._history_s

        def look(connection: Connection) -> Sequence[tuple[str, str, int, int, str, int]]:
            return hours_of_keys(connection, since_s=since_s, latest=self._history_rows)

        try:
            if self._history_s and self._history_rows:
                for key_id, user_id, hour, nusd, client, calls in await self._database.read(look):
                    key = key_id if key_id.startswith(KEY_PREFIX) else ""
                    self._watch.remember(key, user_id, hour, nusd, (client,), calls)
        except StorageError as error:
            _log.warning("what is usual could not be read of the ledger: %s", error)
        early, self._early = self._early or [], None
        for tallies, refused in early:
            self.shipped(tallies, refused)


def notice_of(finding: Finding) -> Notice:
    subject = f"key {finding.key_id}" if finding.key_id else f"user {finding.user_id}"
    return Notice(NoticeKind.ANOMALY, subject, finding.text, finding.data, once=finding.once)


def batches(tallies: Iterable[Tally], refused: Iterable[Refused]) -> dict[str, Batch]:
    """The calls of each key together; those without a key of their own by user, under their id behind a blank. Who was
    not let in says nothing of the key: a secret that was rotated away may be in anybody's hands, and must not have the
    key paused.
    """
    found: dict[str, Batch] = {}
    for one in tallies:
        hold = one.hold
        name = hold.key_id if hold.key_id.startswith(KEY_PREFIX) else f" {hold.user_id}"
        batch = found.get(name)
        if batch is None:
            batch = found[name] = Batch(hold.user_id, one.at_ns // _NS_PER_S)
        batch.add(_status_of(one), hold.client, one.nusd, one.calls)
    for row in refused:
        if not row.user_id or row.status == NOT_LET_IN:
            continue
        name = row.key_id if row.key_id.startswith(KEY_PREFIX) else f" {row.user_id}"
        batch = found.get(name)
        if batch is None:
            batch = found[name] = Batch(row.user_id, row.at_ns // _NS_PER_S)
        batch.add(row.status, row.client, 0, 1)
    return found


def _status_of(one: Tally) -> int:
    """How these calls were answered; 0 where a provider refused a key of the operator's, which no caller can help."""
    status = one.status
    theirs = paid_by(one.hold.credential_id) is PaidBy.OWN
    return 0 if status in KEY_REFUSED and not theirs else status

"""Who was not let in, in the audit trail: some a minute one by one, the others as a number for each reason, so that a
flood of tries is seen and fills nothing. A crash forgets what was counted in its last minute.
"""

from collections import Counter
from collections.abc import Callable

from sqlalchemy import Connection

from tollhouse.storage.database import Database
from tollhouse.storage.trail import event
from tollhouse.storage.watch import Event

MINUTE_NS = 60 * 10**9
KIND = "sign-in"


class Refusals:
    """`per_minute` are told one by one."""

    def __init__(self, database: Database, per_minute: int, now_ns: Callable[[], int]) -> None:
        self._database = database
        self._per_minute = per_minute
        self._now_ns = now_ns
        self._minute = -1
        self._told = 0
        self._counted: Counter[str] = Counter()

    async def put(self, act: str, because: str, *, user_id: str = "", **facts: str) -> None:
        """`act` is one of `trail.REFUSALS`; `user_id` whose account it was, where that is known.

        Raises StorageError.
        """
        minute = self._now_ns() // MINUTE_NS
        if minute != self._minute:
            self._minute, self._told = minute, 0
        if self._told >= self._per_minute:
            self._counted[because] += 1
            return
        self._told += 1
        one = Event(act, KIND, user_id, {"because": because, **facts})
        await self._database.run(lambda connection: event(connection, one))

    def flush(self) -> Callable[[Connection], None]:
        """What to write about those that were only counted."""
        counted, self._counted = self._counted, Counter()

        def write(connection: Connection) -> None:
            for because, count in counted.items():
                event(connection, Event("refused", KIND, "", {"because": because, "more": count}))

        return write

"""Who was not let in, in the audit trail: some a minute one by one, the others as a number, each reason by itself, so
that a flood of tries is seen, hides no others and fills nothing. A crash forgets what was counted in its last minute.
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
    """`per_minute` of one reason are told one by one."""

    def __init__(self, database: Database, per_minute: int, now_ns: Callable[[], int]) -> None:
        self._database = database
        self._per_minute = per_minute
        self._now_ns = now_ns
        self._minute = -1
        self._told: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()

    async def put(self, act: str, because: str, *, user_id: str = "", **facts: str) -> None:
        """`act` is one of `trail.REFUSALS`; `user_id` whose account it was, where that is known.

        Raises StorageError.
        """
        minute = self._now_ns() // MINUTE_NS
        if minute != self._minute:
            self._minute = minute
            self._told.clear()
        if self._told[because] >= self._per_minute:
            self._counted[because] += 1
            return
        self._told[because] += 1
        one = Event(act, KIND, user_id, {"because": because, **facts})
        await self._database.run(lambda connection: event(connection, one))

    def flush(self) -> Callable[[Connection], None]:
        """What to write about those that were only counted."""
        counted, self._counted = self._counted, Counter()

        def write(connection: Connection) -> None:
            for because, count in counted.items():
                event(connection, Event("refused", KIND, "", {"because": because, "more": count}))

        return write

"""Workers go on: after a bug of ours, and after a commit of which nobody heard."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from tests.planes.wire import until
from tollhouse.events import Board
from tollhouse.storage.database import Database
from tollhouse.storage.notices import list_notices
from tollhouse.terms.errors import StorageError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.workers import CredentialWatch, Follower, Recorder, Upkeep, credential_watch, recorder, tending

T = TypeVar("T")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(recorder, "RETRY_S", 0.0)


class Buggy:
    """Fails in a way that nobody thought of, so many times."""

    def __init__(self, failures: int = 3) -> None:
        self.failures = failures
        self.done: list[Any] = []

    async def __call__(self, *facts: Any) -> int:
        if self.failures:
            self.failures -= 1
            raise TypeError("a bug of ours")
        self.done.append(facts)
        return 0


def test_a_bug_ends_no_worker_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        prune = Buggy()
        upkeep = Upkeep(prune)
        upkeep.start()
        await until(lambda: prune.done)
        await upkeep.stop()
        note = Buggy(1)
        watch = CredentialWatch(note, lambda notice: None, {})
        watch.start()
        watch.refused("mock", "own_1", 401)
        await until(lambda: not note.failures)
        watch.refused("mock", "own_2", 401)
        await until(lambda: note.done)
        await watch.stop()

    asyncio.run(story())
    told = [record.getMessage() for record in caplog.records if record.name == "tollhouse.workers"]
    assert told == ["the upkeep ended in a bug of ours; it begins again in 0 s"] * 3 + [
        "the credential-watch ended in a bug of ours; it begins again in 0 s"
    ]


def test_a_bug_while_catching_up_leaves_no_change_behind() -> None:
    async def story() -> None:
        fates: list[Exception] = [StorageError("gone"), TypeError("a bug of ours"), StorageError("gone")]
        adopted: list[str | None] = []

        async def adopt(user_id: str | None) -> None:
            if fates:
                raise fates.pop(0)
            adopted.append(user_id)

        follower = Follower(adopt, retry_s=0)
        with pytest.raises(StorageError):
            await follower.follow("alice")
        await until(lambda: adopted)
        assert adopted == ["alice"]
        await follower.stop()

    asyncio.run(story())


class Deaf:
    """A database whose first commits are made, and nobody hears of it: the connection broke behind them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lost = 2

    async def run(self, act: Callable[[Connection], T]) -> T:
        result = await self.database.run(act)
        if self.lost:
            self.lost -= 1
            raise StorageError("server closed the connection unexpectedly")
        return result


def test_notices_are_told_once_though_their_commit_was_not_heard_of(database: Database) -> None:
    async def story() -> None:
        board, woken = Board(), []
        deaf = Deaf(database)
        worker = Recorder(board, deaf, (), lambda: woken.append(1), max_pending=9)  # type: ignore[arg-type]
        for number in range(3):
            board.emit(Notice(NoticeKind.ANOMALY, f"key {number}", "unusual"))
        worker.start()
        await until(lambda: woken)
        board.emit(Notice(NoticeKind.ANOMALY, "key 3", "unusual"))
        await until(lambda: len(woken) == 2)
        await worker.stop()
        found = await database.read(list_notices)
        assert [one.notice.subject for one in found] == [f"key {number}" for number in (3, 2, 1, 0)]

    asyncio.run(story())


def test_stopping_in_the_middle_of_a_commit_tells_nothing_twice(database: Database) -> None:
    async def story() -> None:
        board, begun = Board(), asyncio.Event()

        class Slow(Deaf):
            async def run(self, act: Callable[[Connection], T]) -> T:
                result = await self.database.run(act)
                if not begun.is_set():
                    begun.set()
                    await asyncio.sleep(60)  # until it is cancelled
                return result

        worker = Recorder(board, Slow(database), (), lambda: None, max_pending=9)  # type: ignore[arg-type]
        worker.start()
        board.emit(Notice(NoticeKind.ANOMALY, "key 1", "unusual"))
        await begun.wait()
        board.emit(Notice(NoticeKind.ANOMALY, "key 2", "unusual"))
        await worker.stop()
        found = await database.read(list_notices)
        assert [one.notice.subject for one in found] == ["key 2", "key 1"]

    asyncio.run(story())


def test_stopping_waits_for_no_database_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for worker in (recorder, credential_watch):
        monkeypatch.setattr(worker, "STOP_S", 0.01)

    class Mute:
        async def run(self, act: Callable[[Connection], T]) -> T:
            await asyncio.Event().wait()
            raise AssertionError

    async def story() -> None:
        board = Board()
        worker = Recorder(board, Mute(), (), lambda: None, max_pending=9)  # type: ignore[arg-type]
        worker.start()
        board.emit(Notice(NoticeKind.ANOMALY, "key 1", "unusual"))
        watch = CredentialWatch(lambda refused: Mute().run(lambda _: None), lambda notice: None, {})
        watch.start()
        watch.refused("mock", "own_1", 401)
        async with asyncio.timeout(30):
            await worker.stop()
            await watch.stop()

    asyncio.run(story())
    assert "1 notices could not be written down: the database does not answer" in caplog.text

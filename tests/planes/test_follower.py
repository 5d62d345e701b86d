"""A committed change becomes effective, also when the database cannot be read just then."""

import asyncio

import pytest

from tollhouse.terms.errors import StorageError
from tollhouse.workers import Follower


class Directory:
    """Fails so many times, then is read."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.read: list[str | None] = []
        self.done = asyncio.Event()

    async def adopt(self, user_id: str | None) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError("the database is gone")
        self.read.append(user_id)
        self.done.set()


def test_what_could_not_be_read_is_read_again() -> None:
    async def story() -> None:
        directory = Directory(failures=3)
        follower = Follower(directory.adopt, retry_s=0)
        with pytest.raises(StorageError):
            await follower.follow("alice")
        async with asyncio.timeout(30):
            await directory.done.wait()
        assert directory.read == ["alice"]
        await follower.follow("bob")
        assert directory.read == ["alice", "bob"]
        await follower.stop()

    asyncio.run(story())


def test_many_are_everybody() -> None:
    async def story() -> None:
        directory = Directory(failures=1_500)
        follower = Follower(directory.adopt, retry_s=0)
        for number in range(1_002):
            with pytest.raises(StorageError):
                await follower.follow(f"user-{number}")
        async with asyncio.timeout(30):
            await directory.done.wait()
        await follower.stop()
        assert directory.read == [None]

    asyncio.run(story())


def test_stopping_ends_the_attempts() -> None:
    async def story() -> None:
        directory = Directory(failures=10**9)
        follower = Follower(directory.adopt, retry_s=0)
        with pytest.raises(StorageError):
            await follower.follow(None)
        await follower.stop()
        left = directory.failures
        await asyncio.sleep(0.01)
        assert directory.failures == left

    asyncio.run(story())

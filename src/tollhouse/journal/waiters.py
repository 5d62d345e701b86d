"""Coroutines that wait until what they wrote is on the disk; told from another thread."""

import asyncio
from typing import Any


class Waiters:
    """Not thread-safe; the journal's lock is around it. What it takes out is told outside of the lock."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, needed: int) -> "asyncio.Future[None]":
        """A future of the running loop that is done once `needed` records are synced."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((needed, future))
        return future

    def take(self, synced: int) -> list["asyncio.Future[None]"]:
        """Remove and return those that waited for no more than this."""
        if not self._waiting:
            return []
        ready = [future for needed, future in self._waiting if needed <= synced]
        self._waiting = [(needed, future) for needed, future in self._waiting if needed > synced]
        return ready

    def take_all(self) -> list["asyncio.Future[None]"]:
        everybody, self._waiting = [future for _, future in self._waiting], []
        return everybody


def tell(futures: list["asyncio.Future[None]"], error: Exception | None = None) -> None:
    """Finish futures from any thread."""
    for future in futures:
        try:
            future.get_loop().call_soon_threadsafe(_finish, future, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _finish(future: "asyncio.Future[Any]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)

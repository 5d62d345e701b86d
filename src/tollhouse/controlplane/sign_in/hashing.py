"""Argon2id, off the loop.

A hash takes a core for some 40 ms and 19 MiB. All of them are made by one thread of the lowest priority, so that calls
of models come first on a small machine; those waiting are bounded, more are told to come back. Argon2 itself is
imported when the first password comes.

A password of nobody is held against a hash that nobody has: the time tells nothing of who is here.
"""

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, TypeVar

from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in.options import Argon2
from tollhouse.rules.passwords import weakness

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

NICENESS = 19


class Hasher:
    """All methods take normalised passwords, and raise Problem (503) when too many wait."""

    def __init__(self, cost: Argon2, max_waiting: int) -> None:
        self._cost = cost
        self._places = BoundedSemaphore(max_waiting)
        self._pool = ThreadPoolExecutor(1, "tollhouse-passwords", initializer=_be_nice)
        self._hasher: PasswordHasher | None = None
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._argon2().hash(password))

    async def verify(self, stored: str | None, password: str) -> tuple[bool, str | None]:
        """Whether it is the password, and a hash to store instead when its parameters are not today's. Takes as long
        without a stored hash.
        """
        return await self._run(lambda: self._verify(stored, password))

    async def weakness(self, password: str, about: Sequence[str], *, min_chars: int, min_score: int) -> str | None:
        """See `rules.passwords`; some milliseconds."""
        return await self._run(lambda: weakness(password, about, min_chars=min_chars, min_score=min_score))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, act: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise Problem(
                503,
                "busy",
                "Too many people are signing in at once. Try again in a moment.",
                headers={"retry-after": "2"},
            )
        future = self._pool.submit(act)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _done(self, _future: Future[Any]) -> None:
        self._places.release()

    # --- in the thread

    def _verify(self, stored: str | None, password: str) -> tuple[bool, str | None]:
        from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415  as in `_argon2`

        hasher = self._argon2()
        try:
            hasher.verify(stored or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False, None
        if stored is None:
            return False, None
        return True, hasher.hash(password) if hasher.check_needs_rehash(stored) else None

    def _argon2(self) -> "PasswordHasher":
        if self._hasher is None:
            from argon2 import PasswordHasher  # noqa: PLC0415  serving needs it when the first password comes

            cost = self._cost
            self._hasher = PasswordHasher(cost.passes, cost.memory_kib, cost.lanes)
            self._nobodys = self._hasher.hash(secrets.token_urlsafe())
        return self._hasher


def _be_nice() -> None:
    with contextlib.suppress(OSError):  # a machine that does not allow it serves as well
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

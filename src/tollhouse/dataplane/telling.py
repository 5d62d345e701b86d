"""Runs the coroutine in which a visitor's story is told.

A story waits once, for its provider, and is never cancelled: what ends it early ends what it waits for. So it needs
none of what an asyncio.Task offers, and goes without: it begins at once, inside the callback that brought the last byte
of the request, and goes on in the callback of whatever it awaited. What needs a Task around itself, such as
`asyncio.timeout`, brings one along.
"""

import asyncio
import logging
from collections.abc import Generator
from typing import Any

log = logging.getLogger("tollhouse.edge")
OVER: Any = object()
"""Instead of something to wait for."""


class Teller:
    """Who has a story to tell; kept alive by the future it waits for."""

    __slots__ = ("response_complete", "story")

    def __init__(self) -> None:
        self.response_complete = False
        self.story: Generator[Any, Any, None] | None = None
        """A coroutine's `__await__`; None until it begins."""

    def go_on(self, _done: object = None) -> None:
        """Up to the next thing to wait for. The last door: a bug of ours is logged and answered, never left hanging."""
        assert self.story is not None
        try:
            waits_for = next(self.story, OVER)  # without a StopIteration and its traceback
        except Exception:
            log.exception("a call ended in a bug of ours")
            if not self.response_complete:
                self.failed()
            return
        if waits_for is OVER:
            return
        if waits_for is None:  # a bare yield: let others go first
            asyncio.get_running_loop().call_soon(self.go_on)
        else:
            waits_for._asyncio_future_blocking = False  # as Task says that it was awaited, and not just yielded
            waits_for.add_done_callback(self.go_on)

    def failed(self) -> None:
        """A bug of ours ended the story: answer what can still be answered."""
        raise NotImplementedError

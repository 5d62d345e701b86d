"""Runs the coroutine in which a visitor's story is told.

A story waits once, for its provider, and is never cancelled: what ends it early ends what it waits for. So it needs
none of what an asyncio.Task offers, and goes without: it begins at once, inside the callback that brought the last byte
of the request, and goes on in the callback of whatever it awaited. What needs a Task around itself, such as
`asyncio.timeout`, brings one along.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from tollhouse.dataplane.visitor import Visitor

log = logging.getLogger("tollhouse.edge")


class Telling:
    """A story that is being told; kept alive by the future it waits for."""

    __slots__ = ("_story", "_visitor")

    def __init__(self, visitor: Visitor, story: Coroutine[Any, Any, None]) -> None:
        self._visitor = visitor
        self._story = story

    def go_on(self, _done: object = None) -> None:
        """Up to the next thing to wait for. The last door: a bug of ours is logged and answered, never left hanging."""
        try:
            waits_for = self._story.send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("a call ended in a bug of ours")
            if not self._visitor.response_complete:
                self._visitor.failed()
            return
        if waits_for is None:  # a bare yield: let others go first
            asyncio.get_running_loop().call_soon(self.go_on)
        else:
            waits_for._asyncio_future_blocking = False  # as Task says that it was awaited, and not just yielded
            waits_for.add_done_callback(self.go_on)


def begin(visitor: Visitor, story: Coroutine[Any, Any, None]) -> None:
    """Tell it from the beginning."""
    Telling(visitor, story).go_on()

"""Keeps a worker at work: a bug of ours that ends its loop is logged, and the loop begun again.

Without this the loop's task would end and say nothing: keys that somebody revoked would go on working, notices would
wait unread, and nobody would know before the next start.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("tollhouse.workers")

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
"""After a bug; doubled from the first to the last, so that one that stays fills no log."""


def tend(run: Callable[[], Awaitable[None]], name: str) -> "asyncio.Task[None]":
    """Run a worker's loop as a task, until it returns or the task is cancelled. It acts for nobody, whoever's call
    begins it.
    """
    return asyncio.create_task(_tended(run, name), name=f"tollhouse-{name}", context=contextvars.Context())


async def _tended(run: Callable[[], Awaitable[None]], name: str) -> None:
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await run()
        except Exception:  # noqa: BLE001 - the door of all workers
            _log.exception("the %s ended in a bug of ours; it begins again in %g s", name, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)

"""A loop whose time is the tests' own, for everything that ends by a deadline.

Time stands still while anything can happen: a byte that some end can read, a callback that is ready. Only when nothing
has come for IDLE_S of real time does the clock jump to the next timer. All ends of all connections are in this one
loop and on loopback, so whatever was written can be read at once: a deadline that passes here passes because nobody
did anything, and never because the machine was busy or stood still. And nobody has to wait for it. (Nor does a pause
of the test's own end while others are busy: what passes by is waited for by an event, not by looking again and again.)

The gateway runs on uvloop, whose clock cannot be taken away from it; here the same protocols run on asyncio's own loop.
What is about bytes and not about time is tested on uvloop (`tests.planes.wire.run`).
"""

import asyncio
import contextlib
import selectors
import sys
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from tests.planes.wire import run

IDLE_S = 0.005
"""Real time without any event before virtual time goes on; a deadline of n sweeps takes as many of these at least."""


class _Selector(selectors.DefaultSelector):
    """Where a loop waits; whatever it would have waited is added to `now_s` instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(min(timeout, IDLE_S))
        if not found:
            self.now_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with virtual time."""

    def __init__(self) -> None:
        self.waits = _Selector()
        super().__init__(self.waits)

    def time(self) -> float:
        return self.waits.now_s


@contextlib.contextmanager
def _one_clock(loop: VirtualLoop) -> Iterator[None]:
    """The gateway's modules that read the clock without asking the loop read the loop's."""
    readers = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("tollhouse.") and getattr(module, "monotonic", None) is time.monotonic
    ]
    for module in readers:
        vars(module)["monotonic"] = loop.time
    try:
        yield
    finally:
        for module in readers:
            vars(module)["monotonic"] = time.monotonic


def run_in_virtual_time(story: Coroutine[Any, Any, None]) -> None:
    """As `run`, but on virtual time. Errors nobody caught fail the test."""
    with contextlib.ExitStack() as clocks:

        def loop() -> VirtualLoop:
            made = VirtualLoop()
            clocks.enter_context(_one_clock(made))
            return made

        run(story, loop)

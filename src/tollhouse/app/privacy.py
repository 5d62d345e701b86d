"""What is kept of calls, and how it is forgotten: the parts of a house put together for it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tollhouse.dataplane.captured import CapturedRelay, CaptureOptions
from tollhouse.dataplane.exchange import Exchange
from tollhouse.dataplane.relay import Relay
from tollhouse.storage import captures
from tollhouse.storage.captures import Capture
from tollhouse.workers import Capturer, CapturerOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tollhouse.app.house import House

CAPTURE_TIMEOUT_S = 5.0
"""How long a look at content, and a shutdown, wait until what was captured is stored."""


def start_capturer(house: "House") -> Capturer:
    """The worker that seals and stores content."""
    settings, database = house.settings.capture, house.store.database

    async def write(rows: Sequence[Capture]) -> None:
        await database.run(lambda connection: captures.keep(connection, rows))

    options = CapturerOptions(max_waiting=settings.max_waiting, max_waiting_bytes=settings.max_waiting_bytes)
    capturer = Capturer(house.vault, write, options)
    capturer.start()
    return capturer


def captured_relay(house: "House") -> "Callable[[Exchange], Relay]":
    """How the relay of a call is made whose key has its content kept."""
    settings = house.settings.capture
    options = CaptureOptions(
        max_days=settings.max_days,
        max_request_bytes=settings.max_request_bytes,
        max_answer_bytes=settings.max_answer_bytes,
    )
    return partial(CapturedRelay, house.capturer.put, options)

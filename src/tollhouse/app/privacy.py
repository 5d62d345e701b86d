"""What is kept of calls, and how it is forgotten: the parts of a house put together for it."""

import asyncio
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

QUIET_S = 20.0
"""How long erasing somebody waits until their calls have ended and the journal holds nothing of them."""
LOOK_S = 0.02
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


async def quiet(house: "House", user_id: str, before_ns: int) -> bool:
    """No call of this user's that was admitted before is under way, and what they cost stands in the ledger and no more
    in the journal. False when that takes too long; JournalError when the journal cannot be written.
    """
    try:
        async with asyncio.timeout(QUIET_S):
            while calls := _calls(house, user_id, before_ns):
                for call in calls:
                    if call.story is None:
                        call.edge.transport.abort()  # its body is still coming
                    else:
                        call.abort()
                await asyncio.sleep(LOOK_S)
            if not await house.shipper.flush(QUIET_S):
                return False
            await _renew_journal(house)
            house.lookout.forget(user_id)
            await house.herald.recorder.flush()  # what was told of their last calls
            return await house.capturer.flush(QUIET_S)
    except TimeoutError:
        return False


def _calls(house: "House", user_id: str, before_ns: int) -> list[Exchange]:
    return [
        one
        for one in house.gate.working
        if isinstance(one, Exchange)
        and one.principal is not None
        and one.principal.user.user_id == user_id
        and one.at_ns < before_ns
    ]


async def _renew_journal(house: "House") -> None:
    """Until all that was in the journal so far has left the disk."""
    journal = house.store.journal
    newest = journal.renew()
    while any(path.name < newest.name for path in newest.parent.glob(f"*{newest.suffix}")):
        await house.shipper.flush(QUIET_S)
        await asyncio.to_thread(journal.sync)
        await asyncio.sleep(LOOK_S)

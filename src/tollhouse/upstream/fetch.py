"""One small answer as a whole, for what asks a provider beside the way of calls: whether it takes a credential."""

import asyncio

import msgspec

from tollhouse.terms.errors import UpstreamError, UpstreamTimeout
from tollhouse.terms.holds import ZeroHold
from tollhouse.upstream.connection import Call
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.pool import Pool

MAX_BODY_BYTES = 65_536
"""Of a longer answer the beginning."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class _Whole(Call):
    __slots__ = ("answered", "left", "pieces", "status")

    def __init__(self, message: bytes) -> None:
        super().__init__()
        self.message = (message,)
        self.status = 0
        self.pieces: list[bytes] = []
        self.left = MAX_BODY_BYTES
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def head(self, status: int, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        self.status = status

    def body(self, data: bytes) -> None:
        self.pieces.append(data[: self.left])
        self.left -= len(self.pieces[-1])
        if not self.left and self.connection is not None:
            self.connection.fail(_Enough())

    def over(self, error: Exception | None) -> None:
        if self.answered.done():
            return
        if error is None or isinstance(error, _Enough):
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


class _Enough(Exception):
    """What came is as much as anybody reads."""


async def fetch(pool: Pool, permit: ZeroHold, origin: Origin, message: bytes, *, timeout_s: float) -> Answer:
    """Send one request without a body and take its answer. Raises UpstreamError."""
    call = _Whole(message)
    try:
        async with asyncio.timeout(timeout_s):
            starting = pool.start(permit, origin, call)
            if starting is not None:
                await starting
            await call.answered
    except TimeoutError:
        error: UpstreamError = UpstreamTimeout(f"no answer within {timeout_s:g} s", phase="total")
        call.abort(error)
        raise error from None
    finally:
        if call.answered.done() and not call.answered.cancelled():
            call.answered.exception()  # seen
    return Answer(call.status, b"".join(call.pieces))

"""Many callers at once: what each asks for and suffers is drawn from a seed; what each saw is written down."""

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from chaos.provider import MODEL

CALL_S = 60.0
"""A call that has not ended by then is a failure of its own."""
TOKENS_A_SECOND = 400
"""No faster than this: what a gateway estimates of a stream it hung up on allows for the speed of real providers."""
AFTER_REFUSAL_S = 0.05


@dataclass(frozen=True)
class Fate:
    """What the provider makes of a call; travels as its prompt."""

    call: str
    input_share: float
    """Of the most input it could bill."""
    output_share: float
    """Of the output asked for."""
    seconds: float
    reset_share: float | None = None
    """Reset after this part of the answer's bytes."""
    status: int = 0
    """Answer this error instead; 0 for none."""
    finish: bool = False
    """Bill all that was asked for when the gateway hangs up."""


@dataclass(frozen=True)
class Key:
    """A virtual key: its secret, its id, and the budgets that apply."""

    secret: str
    key_id: str
    budgets: tuple[str, ...]


@dataclass
class Call:
    """One call, and what came of it at its caller."""

    fate: Fate
    key: Key
    stream: bool
    max_tokens: int
    leaves_after_s: float | None = None
    status: int = 0
    """0: no answer began."""
    request_id: str = ""
    code: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    """The caller saw the answer to its end."""
    left: bool = False
    broken: str = ""
    """How the connection failed."""
    ended_at: float = 0.0
    """By the monotonic clock."""
    unwritten: bool = False
    """Its gateway was killed while no settlement could be written."""

    @property
    def name(self) -> str:
        return self.fate.call

    def request(self) -> bytes:
        message = {"role": "user", "content": json.dumps(asdict(self.fate))}
        body = json.dumps(
            {"model": MODEL, "max_tokens": self.max_tokens, "stream": self.stream, "messages": [message]}
        ).encode()
        return (
            f"POST /v1/messages HTTP/1.1\r\nhost: chaos\r\nx-api-key: {self.key.secret}\r\n"
            f"content-type: application/json\r\nx-session-id: {self.name}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


@dataclass(frozen=True)
class Mix:
    """Of what calls a load is made, as shares of all of them."""

    whole: float = 0.0
    """Not streamed."""
    leaving: float = 0.0
    reset: float = 0.0
    failing: float = 0.0
    finish: bool = False
    """What is cut by the gateway's death is billed to the end."""
    seconds: float = 1.2
    """Longest stream."""
    max_tokens: int = 400


def draw(mix: Mix, keys: list[Key], name: str, seed: str) -> Iterator[Call]:
    """Calls without end, the same for the same seed."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        stream = dice.random() >= mix.whole
        leaves = dice.random() * mix.seconds if dice.random() < mix.leaving else None
        failing = dice.random() < mix.failing
        max_tokens = dice.randint(50, mix.max_tokens)
        length_s = dice.random() * mix.seconds
        fate = Fate(
            call=f"{name}-{number}",
            input_share=dice.random(),
            output_share=dice.choice((dice.random(), 1.0)),
            seconds=max(length_s, max_tokens / TOKENS_A_SECOND) if stream else length_s / 4,
            reset_share=dice.choice((0.0, dice.random(), 0.999)) if dice.random() < mix.reset else None,
            status=dice.choice((400, 429, 500, 529)) if failing else 0,
            finish=mix.finish and leaves is None,
        )
        yield Call(fate, keys[number % len(keys)], stream, max_tokens, leaves)


class Load:
    """`parallel` callers in a thread of their own, from `start` to `stop` or until the gateway is gone."""

    def __init__(self, port: int, calls: Iterator[Call], parallel: int, most: int = 20_000) -> None:
        self.made: list[Call] = []
        self._port = port
        self._calls = calls
        self._parallel = parallel
        self._most = most
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> "Load":
        self._thread.start()
        return self

    def stop(self) -> list[Call]:
        """Begin no more calls, and wait for those that run."""
        self._stopping = True
        self._thread.join(CALL_S + 10)
        assert not self._thread.is_alive(), "callers hang"
        return self.made

    def wait_for(self, holds: Callable[[Call], bool], timeout_s: float, count: int = 1) -> bool:
        """Until so many calls are like this."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if sum(map(holds, list(self.made))) >= count:
                return True
            time.sleep(0.01)
        return False

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._caller() for _ in range(self._parallel)))

    async def _caller(self) -> None:
        """One call after the other over a connection that is kept as long as it can be."""
        line = Line(self._port)
        try:
            while not self._stopping and len(self.made) < self._most:
                call = next(self._calls)
                self.made.append(call)
                await line.make(call)
                if call.broken == "no connection":
                    return
                if call.status >= 400:
                    await asyncio.sleep(AFTER_REFUSAL_S)
        finally:
            line.close()


class Line:
    """A caller's connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    async def make(self, call: Call) -> None:
        """Make a call and write down what came of it. Never raises for what the gateway does."""
        try:
            async with asyncio.timeout(CALL_S if call.leaves_after_s is None else call.leaves_after_s):
                keep = await self._make(call)
        except TimeoutError:
            call.left = call.leaves_after_s is not None
            call.broken = "" if call.left else "it did not end"
            keep = False
        except (OSError, EOFError, ValueError) as error:
            call.broken = call.broken or type(error).__name__
            keep = False
        call.ended_at = time.monotonic()
        if not keep:
            self.close()

    async def _make(self, call: Call) -> bool:
        if self._open is None:
            try:
                self._open = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                call.broken = "no connection"
                raise
        reader, writer = self._open
        writer.write(call.request())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        body = bytearray()
        call.status = status
        call.request_id = head.partition(b"\r\nx-tollhouse-request-id: ")[2].partition(b"\r\n")[0].decode()
        if b"\r\ntransfer-encoding: chunked\r\n" in head:
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size + 2)
                del body[-2:]
                call.complete = call.complete or _ended(body)
            await reader.readline()
        else:
            length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            body += await reader.readexactly(int(length))
            call.complete = status == 200
        if status >= 400:
            self._read_refusal(call, body)
        return b"\r\nconnection: close\r\n" not in head

    def _read_refusal(self, call: Call, body: bytearray) -> None:
        with contextlib.suppress(ValueError, KeyError, AttributeError):
            error = json.loads(body)["error"]
            call.code = error.get("code", "")
            call.details = error.get("details", {})


def _ended(body: bytearray) -> bool:
    return body.endswith(b"\n\n") and b"event: message_stop\n" in body[-200:]


def make_now(port: int, call: Call) -> Call:
    """One call alone."""

    async def alone() -> None:
        line = Line(port)
        try:
            await line.make(call)
        finally:
            line.close()

    asyncio.run(alone())
    return call

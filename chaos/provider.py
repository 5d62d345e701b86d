"""A provider that keeps its own bill, in a process of its own: it outlives the gateway, and knows what it would charge.

The prompt of a call is JSON that says what becomes of it (`calls.Fate`): how much of the asked output is written, over
how long, whether the connection is reset at some byte, or an error answered. What is billed:

    answered to its end               input and output as reported
    the gateway hung up               what was generated so far and a little more; all that was asked for when `finish`
                                      is set (a provider that does not notice, or the worst case of an open call)
    reset by the provider             all of it, although the caller saw only a part; nothing before the first byte
    refused (4xx)                     nothing
    failed (5xx)                      the input

    python -m chaos.provider

prints {"port": …} when it listens, answers `GET /bill/PREFIX` with the entries of those calls, and ends with its
standard input.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from typing import Any

INPUT_NUSD, OUTPUT_NUSD = 3_000, 15_000
"""What a token costs."""
MODEL = "claude-sonnet-4-6"
OVERHEAD_TOKENS = 4_096
"""Beyond the bytes of the body: what a provider may add to a prompt, unseen."""
EVENT_S = 0.05
"""Between two pieces of a stream."""
AFTER_HANGUP_TOKENS = 20
LAST_CHUNK = b"0\r\n\r\n"
"""Comes a while after the closing event: a caller has then seen all of the answer."""
MAX_BODY_BYTES = 1_000_000
BYTES_A_TOKEN = 4

Entry = dict[str, Any]


class Provider:
    """`bill` has an entry for every request that came whole."""

    def __init__(self) -> None:
        self.bill: list[Entry] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first: bytes | None = b""
        try:
            with contextlib.suppress(OSError, EOFError):
                while first is not None:
                    first = await self._request(first, reader, writer)
        finally:
            writer.transport.abort()

    async def _request(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """One request whose `first` byte was read already; the first byte of the next, None at the end."""
        head = first + await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /bill/"):
            prefix = head.split(b" ")[1].removeprefix(b"/bill/").decode()
            writer.write(_answer(200, [entry for entry in self.bill if entry["call"].startswith(prefix)]))
            return await reader.read(1) or None
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if length > MAX_BODY_BYTES:
            return None
        asked = json.loads(await reader.readexactly(length))
        fate = json.loads(asked["messages"][0]["content"])
        entry = self._enter(asked, fate, length)
        watch = asyncio.ensure_future(reader.read(1))
        try:
            go_on = await _act(asked, fate, entry, writer, watch)
            return (await watch or None) if go_on else None
        except OSError:
            _gone(entry, fate)
            raise
        finally:
            watch.cancel()

    def _enter(self, asked: dict[str, Any], fate: dict[str, Any], length: int) -> Entry:
        most = length + OVERHEAD_TOKENS
        entry = {
            "call": fate["call"],
            "state": "open",
            "input": min(most, 1 + int(fate["input_share"] * most)),
            "output": min(asked["max_tokens"], 1 + int(fate["output_share"] * asked["max_tokens"])),
            "max_tokens": asked["max_tokens"],
            "written": 0,
            "nusd": 0,
        }
        self.bill.append(entry)
        return entry


async def _act(
    asked: dict[str, Any],
    fate: dict[str, Any],
    entry: Entry,
    writer: asyncio.StreamWriter,
    watch: "asyncio.Future[Any]",
) -> bool:
    """Answer as fate has it; whether the connection goes on."""
    if fate["status"]:
        _charge(entry, f"answered {fate['status']}", entry["input"] if fate["status"] >= 500 else 0, 0)
        writer.write(_answer(fate["status"], {"type": "error", "error": {"type": "api_error", "message": "chaos"}}))
        await writer.drain()
        return True
    pieces = list(_stream(entry, fate["seconds"])) if asked.get("stream") else [(0, b""), (0, _whole(entry))]
    left = sum(len(data) for _, data in pieces)
    cut = None if fate["reset_share"] is None else int(fate["reset_share"] * left)
    pause = fate["seconds"] / len(pieces)
    for tokens, data in pieces:
        if cut is not None and cut <= len(data):
            return await _reset(entry, data[:cut], writer)
        cut = None if cut is None else cut - len(data)
        if pause:
            await asyncio.wait([watch], timeout=pause)
        if watch.done() and not watch.result():
            _gone(entry, fate)
            return False
        entry["written"] += tokens
        if data and not tokens:  # it reports the usage: that is the bill from here on
            _charge(entry, "complete", entry["input"], entry["output"])
        writer.write(data)
        await writer.drain()
    return True


async def _reset(entry: Entry, data: bytes, writer: asyncio.StreamWriter) -> bool:
    begun = bool(data) or entry["written"] > 0
    _charge(entry, "reset", *((entry["input"], entry["output"]) if begun else (0, 0)))
    writer.write(data)
    await writer.drain()
    await asyncio.sleep(0.02)  # a reset must not overtake what was written
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return False


def _gone(entry: Entry, fate: dict[str, Any]) -> None:
    """The gateway hung up, or died."""
    if entry["state"] == "open":
        generated = entry["max_tokens"] if fate["finish"] else entry["written"] + AFTER_HANGUP_TOKENS
        _charge(entry, "gone", entry["input"], min(generated, entry["max_tokens"]))


def _charge(entry: Entry, state: str, input_tokens: int, output_tokens: int) -> None:
    entry["state"] = state
    entry["nusd"] = input_tokens * INPUT_NUSD + output_tokens * OUTPUT_NUSD


def _answer(status: int, content: object) -> bytes:
    body = json.dumps(content).encode()
    return _head(status, "application/json", f"content-length: {len(body)}") + body


def _head(status: int, content_type: str, framing: str) -> bytes:
    return f"HTTP/1.1 {status} Chaos\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n".encode()


def _message(entry: Entry, content: list[Any], **usage: int) -> dict[str, Any]:
    facts = {"id": "msg_chaos", "type": "message", "role": "assistant", "model": MODEL, "content": content}
    ended = "end_turn" if content else None
    return {**facts, "stop_reason": ended, "stop_sequence": None, "usage": {"input_tokens": entry["input"], **usage}}


def _whole(entry: Entry) -> bytes:
    text = {"type": "text", "text": "word" * entry["output"]}
    return _answer(200, _message(entry, [text], output_tokens=entry["output"]))


def _stream(entry: Entry, seconds: float) -> list[tuple[int, bytes]]:
    """(Tokens generated, bytes) of each piece."""
    output: int = entry["output"]
    count = max(1, min(output, int(seconds / EVENT_S)))
    head = _head(200, "text/event-stream; charset=utf-8", "transfer-encoding: chunked")
    opened = _event("message_start", message=_message(entry, [], output_tokens=1))
    block = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    pieces = [(1, head + _chunk(opened + block))]
    for number in range(count):
        tokens = output * (number + 1) // count - output * number // count
        delta = {"type": "text_delta", "text": "w" * (BYTES_A_TOKEN * tokens)}
        pieces.append((tokens, _chunk(_event("content_block_delta", index=0, delta=delta))))
    stop = _event("content_block_stop", index=0)
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = _event("message_delta", delta=ended, usage={"output_tokens": output})
    return [*pieces, (0, _chunk(stop + usage) + _chunk(_event("message_stop"))), (0, LAST_CHUNK)]


def _event(name: str, **fields: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _serve() -> None:
    provider = Provider()
    server = await asyncio.start_server(provider.accept, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())

"""Generated answers, streamed and whole: what a provider sends, and what of it the client must get.

Streams are as servers may write them (WHATWG HTML, "Server-sent events"): lines that end in LF, CRLF or CR, a byte
order mark, comments, fields and events that nobody knows, data over several lines, blank lines, a last event without
its end. Of all that the client gets every byte; only the usage chunk that the gateway itself asked for is taken out.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.planes.wire import END_CHUNK, chunk
from tests.wire.asks import Ask
from tests.wire.noise import Member, Noise

BOM = b"\xef\xbb\xbf"
KNOWN_IN, KNOWN_OUT = 1_203, 57
"""The usage that every answer tells that tells one."""
_ENDS = (b"\n", b"\r\n", b"\r")
_ONE_BYTE_CHUNKS = 1_500
"""Longer ones are sent in larger pieces."""


@dataclass
class Answer:
    """`wire` is what the provider sends, in `pieces`; `body` what the client gets without its framing."""

    status: int
    body: bytes
    lines: list[bytes]
    pieces: list[bytes] = field(default_factory=list)
    told: bool = False
    """It tells its usage, so the call can be settled exactly."""
    keeps: bool = True
    """The connection stays open behind it."""


def generate(ask: Ask, chance: random.Random) -> Answer:
    noise = Noise(chance)
    lines = _lines(chance)
    if ask.stream and chance.random() < 0.9:
        sent, kept, told = _stream(ask, noise)
        kind = chance.choice((b"text/event-stream", b"text/event-stream; charset=utf-8", b"Text/Event-Stream"))
        answer = Answer(200, kept, lines, told=told)
    else:
        status = chance.choice((200, 200, 200, 201, 400, 429, 500, 529))
        told = status < 300 and chance.random() < 0.7
        sent = _whole(ask, noise) if told else _anything(noise)
        kind = chance.choice((b"application/json", b"text/plain", b"application/vnd.x+json;v=2"))
        answer = Answer(status, sent, lines, told=told)
    _frame(answer, sent, b"content-type: " + kind, chance)
    return answer


# --- streams


def _stream(ask: Ask, noise: Noise) -> tuple[bytes, bytes, bool]:
    """What is sent, what of it the client gets, and whether usage is told."""
    chance = noise.chance
    told = chance.random() < 0.85
    events = _with_strangers(_events(ask, noise, told), noise)
    writer = _EventWriter(chance)
    unasked = ask.lane.includes_usage and not ask.usage_asked
    written = [(writer.event(event), event.usage and unasked) for event in events]
    last, last_dropped = written[-1]
    if chance.random() < 0.15:
        written[-1] = (last.rstrip(b"\r\n"), last_dropped)  # no blank line behind it, no line end
    sent = b"".join(data for data, _ in written)
    kept = b"".join(data for data, dropped in written if not dropped)
    if chance.random() < 0.2 and not written[0][1]:
        sent, kept = BOM + sent, BOM + kept
    return sent, kept, told


@dataclass
class _Event:
    """`lines` without their ends; `usage` marks the chunk that only tells the usage."""

    lines: list[bytes]
    usage: bool = False


class _EventWriter:
    """Writes lines with ends of one kind, or of all kinds; a CR is never followed by the LF of another line's end."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ends = _ENDS if chance.random() < 0.3 else (chance.choice(_ENDS),)
        self.before = b""

    def end(self) -> bytes:
        found = self.chance.choice(self.ends)
        if self.before.endswith(b"\r") and found == b"\n":
            found = b"\r"
        self.before = found
        return found

    def event(self, event: _Event) -> bytes:
        text = b""
        for line in event.lines:
            self.before = self.before if not line else b""
            text += line + self.end()
        return text + self.end()


def _data(noise: Noise, value: bytes, *, name: bytes = b"", usage: bool = False) -> _Event:
    """The lines of one event with this data, which may be parted where JSON has a line feed."""
    chance = noise.chance
    value = value.replace(b"\r", b" ")
    parts = value.split(b"\n")
    lines = [b"event: " + name] if name else []
    if chance.random() < 0.05:
        lines.append(chance.choice((b"id: 7", b"retry: 100", b"unknown: x", b": comment", b"id")))
    space = b" " if chance.random() < 0.9 else b""
    return _Event(lines + [b"data:" + space + part for part in parts], usage)


def _with_strangers(events: Iterable[_Event], noise: Noise) -> list[_Event]:
    """The events with some among them that nobody knows, or that carry nothing."""
    chance, found = noise.chance, []
    for event in events:
        while chance.random() < 0.25:
            found.append(_stranger(noise))
        found.append(event)
    return found


def _stranger(noise: Noise) -> _Event:
    chance = noise.chance
    kind = chance.randrange(7)
    if kind == 0:
        return _Event([chance.choice((b": ping", b":", b": OPENROUTER PROCESSING", b":data: {}"))])
    if kind == 1:
        return _Event([])  # one more blank line
    if kind == 2:
        return _data(noise, noise.object(_typed("unheard_of", noise)), name=b"unheard_of")
    if kind == 3:
        return _Event([b"event: ping", b'data: {"type": "ping"}'])
    if kind == 4:
        return _Event([b"data: not json", b"data", b"foo", b"bar: baz"])
    if kind == 5:
        return _Event([BOM + b"data: in the middle"])
    return _Event([b"data: " + b"x" * chance.randint(1, 40_000)])


def _typed(kind: str, noise: Noise, *more: Member) -> list[Member]:
    return [(b'"type"', noise.literal(kind)), *more, (noise.name(), noise.value(2))]


def _events(ask: Ask, noise: Noise, told: bool) -> list[_Event]:
    write = {"messages": _messages, "chat": _chat, "responses": _responses}[ask.lane.name]
    return write(noise, told)


def _deltas(noise: Noise) -> list[bytes]:
    return [noise.string() for _ in range(noise.chance.randint(0, 6))]


def _messages(noise: Noise, told: bool) -> list[_Event]:
    usage = noise.object([(b'"input_tokens"', b"%d" % KNOWN_IN), (b'"output_tokens"', b"1"), (noise.name(), b"[]")])
    start = noise.object([(b'"id"', b'"msg_1"'), (b'"model"', b'"claude-x"'), (b'"usage"', usage)])
    events = [_data(noise, noise.object(_typed("message_start", noise, (b'"message"', start))), name=b"message_start")]
    for text in _deltas(noise):
        delta = noise.object([(b'"type"', b'"text_delta"'), (b'"text"', text)])
        value = noise.object(_typed("content_block_delta", noise, (b'"index"', b"0"), (b'"delta"', delta)))
        events.append(_data(noise, value, name=b"content_block_delta"))
    if told:
        last = noise.object([(b'"stop_reason"', b'"end_turn"')])
        more = ((b'"delta"', last), (b'"usage"', noise.object([(b'"output_tokens"', b"%d" % KNOWN_OUT)])))
        events.append(_data(noise, noise.object(_typed("message_delta", noise, *more)), name=b"message_delta"))
        events.append(_data(noise, noise.object([(b'"type"', b'"message_stop"')]), name=b"message_stop"))
    return events


def _chat(noise: Noise, told: bool) -> list[_Event]:
    def piece(*more: Member) -> bytes:
        return noise.object([(b'"id"', b'"c_1"'), (b'"model"', b'"gpt-x"'), (noise.name(), noise.value(2)), *more])

    events = []
    for text in [b'""', *_deltas(noise)]:
        choice = noise.object([(b'"index"', b"0"), (b'"delta"', noise.object([(b'"content"', text)]))])
        more = ((b'"usage"', b"null"),) if noise.chance.random() < 0.3 else ()
        events.append(_data(noise, piece((b'"choices"', noise.array([choice])), *more)))
    if told:
        usage = noise.object([(b'"prompt_tokens"', b"%d" % KNOWN_IN), (b'"completion_tokens"', b"%d" % KNOWN_OUT)])
        events.append(_data(noise, piece((b'"choices"', noise.array([])), (b'"usage"', usage)), usage=True))
        events += [_Event([b"data: [DONE]"])] if noise.chance.random() < 0.9 else []
    return events


def _responses(noise: Noise, told: bool) -> list[_Event]:
    def told_of(kind: str, *more: Member) -> _Event:
        response = noise.object([(b'"id"', b'"resp_1"'), (b'"model"', b'"gpt-x"'), (b'"output"', b"[]"), *more])
        return _data(noise, noise.object(_typed(kind, noise, (b'"response"', response))), name=kind.encode())

    events = [told_of("response.created")]
    for text in _deltas(noise):
        value = noise.object(_typed("response.output_text.delta", noise, (b'"delta"', text)))
        events.append(_data(noise, value, name=b"response.output_text.delta"))
    if told:
        events.append(told_of("response.completed", (b'"usage"', _plain_usage(noise))))
    return events


# --- whole answers


def _plain_usage(noise: Noise) -> bytes:
    return noise.object([(b'"input_tokens"', b"%d" % KNOWN_IN), (b'"output_tokens"', b"%d" % KNOWN_OUT)])


def _whole(ask: Ask, noise: Noise) -> bytes:
    if ask.lane.name in ("chat", "embeddings"):
        usage = noise.object([(b'"prompt_tokens"', b"%d" % KNOWN_IN), (b'"completion_tokens"', b"%d" % KNOWN_OUT)])
    else:
        usage = _plain_usage(noise)
    known = [(b'"id"', b'"a_1"'), (b'"model"', b'"x"'), (b'"usage"', usage), (noise.name(), noise.value())]
    noise.chance.shuffle(known)
    return noise.space() + noise.object(known) + noise.space()


def _anything(noise: Noise) -> bytes:
    """Bytes that say nothing of usage: JSON, text, or neither."""
    chance = noise.chance
    size = chance.choice((0, 1, 20, 3_000))
    return chance.choice((noise.object([(noise.name(), noise.value())]), chance.randbytes(size), b"<html>"))


# --- framing


def _frame(answer: Answer, sent: bytes, kind: bytes, chance: random.Random) -> None:
    """Give the answer its head and framing, and part it anew, without regard to either."""
    lines = [kind, *answer.lines]
    endless = b"event-stream" in kind.lower() and not answer.told  # without framing it would seem cut
    framing = chance.randrange(endless, 4)
    if framing == 0:
        lines.append(b"connection: close")
        answer.keeps = False
        body = sent
    elif framing == 1:
        lines.append(b"content-length: %d" % len(sent))
        body = sent
    else:
        lines.append(b"transfer-encoding: chunked")
        body = b"".join(chunk(part) for part in parted(sent, chance)) + END_CHUNK
    head = b"HTTP/1.1 %d Whatever\r\n%b\r\n\r\n" % (answer.status, b"\r\n".join(lines))
    answer.lines = [kind, *answer.lines]
    answer.pieces = parted(head + body, chance)


def parted(data: bytes, chance: random.Random) -> list[bytes]:
    """The data in pieces, none of them empty: one, some, or every byte alone."""
    kind = chance.randrange(8)
    if kind == 0 and len(data) <= _ONE_BYTE_CHUNKS:
        return [data[at : at + 1] for at in range(len(data))]
    if kind < 3:
        return [data] if data else []
    places = sorted(chance.sample(range(len(data) + 1), min(len(data) + 1, chance.randint(1, 12))))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def _lines(chance: random.Random) -> list[bytes]:
    """Header lines that the client must get."""
    choices = (
        b"request-id: req_theirs",
        b"x-unheard-of: " + bytes(chance.choices(range(0x21, 0x7F), k=chance.randint(1, 60))),
        b"anthropic-new: " + json.dumps(chance.random()).encode(),
        b"x-twice: 1",
        b"x-twice: 2",
        b"x-latin: caf\xe9",
        b"retry-after: 7",
        b"x-empty:",
        b"cache-control: no-cache",
    )
    return [line for line in choices if chance.random() < 0.4]

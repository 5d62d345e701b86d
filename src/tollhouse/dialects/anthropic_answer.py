"""Metering an answer of the Messages API, streamed or whole.

`message_start` carries the input side of the usage and how cache writes split, `message_delta` the cumulative output
and whatever of the input side has grown (server tools add input as they go). Both are kept: a later figure replaces an
earlier one, an absent one replaces nothing. Deltas are not tokens; their bytes bound the tokens if the stream is cut.

Thinking may be summarised or omitted while all of it is billed. Then the block's signature carries the whole of it,
encrypted ("Extended thinking": the full thinking is in `signature`), so when the block has ended the bytes of both
bound it; until then nothing does.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from tollhouse.dialects.dialect import MAX_REPORTED, clamp_count, label
from tollhouse.dialects.framing import EventCutter, carries_nothing, decode_leniently, event_data, is_whole, text_bytes
from tollhouse.dialects.likeness import MAX_LEARNED, PLAIN_TEXT, UNLIKE, likeness
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ServerToolUse(msgspec.Struct):
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class _Usage(msgspec.Struct):
    """`usage` as it stands on the wire, None for what was not said; entries of `iterations` have the same shape."""

    type: str | None = None
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    server_tool_use: _ServerToolUse | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    iterations: "list[_Usage] | None" = None


class _Message(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: "_Error | None" = None


class _Error(msgspec.Struct):
    type: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_REPORTED)]


class _PlainSplit(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: _Count = 0
    ephemeral_1h_input_tokens: _Count = 0


class _PlainUsage(msgspec.Struct, gc=False):
    """The usage of nearly every answer: counts that are all sound, served the standard way, without server tools."""

    input_tokens: _Count
    output_tokens: _Count
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _PlainSplit | None = None
    cache_read_input_tokens: _Count | None = None
    server_tool_use: None = None
    service_tier: Literal["standard", ""] | None = None
    speed: Literal["standard", ""] | None = None
    inference_geo: Literal["global", "not_available", ""] | None = None
    iterations: None = None


class _PlainMessage(msgspec.Struct, gc=False):
    """Nearly every whole answer. What it does not fit is read as `_Message`, with the same outcome but slower."""

    type: Literal["message"]
    id: str
    model: str
    usage: _PlainUsage
    error: None = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None


class _ContentBlock(msgspec.Struct):
    type: str = ""
    name: str = ""
    text: str = ""
    data: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    message: _Message | None = None
    content_block: _ContentBlock | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_EVENT = msgspec.json.Decoder(_Event)
_MESSAGE = msgspec.json.Decoder(_Message)
_PLAIN_MESSAGE = msgspec.json.Decoder(_PlainMessage)

_DELTA_HEAD = b"event: content_block_delta\ndata: "
_DELTA_HEAD_BYTES = len(_DELTA_HEAD)
_REST_OF_DELTA = re.compile(rb'(%b)" *\} *\}\n\n' % PLAIN_TEXT.pattern)
"""After the opening quote of its text. Anthropic pads deltas with spaces of changing number."""

_KNOWN_DELTAS = frozenset({"text_delta", "input_json_delta", "thinking_delta", "signature_delta"})
_KNOWN_BLOCKS = frozenset({"text", "tool_use", "server_tool_use", "mcp_tool_use", "redacted_thinking"})
_HIDING_BLOCKS = frozenset({"thinking", "compaction"})


class AnthropicMeter:
    """Meters one streamed answer. Nothing is ever edited or held back."""

    __slots__ = ("_before", "_cutter", "_learned", "_pending", "_text_at", "_thinking", "_total", "seen")

    def __init__(self) -> None:
        self.seen = Seen()
        self._cutter = EventCutter()
        self._pending = self._cutter.pending
        self._total = _Usage()
        self._thinking = False
        self._before = UNLIKE.before
        self._text_at = 0
        self._learned = 0

    @property
    def between_events(self) -> bool:
        return not self._pending

    def feed(self, chunk: bytes) -> bytes:
        if chunk.startswith(self._before) and not self._pending:  # as the delta before, but for its text
            rest = _REST_OF_DELTA.fullmatch(chunk, self._text_at)
            if rest is not None:
                self.seen.output_bound_tokens += rest.end(1) - self._text_at
                return chunk
        if not self._pending and 0 <= chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk:
            self._see(chunk)  # nearly every chunk: one whole event
        elif is_whole(self._cutter, chunk):
            for piece in chunk[:-2].split(b"\n\n"):
                self._see(piece)
        else:
            for piece in self._cutter.add(chunk):
                self._see(piece)
        return chunk

    def close(self) -> bytes:
        self._see(self._cutter.flush())
        return b""

    def _see(self, piece: bytes) -> None:
        if not piece.startswith(_DELTA_HEAD):
            self._see_any(piece)
            return
        try:  # nearly every event: one delta, on one line
            event = _EVENT.decode(piece[_DELTA_HEAD_BYTES:])
        except (ValueError, RecursionError):
            self._see_any(piece)
            return
        seen, delta = self.seen, event.delta
        before = seen.output_bound_tokens
        if delta is not None and delta.type == "text_delta":
            text = delta.text
            seen.output_bound_tokens += len(text) if text.isascii() else text_bytes(text)
        else:
            self._take(event, len(piece))
        if delta is not None and self._learned < MAX_LEARNED and (shown := delta.text or delta.thinking):
            self._learn(piece, shown, seen.output_bound_tokens - before)

    def _learn(self, piece: bytes, text: str, counted_bytes: int) -> None:
        """Know deltas like this one by their bytes, if all that was counted is this text."""
        before, after = likeness(piece, text)
        if len(piece) - len(before) - len(after) == counted_bytes and _REST_OF_DELTA.fullmatch(after):
            self._learned += 1
            self._before = before
            self._text_at = len(before)

    def _see_any(self, piece: bytes) -> None:
        data = event_data(piece)
        if not data:
            if not carries_nothing(piece):
                self.seen.output_bound_tokens += len(piece)
            return
        event = decode_leniently(data, _EVENT)
        if event is None:
            self.seen.output_bound_tokens += len(data)
        else:
            self._take(event, len(data))

    def _take(self, event: _Event, size_bytes: int) -> None:
        seen = self.seen
        kind = event.type
        if kind == "content_block_delta":
            delta = event.delta
            if delta is None or delta.type not in _KNOWN_DELTAS:
                seen.output_bound_tokens += size_bytes
            else:
                shown = (delta.text, delta.partial_json, delta.thinking, delta.signature)
                seen.output_bound_tokens += sum(map(text_bytes, shown))
        elif kind == "content_block_start":
            self._take_block(event.content_block or _ContentBlock(), size_bytes)
        elif kind == "content_block_stop":
            if self._thinking:
                self._thinking = False
                self._hide(False)
        elif kind == "message_start":
            message = event.message or _Message()
            seen.served_model = message.model or ""
            seen.upstream_message_id = message.id or ""
            self._add_usage(message.usage)
        elif kind == "message_delta":
            self._add_usage(event.usage)
            reported = event.usage is not None and event.usage.output_tokens is not None
            if reported and event.delta is not None and event.delta.stop_reason is not None:
                seen.final = seen.input_known
        elif kind == "message_stop":
            seen.complete = True
        elif kind == "error":
            seen.failed = (event.error and event.error.type) or "error"
        elif kind != "ping":
            seen.output_bound_tokens += size_bytes

    def _take_block(self, block: _ContentBlock, size_bytes: int) -> None:
        seen = self.seen
        if block.type in _HIDING_BLOCKS:
            self._thinking = block.type == "thinking" and not seen.hidden_output  # a compaction never comes to light
            self._hide(True)
        elif block.type in _KNOWN_BLOCKS:
            seen.output_bound_tokens += sum(map(text_bytes, (block.name, block.text, block.data)))
        elif not block.type.endswith("_tool_result"):  # results are input of the next turn
            seen.output_bound_tokens += size_bytes

    def _hide(self, hidden: bool) -> None:
        seen = self.seen
        if hidden != seen.hidden_output:
            seen.hidden_output = hidden
            seen.output_bound_tokens += UNSEEN_TOKENS if hidden else -UNSEEN_TOKENS

    def _add_usage(self, said: _Usage | None) -> None:
        if said is None:
            return
        total = self._total
        for name in said.__struct_fields__:
            value, before = getattr(said, name), getattr(total, name)
            if isinstance(value, int) and isinstance(before, int):
                value = max(value, before)  # cumulative: a server that repeats a 0 takes nothing back
            if value is not None:
                setattr(total, name, value)
        self.seen.input_known = total.input_tokens is not None
        self.seen.usage = _to_usage(total)


def read_message(body: bytes) -> Seen:
    """What a whole answer says; an error body sets `failed`. Anything else unreadable leaves everything unknown."""
    try:
        message = _PLAIN_MESSAGE.decode(body)
    except (ValueError, RecursionError):
        return read_any_message(body)
    said = message.usage
    short, long, split = said.cache_creation_input_tokens or 0, 0, said.cache_creation
    if split is not None:
        short, long = _split_writes(short, split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens)
    return Seen(
        usage=Usage(said.input_tokens, short, long, said.cache_read_input_tokens or 0, said.output_tokens),
        input_known=True,
        final=True,
        complete=True,
        served_model=message.model,
        upstream_message_id=message.id,
    )


def read_any_message(body: bytes) -> Seen:
    """As `read_message`, for whatever body comes."""
    message = decode_leniently(body, _MESSAGE)
    if message is None:
        return Seen()
    if message.type == "error" or message.error is not None:
        return Seen(failed=(message.error and message.error.type) or "error", complete=True)
    usage = message.usage or _Usage()
    known = usage.input_tokens is not None
    return Seen(
        usage=_to_usage(usage),
        input_known=known,
        final=known and usage.output_tokens is not None,
        complete=True,
        served_model=message.model or "",
        upstream_message_id=message.id or "",
    )


def _to_usage(said: _Usage) -> Usage:
    short, long = _cache_writes(said)
    tools = said.server_tool_use or _ServerToolUse()
    usage = Usage(
        input_tokens=clamp_count(said.input_tokens),
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        cache_read_tokens=clamp_count(said.cache_read_input_tokens),
        output_tokens=clamp_count(said.output_tokens),
        web_searches=clamp_count(tools.web_search_requests),
        web_fetches=clamp_count(tools.web_fetch_requests),
        variant=_variant(said),
    )
    for extra in said.iterations or ():
        if extra.type not in (None, "message", "fallback_message"):
            usage = _with_tokens(usage, _to_usage(extra))
    return usage


def _with_tokens(usage: Usage, extra: Usage) -> Usage:
    """Add the tokens of an iteration the totals leave out, such as `compaction`."""
    return msgspec.structs.replace(
        usage,
        input_tokens=usage.input_tokens + extra.input_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens + extra.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens + extra.cache_write_1h_tokens,
        cache_read_tokens=usage.cache_read_tokens + extra.cache_read_tokens,
        output_tokens=usage.output_tokens + extra.output_tokens,
    )


def _cache_writes(said: _Usage) -> tuple[int, int]:
    """Tokens written to the 5-minute and the 1-hour cache.

    The split came with the 1-hour cache, so a server that sends none has the 5-minute one alone.
    """
    total, split = clamp_count(said.cache_creation_input_tokens), said.cache_creation
    if split is None:
        return total, 0
    short, long = clamp_count(split.ephemeral_5m_input_tokens), clamp_count(split.ephemeral_1h_input_tokens)
    return _split_writes(total, short, long)


def _split_writes(total: int, short: int, long: int) -> tuple[int, int]:
    """Where a split covers less than the total, the server knows both caches: the rest counts as the dearer."""
    rest = total - short - long
    return short, long + rest if rest > 0 else long


def _variant(said: _Usage) -> str | None:
    """How the call was served, if not in the standard way: `fast`, `priority`, `batch`, `us`, several as `fast+us`."""
    parts: list[Any] = [said.speed, said.service_tier]
    if said.inference_geo not in (None, "", "global", "not_available"):
        parts.append(said.inference_geo)
    return label("+".join(part for part in parts if part not in (None, "", "standard"))) or None

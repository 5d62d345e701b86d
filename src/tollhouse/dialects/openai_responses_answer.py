"""Metering an answer of the Responses API, streamed or whole.

A stream is told twice: in deltas, and again when each item, and at last the response, is done. Usage comes with the
last event alone (`response.completed`, `response.incomplete` or `response.failed`), which closes the stream. Until then
what was generated is bounded by the bytes of the deltas, or of the finished items if those are more.

Reasoning is billed and mostly not shown, and a stream does not say whether a model reasons. So bytes bound the output
only where it is known that all of it is shown: OpenAI's models from before reasoning, and answers whose reasoning comes
as text, which only open models do.

The last event repeats the whole answer, and instructions and tools besides, so an event may be long here.
"""

import re

import msgspec

from tollhouse.dialects.dialect import clamp_count, label
from tollhouse.dialects.framing import EventCutter, carries_nothing, decode_leniently, event_data, is_whole, text_bytes
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage

MAX_RESPONSE_BYTES = 8 << 20
"""Longest event that is metered."""

_NOTHING = msgspec.Raw()


class _CacheWrites(msgspec.Struct):
    ttl_12h_tokens: int | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: _CacheWrites | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | int | None = None


class _Searches(msgspec.Struct):
    num_requests: int | None = None


class _ToolUsage(msgspec.Struct):
    web_search: _Searches | None = None


class _Content(msgspec.Struct):
    text: str = ""
    refusal: str = ""


class _Item(msgspec.Struct):
    """An output item as far as it is read; `input` is a custom tool's."""

    type: str = ""
    name: str = ""
    arguments: str = ""
    input: str = ""
    content: list[_Content] | None = None
    summary: list[_Content] | None = None


class _Response(msgspec.Struct):
    """What may change its shape one day stays undecoded: usage must be read all the same."""

    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    service_tier: str | None = None
    error: _Error | str | None = None
    output: msgspec.Raw = _NOTHING
    tool_usage: msgspec.Raw = _NOTHING


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None
    response: _Response | None = None
    item: msgspec.Raw = _NOTHING
    part: _Content | None = None
    error: _Error | str | None = None
    code: str | int | None = None


class _TextDelta(msgspec.Struct, gc=False):
    """What there is to read of nearly every event."""

    type: str
    delta: str


class _Kind(msgspec.Struct):
    type: str = ""


_EVENT = msgspec.json.Decoder(_Event)
_TEXT_DELTA = msgspec.json.Decoder(_TextDelta)
_RESPONSE = msgspec.json.Decoder(_Response)
_ITEM = msgspec.json.Decoder(_Item)
_ITEM_KINDS = msgspec.json.Decoder(list[_Kind])
_TOOL_USAGE = msgspec.json.Decoder(_ToolUsage)

_TEXT = "response.output_text.delta"
_DELTA_HEAD = b"event: response.output_text.delta\ndata: "
_DELTA_HEAD_BYTES = len(_DELTA_HEAD)
_CLOSING = frozenset({"response.completed", "response.incomplete", "response.failed"})
_OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
_TOLD_AGAIN = frozenset(
    {
        "response.output_text.done",
        "response.content_part.done",
        "response.refusal.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
        "response.reasoning_text.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "keepalive",
    }
)
"""They carry nothing new: what they repeat counts with its deltas, or with its item."""
_KNOWN_ITEMS = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
_STANDARD_TIERS = frozenset({"default", "standard", "auto"})
_SHOWS_ALL = re.compile(r"(?:[\w.-]+/)?(?:gpt-3\.5|gpt-4|chatgpt-4o)")


class OpenAIResponsesMeter:
    """Meters one streamed answer. Nothing is ever edited or held back."""

    __slots__ = ("_cutter", "_in_deltas", "_in_items", "_pending", "seen")

    def __init__(self) -> None:
        self.seen = Seen(hidden_output=True, output_bound_tokens=UNSEEN_TOKENS)
        self._cutter = EventCutter(MAX_RESPONSE_BYTES)
        self._pending = self._cutter.pending
        self._in_deltas = 0
        self._in_items = 0

    @property
    def between_events(self) -> bool:
        return not self._pending

    def feed(self, chunk: bytes) -> bytes:
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
            event = _TEXT_DELTA.decode(piece[_DELTA_HEAD_BYTES:])
        except (ValueError, RecursionError):
            self._see_any(piece)
            return
        text = event.delta
        if event.type == _TEXT:
            self._count(len(text) if text.isascii() else text_bytes(text))
        else:
            self._see_any(piece)

    def _see_any(self, piece: bytes) -> None:
        data = event_data(piece)
        if not data:
            if not carries_nothing(piece):
                self._count(len(piece))
            return
        if data.strip() == b"[DONE]":
            return
        event = decode_leniently(data, _EVENT)
        if event is None:
            self._count(len(data))
        else:
            self._take(event, len(data))

    def _take(self, event: _Event, size_bytes: int) -> None:
        kind = event.type
        if event.delta is not None and kind.endswith(".delta"):
            self._count(text_bytes(event.delta))
            if kind == "response.reasoning_text.delta":
                self._unhide()
        elif kind in _CLOSING or kind in _OPENING:
            self._take_response(event.response or _Response(), closing=kind in _CLOSING)
        elif kind == "response.output_item.done":
            self._count_again(_item_bytes(event.item))
        elif kind == "response.output_item.added":
            self._count(_item_bytes(event.item))
        elif kind.endswith("_part.added") and event.part is not None:
            self._count(text_bytes(event.part.text))
        elif kind == "error" or (not kind and event.error is not None):
            self.seen.failed = _error_name(event.error) if event.error is not None else str(event.code or "error")
        elif kind not in _TOLD_AGAIN:
            self._count(size_bytes)

    def _take_response(self, response: _Response, *, closing: bool) -> None:
        seen = self.seen
        seen.served_model = response.model or seen.served_model
        seen.upstream_message_id = response.id or seen.upstream_message_id
        if response.error is not None:
            seen.failed = _error_name(response.error)
        if _SHOWS_ALL.match(seen.served_model):
            self._unhide()
        if closing:
            seen.complete = True
            _take_usage(seen, response)

    def _count(self, in_deltas: int) -> None:
        """Add what was told for the first time."""
        self._in_deltas += in_deltas
        if self._in_deltas > self._in_items:
            self._bound(self._in_deltas)

    def _count_again(self, in_items: int) -> None:
        """Add what was told again."""
        self._in_items += in_items
        if self._in_items > self._in_deltas:
            self._bound(self._in_items)

    def _bound(self, shown: int) -> None:
        seen = self.seen
        seen.output_bound_tokens = shown + UNSEEN_TOKENS if seen.hidden_output else shown

    def _unhide(self) -> None:
        self.seen.hidden_output = False
        self._bound(max(self._in_deltas, self._in_items))


def read_response(body: bytes) -> Seen:
    """What a whole answer says; an error sets `failed`. Anything unreadable leaves everything unknown."""
    response = decode_leniently(body, _RESPONSE)
    if response is None:
        return Seen()
    seen = Seen(complete=True, served_model=response.model or "", upstream_message_id=response.id or "")
    if response.error is not None:
        seen.failed = _error_name(response.error)
    _take_usage(seen, response)
    return seen


def _take_usage(seen: Seen, response: _Response) -> None:
    said = response.usage
    if said is None:
        return
    seen.usage = _to_usage(said, response)
    seen.input_known = said.input_tokens is not None
    seen.final = seen.input_known and said.output_tokens is not None


def _to_usage(said: _Usage, response: _Response) -> Usage:
    """Disjoint counts: the totals include their details. Details beyond the total are cut, the cheapest first."""
    details = said.input_tokens_details or _InputDetails()
    writes = details.cache_write_tokens_details or _CacheWrites()
    left = clamp_count(said.input_tokens)
    written = min(clamp_count(details.cache_write_tokens), left)
    long = min(clamp_count(writes.ttl_12h_tokens), written)
    read = min(clamp_count(details.cached_tokens), left - written)
    tier = response.service_tier
    return Usage(
        input_tokens=left - written - read,
        cache_write_5m_tokens=written - long,
        cache_write_1h_tokens=long,
        cache_read_tokens=read,
        output_tokens=clamp_count(said.output_tokens),
        web_searches=_web_searches(response),
        variant=None if not tier or tier in _STANDARD_TIERS else label(tier),
    )


def _web_searches(response: _Response) -> int:
    """Billable searches as reported; where they are not, every call counts."""
    usage = decode_leniently(bytes(response.tool_usage), _TOOL_USAGE)
    if usage is not None and usage.web_search is not None and usage.web_search.num_requests is not None:
        return clamp_count(usage.web_search.num_requests)
    items = decode_leniently(bytes(response.output), _ITEM_KINDS)
    return sum(item.type == "web_search_call" for item in items or ())


def _item_bytes(raw: msgspec.Raw) -> int:
    """Bytes of what was generated in an item; of one that is not known, all."""
    data = bytes(raw)
    item = decode_leniently(data, _ITEM)
    if item is None or item.type not in _KNOWN_ITEMS:
        return len(data)
    parts = [*(item.content or ()), *(item.summary or ())]
    texts = (item.name, item.arguments, item.input, *(part.text for part in parts), *(part.refusal for part in parts))
    return sum(map(text_bytes, texts))


def _error_name(error: _Error | str) -> str:
    if isinstance(error, str):
        return "error"
    return str(error.code or error.type or "error")

"""Metering an answer of chat completions, streamed or whole.

A stream carries usage only if `stream_options.include_usage` asked for it, in a last chunk whose `choices` are empty.
When we asked and the client did not, that one event is taken out and everything else stays as it was, byte for byte.
An unfinished event at the end of a chunk might be it, so it waits for its end unless it shows a choice already; nothing
else ever waits. Other servers put usage into the last chunk with choices, or into every one: the last figures count,
and they are final once the stream is closed by `[DONE]`.

Reasoning is billed and mostly not shown, and a stream does not say whether a model reasons. So bytes bound the output
only where it is known that all of it is shown: OpenAI's models from before reasoning, llama.cpp, and answers that carry
`reasoning_content`.
"""

import re

import msgspec

from tollhouse.dialects.dialect import clamp_count, label
from tollhouse.dialects.framing import (
    EventCutter,
    blank_lines_before,
    carries_nothing,
    decode_leniently,
    event_data,
    is_whole,
    text_bytes,
)
from tollhouse.dialects.likeness import MAX_LEARNED, PLAIN_TEXT, UNLIKE, likeness
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage

_NOTHING = msgspec.Raw()


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name of `cached_tokens`."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None
    custom: msgspec.Raw = _NOTHING


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: msgspec.Raw = _NOTHING
    role: str | None = None

    @property
    def more(self) -> bool:
        """There is something else than plain content."""
        return (
            self.tool_calls is not None
            or self.reasoning_content is not None
            or self.reasoning is not None
            or self.refusal is not None
            or self.function_call is not None
            or self.audio is not _NOTHING
        )

    @property
    def known(self) -> bool:
        return self.content is not None or self.role is not None or self.more


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct, gc=False):
    """A chunk of a stream, or a whole completion."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_HEAD = b"data: "
_HEAD_BYTES = len(_HEAD)
_DONE = b"[DONE]"
_A_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_STANDARD_TIERS = frozenset({"default", "standard", "auto", "on_demand"})
_SHOWS_ALL = re.compile(r"(?:[\w.-]+/)?(?:gpt-3\.5|gpt-4|chatgpt-4o)")
_LLAMA_CPP = re.compile(r"b\d+-\w+$")
MAX_HELD_BACK_BYTES = 1 << 16
"""A usage chunk is some hundred bytes; a longer unfinished event is another one."""


class OpenAIChatMeter:
    """Meters one streamed answer and takes the usage chunk out of it if told so."""

    __slots__ = (
        "_after",
        "_ahead",
        "_before",
        "_cutter",
        "_learned",
        "_pending",
        "_started",
        "_swallow",
        "_text_at",
        "seen",
    )

    def __init__(self, *, swallow_usage: bool) -> None:
        self.seen = Seen(hidden_output=True, output_bound_tokens=UNSEEN_TOKENS)
        self._cutter = EventCutter()
        self._pending = self._cutter.pending
        self._swallow = swallow_usage
        self._started = False
        self._before, self._after = UNLIKE
        self._text_at = 0
        self._learned = 0
        self._ahead = 0
        """Bytes of the pending event that were relayed already."""

    @property
    def between_events(self) -> bool:
        pending = len(self._pending)
        return pending == 0 or (self._swallow and self._ahead == 0)

    def feed(self, chunk: bytes) -> bytes:
        if chunk.startswith(self._before) and chunk.endswith(self._after) and not self._pending:
            end = len(chunk) - len(self._after)  # as the chunk before, but for its text
            if PLAIN_TEXT.fullmatch(chunk, self._text_at, end):
                self.seen.output_bound_tokens += end - self._text_at
                return chunk
        if not self._pending and 0 <= chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk:
            is_usage = self._see(chunk)  # nearly every chunk: one whole event
            return blank_lines_before(chunk) if is_usage and self._swallow else chunk
        if is_whole(self._cutter, chunk):
            pieces = [piece + b"\n\n" for piece in chunk[:-2].split(b"\n\n")]
            kept = [blank_lines_before(piece) if self._see(piece) else piece for piece in pieces]
            return b"".join(kept) if self._swallow and kept != pieces else chunk
        if self._swallow:
            return self._feed_swallowing(chunk)
        for piece in self._cutter.add(chunk):
            self._see(piece)
        return chunk

    def close(self) -> bytes:
        piece = self._cutter.flush()
        is_usage = self._see(piece)
        if not self._swallow:
            return b""
        return blank_lines_before(piece) if is_usage and self._ahead == 0 else piece[self._ahead :]

    def _feed_swallowing(self, chunk: bytes) -> bytes:
        relay: list[bytes] = []
        for piece in self._cutter.add(chunk):
            is_usage = self._see(piece)
            dropped = is_usage and self._ahead == 0
            relay.append(blank_lines_before(piece) if dropped else piece[self._ahead :])
            self._ahead = 0
        pending = self._pending
        if self._ahead or len(pending) > MAX_HELD_BACK_BYTES or _A_CHOICE.search(pending):
            relay.append(bytes(pending[self._ahead :]))
            self._ahead = len(pending)
        return b"".join(relay)

    def _see(self, piece: bytes) -> bool:
        """Meter one event; True if it is the usage chunk."""
        if piece.startswith(_HEAD):
            try:  # nearly every event: one line
                event = _CHUNK.decode(piece[_HEAD_BYTES:])
            except (ValueError, RecursionError):
                return self._see_any(piece)
            before = self.seen.output_bound_tokens
            is_usage = self._take(event, len(piece))
            if self._learned < MAX_LEARNED:
                self._learn(piece, event, self.seen.output_bound_tokens - before)
            return is_usage
        return self._see_any(piece)

    def _learn(self, piece: bytes, event: _Chunk, counted_bytes: int) -> None:
        """Know chunks like this one by their bytes, if all that was counted is its text."""
        delta = event.choices[0].delta if event.choices else None
        if delta is None or event.usage is not None or event.error is not None:
            return
        before, after = likeness(piece, delta.content or "")
        if len(piece) - len(before) - len(after) == counted_bytes:
            self._learned += 1
            self._before, self._after = before, after
            self._text_at = len(before)

    def _see_any(self, piece: bytes) -> bool:
        data = event_data(piece)
        if not data:
            if not carries_nothing(piece):
                self.seen.output_bound_tokens += len(piece)
            return False
        if data.strip() == _DONE:
            self.seen.complete = True
            self.seen.final = self.seen.input_known
            return False
        chunk = decode_leniently(data, _CHUNK)
        if chunk is None:
            self.seen.output_bound_tokens += len(data)
            return False
        return self._take(chunk, len(data))

    def _take(self, event: _Chunk, size_bytes: int) -> bool:
        seen = self.seen
        if not self._started:
            self._start(event)
        for choice in event.choices or ():
            delta = choice.delta
            if delta is None or not delta.known:
                seen.output_bound_tokens += 0 if choice.finish_reason else size_bytes
                continue
            text = delta.content
            if text is not None:
                seen.output_bound_tokens += len(text) if text.isascii() else text_bytes(text)
            if delta.more:
                self._take_rest(delta)
        if event.error is not None:
            seen.failed = _error_type(event.error)
        if event.usage is None:
            return False
        return self._take_usage(event)

    def _start(self, event: _Chunk) -> None:
        seen = self.seen
        self._started = True
        seen.served_model = event.model or ""
        seen.upstream_message_id = event.id or ""
        if _SHOWS_ALL.match(seen.served_model) or _LLAMA_CPP.match(event.system_fingerprint or ""):
            self._unhide()

    def _unhide(self) -> None:
        if self.seen.hidden_output:
            self.seen.hidden_output = False
            self.seen.output_bound_tokens -= UNSEEN_TOKENS

    def _take_rest(self, delta: _Delta) -> None:
        seen = self.seen
        if delta.reasoning_content:
            self._unhide()
        for text in (delta.reasoning_content, delta.reasoning, delta.refusal):
            seen.output_bound_tokens += text_bytes(text or "")
        for call in delta.tool_calls or ():
            seen.output_bound_tokens += _function_bytes(call.function) + len(memoryview(call.custom))
        seen.output_bound_tokens += _function_bytes(delta.function_call) + len(memoryview(delta.audio))

    def _take_usage(self, event: _Chunk) -> bool:
        seen = self.seen
        usage = event.usage or _Usage()
        seen.usage = _to_usage(usage, event.service_tier)
        seen.input_known = usage.prompt_tokens is not None
        if event.choices:
            return False
        seen.final = seen.input_known and usage.completion_tokens is not None
        return event.error is None


def read_completion(body: bytes) -> Seen:
    """What a whole answer says; an error body sets `failed`. Anything else unreadable leaves everything unknown."""
    answer = decode_leniently(body, _CHUNK)
    if answer is None:
        return Seen()
    if answer.error is not None:
        return Seen(failed=_error_type(answer.error), complete=True)
    usage = answer.usage or _Usage()
    known = usage.prompt_tokens is not None
    return Seen(
        usage=_to_usage(usage, answer.service_tier),
        input_known=known,
        final=known and usage.completion_tokens is not None,
        complete=True,
        served_model=answer.model or "",
        upstream_message_id=answer.id or "",
    )


def _to_usage(said: _Usage, tier: str | None) -> Usage:
    """Disjoint counts: OpenAI's totals include their details. Details beyond the total are cut, the cheapest first."""
    prompt = said.prompt_tokens_details or _PromptDetails()
    completion = said.completion_tokens_details or _CompletionDetails()
    left = clamp_count(said.prompt_tokens)
    audio = min(clamp_count(prompt.audio_tokens), left)
    written = min(clamp_count(prompt.cache_write_tokens), left - audio)
    cached = prompt.cached_tokens if prompt.cached_tokens is not None else said.prompt_cache_hit_tokens
    read = min(clamp_count(cached), left - audio - written)
    output = clamp_count(said.completion_tokens)
    output_audio = min(clamp_count(completion.audio_tokens), output)
    return Usage(
        input_tokens=left - audio - written - read,
        cache_write_5m_tokens=written,
        cache_read_tokens=read,
        output_tokens=output - output_audio,
        input_audio_tokens=audio,
        output_audio_tokens=output_audio,
        variant=None if not tier or tier in _STANDARD_TIERS else label(tier),
    )


def _function_bytes(function: _Function | None) -> int:
    return 0 if function is None else text_bytes(function.name or "") + text_bytes(function.arguments or "")


def _error_type(error: _Error | str) -> str:
    if isinstance(error, str):
        return "error"
    return error.type or str(error.code or "error")

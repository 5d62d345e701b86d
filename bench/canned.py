"""The canned answers of the mock provider, made once: Anthropic's Messages and OpenAI's chat completions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

MODEL = "claude-sonnet-4-5"

_TEXT = "A toll house stood by the road; each cart paid once, and the book was kept by the hour. "
_WORDS = "a word or two, "


def json_answer(payload: object, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP answer with a length."""
    body = json.dumps(payload).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nrequest-id: req_bench\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(payload: Mapping[str, object]) -> bytes:
    return f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n".encode()


def _chat_chunk(delta: dict[str, str], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    payload: dict[str, object] = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "model": MODEL,
        "created": 1,
    }
    payload["choices"] = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    if usage:
        payload["usage"] = usage
    return f"data: {json.dumps(payload)}\n\n".encode()


@dataclass(frozen=True)
class Lane:
    """The canned answers of one dialect; the stream's parts are already framed as HTTP chunks."""

    answer: bytes
    opening: bytes
    delta: bytes
    closing: bytes


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


def messages_lane() -> Lane:
    """Anthropic Messages."""
    usage = {"input_tokens": 120, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 24}
    message: dict[str, object] = {"id": "msg_bench", "type": "message", "role": "assistant", "model": MODEL}
    whole = message | {"content": [{"type": "text", "text": _TEXT}], "stop_reason": "end_turn", "stop_sequence": None}
    start = message | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 1}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _WORDS}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
    return Lane(
        answer=json_answer(whole | {"usage": usage}),
        opening=_STREAM_HEAD + _chunk(_event({"type": "message_start", "message": start})) + _chunk(_event(block)),
        delta=_chunk(_event(delta)),
        closing=_chunk(_event({"type": "content_block_stop", "index": 0}))
        + _chunk(_event(stop))
        + _chunk(_event({"type": "message_stop"}))
        + _LAST_CHUNK,
    )


def chat_lane() -> Lane:
    """OpenAI chat completions."""
    usage = {"prompt_tokens": 120, "completion_tokens": 24, "total_tokens": 144}
    choice = {"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": MODEL}
    return Lane(
        answer=json_answer(head | {"choices": [choice], "usage": usage}),
        opening=_STREAM_HEAD + _chunk(_chat_chunk({"role": "assistant", "content": ""})),
        delta=_chunk(_chat_chunk({"content": _WORDS})),
        closing=_chunk(_chat_chunk({}, "stop"))
        + _chunk(_chat_chunk({}, usage=usage))
        + _chunk(b"data: [DONE]\n\n")
        + _LAST_CHUNK,
    )

"""Requests and answers that journeys send through the scripted provider, and what they cost."""

import json
from typing import Any

import httpx

from tests.dialects.recorded import recording
from tests.scripted import END, Step, chunk, reply, stream_head
from tests.serving import Gateway

MODEL = "claude-sonnet-4-6"
CHAT_MODEL = "gpt-4o"
INPUT_NUSD, OUTPUT_NUSD = 3_000, 15_000
"""What a token of MODEL costs."""
QUESTION = [{"role": "user", "content": "Hello"}]
TEXT_STREAM = recording("anthropic_text.sse")


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": QUESTION} | fields


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "messages": QUESTION} | fields


def message(input_tokens: int = 10, output_tokens: int = 20, **fields: Any) -> bytes:
    """A whole answer of Anthropic's."""
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    content = [{"type": "text", "text": "Hello."}]
    facts = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content}
    return json.dumps({**facts, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **fields}).encode()


def answer(input_tokens: int = 10, output_tokens: int = 20) -> bytes:
    return reply(200, message(input_tokens, output_tokens))


def cost_nusd(input_tokens: int, output_tokens: int) -> int:
    return input_tokens * INPUT_NUSD + output_tokens * OUTPUT_NUSD


def event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def start_event(input_tokens: int = 10) -> bytes:
    usage = {"input_tokens": input_tokens, "output_tokens": 1}
    facts = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    opened = {"index": 0, "content_block": {"type": "text", "text": ""}}
    return event("message_start", message={**facts, "usage": usage}) + event("content_block_start", **opened)


def text_event(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def end_events(output_tokens: int = 20) -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {"output_tokens": output_tokens}
    return (
        event("content_block_stop", index=0) + event("message_delta", delta=delta, usage=usage) + event("message_stop")
    )


def streamed(*pieces: bytes | Step, headers: tuple[tuple[str, str], ...] = ()) -> list[Step]:
    """A script that streams these pieces, each in a chunk, with what else a script knows between them."""
    return [stream_head(*headers), *(chunk(piece) if isinstance(piece, bytes) else piece for piece in pieces), END]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def post(
    gateway: Gateway, key: str, fields: dict[str, Any] | bytes, path: str = "/v1/messages", **headers: str
) -> httpx.Response:
    """One call over a connection of its own. Names of headers with `_` for `-`."""
    content = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"x-api-key": key, "content-type": "application/json", **named}
    return httpx.post(gateway.url + path, content=content, headers=lines, timeout=30, trust_env=False)

"""The calls that are measured: the same bytes go to every gateway, but for its own host and key."""

import json
from dataclasses import dataclass

from bench.canned import MODEL

PATH = "/v1/messages"
_USER_AGENT = "Anthropic/Python 2.12.0"
_QUESTION = "Who kept the book of the toll house, and how was a cart with two horses counted?"


@dataclass(frozen=True)
class Endpoint:
    """Where a gateway listens on 127.0.0.1, what a caller must present, and which path tells that it may serve."""

    port: int
    key: str
    ready_path: str
    headers: tuple[tuple[str, str], ...] = ()  # what it wants to be told with every call


def plain_body(size_bytes: int = 0) -> bytes:
    """A question; padded, when asked, to exactly `size_bytes` as a long system prompt would."""
    body = _body({})
    return body if size_bytes <= len(body) else _body({}, padding=size_bytes - len(body))


def streamed_body(rate: int, events: int) -> bytes:
    """A question whose answer comes as `events` deltas, `rate` a second; rate 0 is a stream that stays silent."""
    return _body({"stream": True}, prompt=f"{_QUESTION} rate={rate} events={events}")


def request(endpoint: Endpoint, body: bytes) -> bytes:
    """One whole HTTP/1.1 request with the headers of an SDK."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{endpoint.port}\r\naccept: application/json\r\n"
        f"content-type: application/json\r\nuser-agent: {_USER_AGENT}\r\nanthropic-version: 2023-06-01\r\n"
        f"x-api-key: {endpoint.key}\r\ncontent-length: {len(body)}\r\n"
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers)
    return f"{head}{more}\r\n".encode() + body


def _body(extra: dict[str, object], prompt: str = _QUESTION, padding: int = 0) -> bytes:
    payload: dict[str, object] = {"model": MODEL, "max_tokens": 256, "system": "Answer briefly." + "x" * padding}
    payload["messages"] = [{"role": "user", "content": prompt}]
    return json.dumps(payload | extra).encode()

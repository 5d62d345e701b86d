"""A provider that costs next to nothing: it speaks Anthropic's Messages and OpenAI's chat completions in canned bytes.

The prompt says how a streamed answer behaves, because the prompt is the one part of a request that every gateway hands
on untouched: `rate=100 events=500` is 500 text deltas at 100 a second; `rate=0` opens a stream that then stays silent.

    python -m bench.mock_upstream [--certificate PEM --key PEM]

prints {"port": …, "tls_port": …} when it listens, and ends when its standard input is closed. It stands on bare sockets
and one epoll: an asyncio protocol is far dearer by TLS, and then nginx would wait for it instead of being measured.
"""

import argparse
import gc
import json
import re
import select
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from bench.metronome import Metronome

MODEL = "claude-sonnet-4-5"
REQUEST_LIMIT_BYTES = 32 * 1024 * 1024
RECEIVE_BYTES = 256 * 1024
EVENTS_LIMIT = 1_000_000

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_BEHAVIOUR = re.compile(rb"rate=(\d+) events=(\d+)")
_TEXT = "A toll house stood by the road; each cart paid once, and the book was kept by the hour. "
_WORDS = "a word or two, "


def _json_answer(payload: object, status: bytes = b"200 OK") -> bytes:
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
        answer=_json_answer(whole | {"usage": usage}),
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
        answer=_json_answer(head | {"choices": [choice], "usage": usage}),
        opening=_STREAM_HEAD + _chunk(_chat_chunk({"role": "assistant", "content": ""})),
        delta=_chunk(_chat_chunk({"content": _WORDS})),
        closing=_chunk(_chat_chunk({}, "stop"))
        + _chunk(_chat_chunk({}, usage=usage))
        + _chunk(b"data: [DONE]\n\n")
        + _LAST_CHUNK,
    )


class Connection:
    """One connection of a gateway. Requests are cut by hand (a length or chunks); the answers are canned."""

    def __init__(self, provider: "Provider", sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.gone = False
        self._provider = provider
        self._got: list[bytes] = []
        self._size_bytes = 0
        self._whole_bytes = 0  # of the request that is being received; 0: its head is not complete
        self._unsent = b""
        self._shaking_hands = isinstance(sock, ssl.SSLSocket)

    @property
    def paused(self) -> bool:
        """Whether the gateway is not reading."""
        return bool(self._unsent)

    def ready(self, mask: int) -> None:
        """The socket can be read or written."""
        try:
            if self._shaking_hands:
                cast("ssl.SSLSocket", self.sock).do_handshake()
                self._shaking_hands = False
            elif mask & select.EPOLLOUT:
                unsent, self._unsent = self._unsent, b""
                self._provider.watch(self, select.EPOLLIN)
                self.write(unsent)
            else:
                self._take(self._receive())
        except ssl.SSLWantReadError:
            return
        except OSError:  # the gateway has gone, in whatever way
            self.close()

    def write(self, data: bytes) -> None:
        """Send; what the socket does not take waits until it can."""
        if self.gone or self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._provider.watch(self, select.EPOLLIN | select.EPOLLOUT)

    def close(self) -> None:
        """Forget the connection; its stream ends at the next beat."""
        if not self.gone:
            self.gone = True
            self._provider.forget(self)
            self.sock.close()

    def _receive(self) -> bytes:
        data = self.sock.recv(RECEIVE_BYTES)
        if isinstance(self.sock, ssl.SSLSocket):
            while self.sock.pending():  # epoll does not know of what OpenSSL has decrypted already
                data += self.sock.recv(RECEIVE_BYTES)
        return data

    def _take(self, data: bytes) -> None:
        if not data:
            self.close()
            return
        self._got.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > REQUEST_LIMIT_BYTES:
            self.close()
        elif self._size_bytes >= self._whole_bytes:
            self._cut()

    def _cut(self) -> None:
        """Answer every whole request among the bytes so far."""
        data = b"".join(self._got)
        while data:
            head_bytes = data.find(b"\r\n\r\n") + 4
            if head_bytes < 4:
                break
            if length := _LENGTH.search(data, 0, head_bytes):
                self._whole_bytes = head_bytes + int(length[1])
            elif _CHUNKED.search(data, 0, head_bytes):
                last = data.find(b"\r\n0\r\n\r\n", head_bytes - 2)
                self._whole_bytes = last + 7 if last >= 0 else len(data) + 1
            else:
                self._whole_bytes = head_bytes
            if self._whole_bytes > len(data):
                break
            request, data = data[: self._whole_bytes], data[self._whole_bytes :]
            self._whole_bytes = 0
            self._provider.answer(self, request)
        self._got, self._size_bytes = [data] if data else [], len(data)


class Stream:
    """One streamed answer on its way."""

    def __init__(self, connection: Connection, lane: Lane, events: int) -> None:
        self._connection = connection
        self._lane = lane
        self._left = events

    def step(self) -> bool:
        """Send the next delta, or the end; a connection that does not read is skipped for this beat."""
        connection = self._connection
        if connection.gone:
            return False
        if connection.paused:
            return True
        if self._left:
            self._left -= 1
            connection.write(self._lane.delta)
            return True
        connection.write(self._lane.closing)
        return False


class Provider:
    """The sockets, the beats and the canned answers; one thread, one epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._metronomes: dict[int, Metronome] = {}
        self._lanes = {b"/v1/messages": messages_lane(), b"/v1/chat/completions": chat_lane()}
        self._others = {
            b"/v1/models": _json_answer(
                {"object": "list", "data": [{"id": MODEL, "type": "model"}], "has_more": False}
            ),
            b"/v1/messages/count_tokens": _json_answer({"input_tokens": 120}),
        }
        self._unknown = _json_answer({"type": "error", "error": {"type": "not_found_error"}}, b"404 Not Found")

    def listen(self, context: ssl.SSLContext | None = None) -> int:
        """Accept connections on a free loopback port; the port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        listener.setblocking(False)

        def accept(mask: int) -> None:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            connection = Connection(self, sock)
            self._register(connection.fd, connection.ready)

        self._register(listener.fileno(), accept)
        port: int = listener.getsockname()[1]
        return port

    def run(self, until_closed: int) -> None:
        """Serve until the descriptor `until_closed` reports anything."""
        self._epoll.register(until_closed, select.EPOLLIN)
        handlers, poll = self._handlers, self._epoll.poll
        while True:
            for fd, mask in poll():
                if fd == until_closed:
                    return
                handler = handlers.get(fd)
                if handler:  # else a connection that an earlier event of this turn has closed
                    handler(mask)

    def watch(self, connection: Connection, mask: int) -> None:
        """Change what a connection waits for."""
        self._epoll.modify(connection.fd, mask)

    def forget(self, connection: Connection) -> None:
        """Hear no more of a connection."""
        del self._handlers[connection.fd]
        self._epoll.unregister(connection.fd)

    def answer(self, connection: Connection, request: bytes) -> None:
        """Answer one request by its path and, when it asks for a stream, by its prompt."""
        path = request[: request.find(b"\r\n")].split(b" ")[1].partition(b"?")[0]
        lane = self._lanes.get(path)
        if lane is None:
            connection.write(self._others.get(path, self._unknown))
        elif b'"stream"' in request and _STREAMED.search(request):  # a plain find first: re walks 50 KB far slower
            self._start_stream(connection, lane, request)
        else:
            connection.write(lane.answer)

    def _start_stream(self, connection: Connection, lane: Lane, request: bytes) -> None:
        asked = _BEHAVIOUR.search(request)
        rate, events = (int(asked[1]), min(int(asked[2]), EVENTS_LIMIT)) if asked else (100, 20)
        connection.write(lane.opening)
        if not rate:
            return  # silent for as long as the gateway keeps the connection
        if rate not in self._metronomes:
            metronome = self._metronomes[rate] = Metronome(rate)
            self._register(metronome.fileno(), metronome.tick)
        self._metronomes[rate].add(Stream(connection, lane, events))

    def _register(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mock_upstream", description=__doc__)
    parser.add_argument("--certificate", help="PEM file; with it a second port speaks TLS")
    parser.add_argument("--key", help="PEM file of the certificate's key")
    options = parser.parse_args()
    provider = Provider()
    ports = {"port": provider.listen(), "tls_port": None}
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        ports["tls_port"] = provider.listen(context)
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()  # nothing here makes cycles that matter in the minutes of a run
    provider.run(until_closed=sys.stdin.fileno())


if __name__ == "__main__":
    main()

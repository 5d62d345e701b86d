"""The mock provider's side of a connection.

nginx spends some 20 µs on a call, most of it in the kernel. Whoever wants to keep it busy from one core, load and
upstream together, has no more than that for both sides, and the kernel takes four fifths of it again. So:

1. A gateway sends the same head again and again. A head that has been read once is known: how long its request is and
   what the answer will be. Only unknown heads, streams and chunked bodies go the way of careful reading.
2. A long body is not copied out of the kernel (MSG_TRUNC, tcp(7)): its bytes are counted, not looked at.
3. TLS works on memory, so that a record costs one system call and not one for its header and one for its body.
"""

import re
import select
import socket
import ssl
from typing import NamedTuple, Protocol

from bench.canned import Lane

REQUEST_LIMIT_BYTES = 32 * 1024 * 1024
RECEIVE_BYTES = 16 * 1024
LONG_BYTES = 2 * RECEIVE_BYTES  # a request longer than this is not read to its end and gets a plain answer
KNOWN_HEADS_LIMIT = 1_000

_HEAD_END = b"\r\n\r\n"
_STREAM_ASKED = b'"stream"'
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_SINK = bytearray(1024 * 1024)


class Known(NamedTuple):
    """What a head says: the length of head and body together, and the plain answer."""

    whole_bytes: int
    answer: bytes


class Provider(Protocol):
    """What a connection needs of the provider that accepted it."""

    known: dict[bytes, Known]

    def lane(self, path: bytes) -> Lane | None:
        """The lane of a path, if it is one of the dialects'."""

    def plain(self, path: bytes) -> bytes:
        """The answer to a request that asks for no stream."""

    def start_stream(self, connection: "Connection", lane: Lane, request: bytes) -> None:
        """Answer a streamed request by and by."""

    def watch(self, connection: "Connection", mask: int) -> None:
        """Change what a connection waits for."""

    def forget(self, connection: "Connection") -> None:
        """Hear no more of a connection."""


class Connection:
    """One connection of a gateway. Requests are cut by hand (a length or chunks); the answers are canned."""

    def __init__(self, provider: Provider, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.gone = False
        self._provider = provider
        self._known = provider.known
        self._got: list[bytes] = []
        self._size_bytes = 0
        self._whole_bytes = 0  # of the request that is being received; 0: its head is not complete
        self._to_discard = 0  # bytes of a long body that are still to come
        self._long_answer = b""
        self._unsent = b""

    @property
    def paused(self) -> bool:
        """Whether the gateway is not reading."""
        return bool(self._unsent)

    def ready(self, mask: int) -> None:
        """The socket can be read or written."""
        try:
            if mask & select.EPOLLOUT:
                unsent, self._unsent = self._unsent, b""
                self._provider.watch(self, select.EPOLLIN)
                self._put(unsent)
            elif self._to_discard:
                self._discard()
            else:
                self._take(self._receive())
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:  # the gateway has gone, in whatever way
            self.close()

    def write(self, data: bytes) -> None:
        """Send; what the socket does not take waits until it can."""
        self._put(data)

    def close(self) -> None:
        """Forget the connection; its stream ends at the next beat."""
        if not self.gone:
            self.gone = True
            self._provider.forget(self)
            self.sock.close()

    def _receive(self) -> bytes:
        return self.sock.recv(RECEIVE_BYTES)

    def _put(self, data: bytes) -> None:
        if self.gone or self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._provider.watch(self, select.EPOLLIN | select.EPOLLOUT)

    def _take(self, data: bytes) -> None:
        if not data:
            self.close()
            return
        if not self._got and (known := self._known.get(data[: data.find(_HEAD_END)])):
            if len(data) == known.whole_bytes and _STREAM_ASKED not in data:
                self.write(known.answer)
                return
            if known.whole_bytes > LONG_BYTES and len(data) < known.whole_bytes and self._can_discard:
                self._to_discard, self._long_answer = known.whole_bytes - len(data), known.answer
                return
        self._got.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > REQUEST_LIMIT_BYTES:
            self.close()
        elif self._size_bytes >= self._whole_bytes:
            self._cut()

    _can_discard = True

    def _discard(self) -> None:
        """Count bytes of a long body; answer after the last."""
        count = self.sock.recv_into(_SINK, min(len(_SINK), self._to_discard), socket.MSG_TRUNC)
        if not count:
            self.close()
            return
        self._to_discard -= count
        if not self._to_discard:
            self.write(self._long_answer)

    def _cut(self) -> None:
        """Answer every whole request among the bytes so far."""
        data = b"".join(self._got)
        while data:
            head_end = data.find(_HEAD_END)
            if head_end < 0:
                break
            body_at = head_end + len(_HEAD_END)
            length = _LENGTH.search(data, 0, body_at)
            if not length and _CHUNKED.search(data, 0, body_at):
                last = data.find(b"\r\n0\r\n\r\n", head_end + 2)
                self._whole_bytes = last + 7 if last >= 0 else len(data) + 1
            else:
                self._whole_bytes = body_at + (int(length[1]) if length else 0)
            if self._whole_bytes > len(data):
                break
            request, data = data[: self._whole_bytes], data[self._whole_bytes :]
            self._whole_bytes = 0
            self._answer(request, request[:head_end], remember=bool(length))
        self._got, self._size_bytes = [data] if data else [], len(data)

    def _answer(self, request: bytes, head: bytes, *, remember: bool) -> None:
        path = head[: head.find(b"\r\n")].split(b" ")[1].partition(b"?")[0]
        plain, lane = self._provider.plain(path), self._provider.lane(path)
        if remember:
            if len(self._known) >= KNOWN_HEADS_LIMIT:  # a gateway that names every call anew
                self._known.clear()
            self._known[head] = Known(len(request), plain)
        if lane and _STREAM_ASKED in request:
            self._provider.start_stream(self, lane, request)
        else:
            self.write(plain)


class TlsConnection(Connection):
    """The same by TLS."""

    _can_discard = False

    def __init__(self, provider: Provider, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(provider, sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaking_hands = True

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        self._tls.write(data)
        self._put(self._outgoing.read())

    def _receive(self) -> bytes:
        encrypted = self.sock.recv(4 * RECEIVE_BYTES)
        if not encrypted:
            return b""
        self._incoming.write(encrypted)
        if self._shaking_hands:
            self._shake_hands()
        clear = self._tls.read(RECEIVE_BYTES)  # a record holds no more
        while self._incoming.pending:
            try:
                more = self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:  # a record of which the rest is still to come
                break
            if not more:  # the gateway's farewell, behind its last bytes
                break
            clear += more
        return clear

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
            self._shaking_hands = False
        finally:
            if greeting := self._outgoing.read():
                self._put(greeting)

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
from collections.abc import Callable

from bench.canned import MODEL, Lane, chat_lane, json_answer, messages_lane
from bench.connection import Connection, Known, TlsConnection
from bench.metronome import Metronome

EVENTS_LIMIT = 1_000_000

_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_BEHAVIOUR = re.compile(rb"rate=(\d+) events=(\d+)")


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
        self.known: dict[bytes, Known] = {}
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._metronomes: dict[int, Metronome] = {}
        self._lanes = {b"/v1/messages": messages_lane(), b"/v1/chat/completions": chat_lane()}
        self._others = {
            b"/v1/models": json_answer({"object": "list", "data": [{"id": MODEL, "type": "model"}], "has_more": False}),
            b"/v1/messages/count_tokens": json_answer({"input_tokens": 120}),
        }
        self._unknown = json_answer({"type": "error", "error": {"type": "not_found_error"}}, b"404 Not Found")

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
            connection = TlsConnection(self, sock, context) if context else Connection(self, sock)
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

    def lane(self, path: bytes) -> Lane | None:
        """The lane of a path, if it is one of the dialects'."""
        return self._lanes.get(path)

    def plain(self, path: bytes) -> bytes:
        """The answer to a request that asks for no stream."""
        lane = self._lanes.get(path)
        return lane.answer if lane else self._others.get(path, self._unknown)

    def start_stream(self, connection: Connection, lane: Lane, request: bytes) -> None:
        """Answer as the prompt says."""
        if not _STREAMED.search(request):  # "stream": false
            connection.write(lane.answer)
            return
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

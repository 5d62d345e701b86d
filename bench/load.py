"""The load generator: plain sockets on one epoll, as an event loop of callbacks would cost as much as the gateways.

Three kinds of load:
- ClosedLoop: each of N connections asks again as soon as it has its answer. For CPU per call and calls per second.
- fixed_rate: a call every 1/rate seconds whether or not earlier ones have come back (an open loop: a slow moment is
  not hidden by a load that waits for it). For latency.
- Streams: N streamed answers at once. For CPU per event and memory per open stream.

Every answer must be a whole 200: anything else ends the run, since a refusal is cheaper than the work to be measured.
The closed loop has to keep nginx busy from half a core (see bench/connection.py), so it learns the body that comes and
then compares instead of parsing: begins with 200, ends with that body. What differs is read with care.
"""

import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.problem import BenchProblem

CONNECT_TIMEOUT_S = 5.0
STALL_LIMIT_S = 15.0  # without any progress
PATIENCE_S = 60.0  # with progress
RECEIVE_BYTES = 64 * 1024
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_STATUS_200 = b"HTTP/1.1 200"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def is_whole(answer: bytes) -> bool:
    """Whether these bytes are one complete answer (a chunked one ends in the empty chunk, which JSON cannot hold)."""
    end = answer.find(_HEAD_END)
    if end < 0:
        return False
    if answer[9:12] != b"200":
        raise BenchProblem(f"answered {answer[:900].decode(errors='replace')!r} where 200 was expected")
    length = _LENGTH.search(answer, 0, end + 2)
    if length:
        return len(answer) >= end + len(_HEAD_END) + int(length[1])
    return answer.endswith(_LAST_CHUNK)


class Caller:
    """One kept-alive connection with at most one call on it."""

    __slots__ = ("_answer", "_port", "_unsent", "count", "sent_ns", "sock", "tail")

    def __init__(self, port: int) -> None:
        self._port = port
        self._answer = self._unsent = b""
        self.tail = b""
        self.count = 0
        self.sent_ns = 0
        self.connect()

    def connect(self) -> None:
        """Open the connection (again)."""
        try:
            self.sock = socket.create_connection(("127.0.0.1", self._port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise BenchProblem(f"cannot connect to 127.0.0.1:{self._port}: {error}") from error
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)  # a 50 KB request leaves in one send
        self.sock.setblocking(False)

    def send(self, request: bytes) -> None:
        """Start a call; what the kernel does not take at once leaves by flush()."""
        self.sent_ns = time.perf_counter_ns()
        sent = self.sock.send(request)
        if sent < len(request):
            self._unsent = request[sent:]
            self.flush()

    def flush(self) -> None:
        """Send the rest, waiting for the kernel (rare: the send buffer is larger than any request)."""
        deadline = time.monotonic() + STALL_LIMIT_S
        while self._unsent:
            if time.monotonic() > deadline:
                raise BenchProblem(f"port {self._port} took no bytes of a request for {STALL_LIMIT_S:.0f} s")
            select.select([], [self.sock], [], 1.0)
            self._unsent = self._unsent[self.sock.send(self._unsent) :]

    def read(self) -> bytes:
        """What has arrived; empty when the gateway has closed in order."""
        try:
            return self.sock.recv(RECEIVE_BYTES)
        except ConnectionError as error:
            raise BenchProblem(f"port {self._port} broke a connection with a call on it: {error}") from error

    def receive(self, data: bytes) -> bool:
        """Take bytes of a plain answer; True when it is whole."""
        answer = self._answer + data if self._answer else data
        if is_whole(answer):
            self._answer = b""
            return True
        if len(answer) > ANSWER_LIMIT_BYTES:
            raise BenchProblem(f"port {self._port} sent an answer of more than {ANSWER_LIMIT_BYTES} bytes")
        self._answer = answer
        return False

    def lost(self) -> None:
        """The gateway closed: between calls that is its right, within one it is a failure."""
        if self._answer:
            raise BenchProblem(f"port {self._port} closed the connection within an answer")
        self.sock.close()
        self.connect()


class Callers:
    """A set of callers and the epoll that watches them."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.by_fd: dict[int, Caller] = {}
        for _ in range(connections):
            self.add()

    def add(self) -> Caller:
        """One caller more."""
        caller = Caller(self.port)
        self.watch(caller)
        return caller

    def watch(self, caller: Caller) -> None:
        """Hear of what arrives for this caller."""
        self.by_fd[caller.sock.fileno()] = caller
        self.epoll.register(caller.sock.fileno(), select.EPOLLIN)

    def renew(self, fd: int) -> Caller:
        """The gateway has closed a caller's connection: open another."""
        caller = self.by_fd.pop(fd)
        self.epoll.unregister(fd)
        caller.lost()
        self.watch(caller)
        return caller

    def close(self) -> None:
        """Drop every connection."""
        for caller in self.by_fd.values():
            caller.sock.close()
        self.by_fd.clear()
        self.epoll.close()


class ClosedLoop:
    """N connections, each asking again at once. run() may be called repeatedly, between its calls nothing is asked."""

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self._callers = Callers(port, connections)
        self._request = request
        self._body = b"\0 not seen yet"  # the body that comes each time

    def run(self, seconds: float) -> int:
        """Keep going for so long, then hear out the last answers; the number of whole answers."""
        for caller in self._callers.by_fd.values():
            caller.send(self._request)
        done = self._answered_within(seconds)
        waiting = set(self._callers.by_fd.values())
        deadline = time.monotonic() + STALL_LIMIT_S
        while waiting:
            if time.monotonic() > deadline:
                raise BenchProblem(f"port {self._callers.port} did not answer {len(waiting)} calls")
            for fd, _ in self._callers.epoll.poll(0.1):
                caller = self._callers.by_fd[fd]
                if self._is_answered(fd, caller.read()):
                    waiting.discard(caller)
        return done + len(self._callers.by_fd)

    def close(self) -> None:
        """Leave."""
        self._callers.close()

    def _answered_within(self, seconds: float) -> int:
        """Ask again after each answer; how many there were. This loop's cost must stay below nginx's."""
        callers, request, body, done = self._callers, self._request, self._body, 0
        clock, by_fd, poll = time.monotonic, callers.by_fd, callers.epoll.poll
        deadline = clock() + seconds
        stalled_at = clock() + STALL_LIMIT_S
        while (now := clock()) < deadline:
            ready = poll(min(1.0, deadline - now))
            if ready:
                stalled_at = now + STALL_LIMIT_S
            elif now > stalled_at:
                raise BenchProblem(f"port {callers.port} answered nothing for {STALL_LIMIT_S:.0f} s")
            for fd, _ in ready:
                caller = by_fd[fd]
                data = caller.read()
                if (data.startswith(_STATUS_200) and data.endswith(body)) or self._is_answered(fd, data):
                    done += 1
                    caller.send(request)
            body = self._body
        return done

    def _is_answered(self, fd: int, data: bytes) -> bool:
        """Take bytes with care; True when an answer is whole, and then its body is what is expected from now on."""
        if not data:  # a gateway may close what has been idle between two runs
            self._callers.renew(fd).send(self._request)
            return False
        whole = self._callers.by_fd[fd].receive(data)
        if whole:
            self._body = data.partition(_HEAD_END)[2] or self._body
        return whole


@dataclass(frozen=True)
class Latencies:
    """Sorted times from the first byte sent to the last byte received, and how many calls left over 1 ms late."""

    sorted_ns: list[int]
    late: int

    def percentile_ms(self, percent: float) -> float:
        """The value below which `percent` of the calls lie (nearest rank), in milliseconds."""
        rank = min(len(self.sorted_ns) - 1, int(len(self.sorted_ns) * percent / 100))
        return self.sorted_ns[rank] / 1e6


def fixed_rate(port: int, request: bytes, per_second: int, seconds: float) -> Latencies:
    """An open loop: a call each 1/per_second seconds, on any connection that is free, at most 512 at once."""
    callers = Callers(port, 16)
    try:
        return _fixed_rate(callers, request, per_second, seconds)
    finally:
        callers.close()


def _fixed_rate(callers: Callers, request: bytes, per_second: int, seconds: float) -> Latencies:
    clock, pace_ns = time.perf_counter_ns, 1_000_000_000 // per_second
    free, taken = list(callers.by_fd.values()), list[int]()
    late, sent, total = 0, 0, int(per_second * seconds)
    due = clock() + pace_ns
    give_up_ns = due + int((seconds + STALL_LIMIT_S) * 1e9)
    while len(taken) < total:
        while sent < total and (now := clock()) >= due:
            if not free:
                if len(callers.by_fd) >= 512:
                    raise BenchProblem(f"port {callers.port} has 512 calls open: it cannot do {per_second} calls/s")
                free.append(callers.add())
            late += now - due > 1_000_000
            free.pop().send(request)
            sent += 1
            due += pace_ns
        if clock() > give_up_ns:
            waited_s = seconds + STALL_LIMIT_S
            raise BenchProblem(f"port {callers.port} answered {len(taken)} of {sent} calls within {waited_s:.0f} s")
        wait_s = max(0.0, (due - clock()) / 1e9) if sent < total else 0.1
        select.select([callers.epoll], [], [], wait_s)  # epoll itself counts in milliseconds, too coarse for a pace
        for fd, _ in callers.epoll.poll(0):
            caller = callers.by_fd[fd]
            data = caller.read()
            if not data:
                free = [other for other in free if other is not caller]
                free.append(callers.renew(fd))
            elif caller.receive(data):
                taken.append(clock() - caller.sent_ns)
                free.append(caller)
    return Latencies(sorted(taken), late)


class Streams:
    """N streamed answers at once, counted by the blank line that ends an event."""

    def __init__(self, port: int, request: bytes, streams: int) -> None:
        self._callers = Callers(port, streams)
        self._open = set(self._callers.by_fd)
        for caller in self._callers.by_fd.values():
            caller.send(request)

    def run(self, seconds: float) -> int:
        """Read for so long; the number of events that came, over all streams."""
        deadline, before = time.monotonic() + seconds, self.events()
        while (now := time.monotonic()) < deadline:
            self._read(deadline - now)
        return self.events() - before

    def events(self) -> int:
        """Events of all streams so far."""
        return sum(caller.count for caller in self._callers.by_fd.values())

    def wait_for_first(self) -> None:
        """Until every stream has begun."""
        callers = self._callers.by_fd.values()
        self._read_while(lambda: sum(caller.count == 0 for caller in callers), "did not begin")

    def finish(self, events_each: int) -> None:
        """Read to the end; each stream must have brought every event (one in 1,000 may be lost to our counting)."""
        self._read_while(lambda: len(self._open), "did not end")
        got, sent = self.events(), events_each * len(self._callers.by_fd)
        if got < sent * 0.999:
            raise BenchProblem(f"port {self._callers.port}: {got} events arrived of {sent} that were sent")

    def close(self) -> None:
        """Leave, as a client that goes away."""
        self._callers.close()

    def _read_while(self, lacking: Callable[[], int], word: str) -> None:
        """Read until no stream is lacking. A slow gateway may take its time, one that stands still may not."""
        before, deadline = self.events(), time.monotonic() + STALL_LIMIT_S
        end = time.monotonic() + PATIENCE_S
        while count := lacking():
            self._read(0.1)
            now, events = time.monotonic(), self.events()
            if events != before:
                before, deadline = events, now + STALL_LIMIT_S
            if now > min(deadline, end):
                raise BenchProblem(f"port {self._callers.port}: {count} streams {word}")

    def _read(self, timeout_s: float) -> None:
        callers = self._callers
        for fd, _ in callers.epoll.poll(max(timeout_s, 0.001)):
            caller = callers.by_fd[fd]
            data = caller.read()
            if not data:
                raise BenchProblem(f"port {callers.port} closed the connection within a stream")
            if not caller.count and data.startswith(b"HTTP/1.1 ") and data[9:12] != b"200":
                is_whole(data + _HEAD_END)
            split = caller.tail.endswith(b"\n") and data.startswith(b"\n")  # a blank line cut in two by the network
            caller.count += data.count(b"\n\n") + split
            caller.tail = (caller.tail + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
            if caller.tail == _LAST_CHUNK:
                callers.epoll.unregister(fd)
                self._open.discard(fd)


@contextmanager
def streaming(port: int, request: bytes, streams: int) -> Iterator[Streams]:
    """Streams that are closed at the end, whatever happens."""
    open_streams = Streams(port, request, streams)
    try:
        yield open_streams
    finally:
        open_streams.close()

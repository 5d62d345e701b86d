"""Load and mock take short ways to leave nginx the time; none of them may let pass what careful reading would not."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bench.calls import Endpoint, plain_body, request, streamed_body
from bench.gateways import Upstream
from bench.load import ClosedLoop, is_whole
from bench.machine import Cores
from bench.problem import BenchProblem
from bench.running import mock_upstream
from tests.serving import eventually

PATIENCE_S = 30.0
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    core = min(os.sched_getaffinity(0))
    with mock_upstream(tmp_path_factory.mktemp("bench"), Cores(load=core, gateway=core)) as (mock, _):
        yield mock


def answer(sock: socket.socket) -> bytes:
    """The next whole answer on a connection."""
    got = b""
    while not is_whole(got):
        received = sock.recv(65536)
        assert received, f"closed after {got!r}"
        got += received
    return got


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


@contextmanager
def gateway(answers: list[bytes]) -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that gives these answers in turn, the last for ever: its port, and the connections it has accepted."""
    accepted: list[socket.socket] = []

    def serve() -> None:
        turn = 0
        try:
            while True:
                sock, _ = listener.accept()
                accepted.append(sock)
                while sock.recv(65536):
                    sock.sendall(answers[min(turn, len(answers) - 1)])
                    turn += 1
                sock.close()
        except OSError:  # the load has gone, or the test is at its end
            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], accepted
        listener.shutdown(socket.SHUT_RDWR)
        for sock in accepted:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)
        for sock in accepted:
            sock.close()


def test_a_head_seen_before_does_not_hide_a_stream(upstream: Upstream) -> None:
    streamed, to = streamed_body(500, 3), Endpoint(upstream.port, "none", "/v1/models")
    plain = plain_body(len(streamed))
    assert len(plain) == len(streamed)  # so their heads are equal
    with connected(upstream.port) as sock:
        for body, events in ((plain, 0), (plain, 0), (streamed, 3), (plain, 0), (streamed, 3)):
            sock.sendall(request(to, body))
            assert answer(sock).count(b"a word or two") == events


@pytest.mark.parametrize("piece", [1_000, 20_000, 60_000])
def test_a_long_body_is_awaited_to_its_last_byte(upstream: Upstream, piece: int) -> None:
    long = request(Endpoint(upstream.port, "none", "/v1/models"), plain_body(50 * 1024))
    short = request(Endpoint(upstream.port, "none", "/v1/models"), plain_body())
    with connected(upstream.port) as sock:
        for _ in range(3):  # the first one teaches the head, the others are counted and not read
            for at in range(0, len(long) - 1, piece):
                sock.sendall(long[at : min(at + piece, len(long) - 1)])
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(PATIENCE_S)
            sock.sendall(long[-1:] + short)  # what follows the body is the next request
            got = b""
            while got.count(b'"output_tokens": 24') < 2:
                received = sock.recv(65536)
                assert received
                got += received
            assert got.count(b"HTTP/1.1 200 OK") == 2


def test_mock_speaks_tls_in_any_pieces(upstream: Upstream) -> None:
    context = ssl.create_default_context(cafile=str(upstream.authority))
    whole = request(Endpoint(upstream.tls_port, "none", "/v1/models"), plain_body(50 * 1024))
    with connected(upstream.tls_port) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        for size in (len(whole), 16_384, 1_000):
            for at in range(0, len(whole), size):
                sock.sendall(whole[at : at + size])
            assert b'"output_tokens": 24' in answer(sock)


def test_a_refusal_after_many_answers_ends_the_run() -> None:
    refusal = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\n\r\nhello"
    with gateway([WHOLE] * 50 + [refusal, WHOLE]) as (port, _):
        loop = ClosedLoop(port, b"GET / HTTP/1.1\r\n\r\n", connections=1)
        with pytest.raises(BenchProblem, match="429"):
            loop.run(PATIENCE_S)
        loop.close()


def test_answers_that_differ_are_read_with_care() -> None:
    other = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngoodbye"
    ended = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    with gateway([WHOLE, other, WHOLE, WHOLE, other, ended, WHOLE]) as (port, _):
        loop = ClosedLoop(port, b"GET / HTTP/1.1\r\n\r\n", connections=1)
        with pytest.raises(BenchProblem, match="404"):
            loop.run(PATIENCE_S)
        loop.close()


def test_an_answer_without_its_end_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.STALL_LIMIT_S", 0.2)
    with gateway([WHOLE, WHOLE, WHOLE[:-1]]) as (port, _):
        loop = ClosedLoop(port, b"GET / HTTP/1.1\r\n\r\n", connections=1)
        with pytest.raises(BenchProblem, match="answered nothing"):
            loop.run(PATIENCE_S)
        loop.close()


def test_between_runs_a_closed_connection_is_replaced() -> None:
    with gateway([WHOLE]) as (port, accepted):
        loop = ClosedLoop(port, b"GET / HTTP/1.1\r\n\r\n", connections=1)
        assert eventually(lambda: loop.run(0.1) > 1)
        accepted[0].shutdown(socket.SHUT_RDWR)
        eventually(lambda: accepted[0].fileno() == -1)
        assert eventually(lambda: loop.run(0.1) > 1)
        assert len(accepted) == 2
        loop.close()

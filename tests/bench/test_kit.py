"""The benchmark kit measures what it says: whole answers, every event, ratios inside a round, nothing left behind."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import IDLE_STREAMS, main
from bench.calls import Endpoint, plain_body, request, streamed_body
from bench.gateways import MOST_STREAMS, Nginx, Upstream
from bench.load import ClosedLoop, fixed_rate, is_whole, streaming
from bench.machine import Cores, cpu_ns, process_tree
from bench.problem import BenchProblem
from bench.report import as_json
from bench.rounds import Figure
from bench.running import mock_upstream
from tests.serving import eventually

EVENTS = 40


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    core = min(os.sched_getaffinity(0))
    with mock_upstream(tmp_path_factory.mktemp("bench"), Cores(load=core, gateway=core)) as (mock, process):
        yield mock
    assert process.poll() is not None


def endpoint(upstream: Upstream) -> Endpoint:
    return Endpoint(upstream.port, "none", "/v1/models")


def exchange(port: int, pieces: list[bytes]) -> bytes:
    """Send the pieces one by one; the bytes of the answer."""
    with socket.create_connection(("127.0.0.1", port), 30.0) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        got = b""
        while not is_whole(got):
            received = sock.recv(65536)
            assert received, f"closed after {got!r}"
            got += received
        return got


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_mock_finds_the_end_of_a_request_in_any_pieces(upstream: Upstream, size: int) -> None:
    whole = request(endpoint(upstream), plain_body(300))
    assert b'"output_tokens": 24' in exchange(upstream.port, [whole[i : i + size] for i in range(0, len(whole), size)])


def test_mock_reads_a_chunked_request(upstream: Upstream) -> None:
    body = b'{"stream": true, "p": "rate=500 events=3"}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(upstream.port, [head, b"%x\r\n" % len(body), body, b"\r\n", b"0\r\n\r\n"])
    assert answer.count(b"a word or two") == 3
    assert b"[DONE]" in answer


def test_mock_answers_every_request_of_a_connection(upstream: Upstream) -> None:
    chunked = b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", upstream.port), 30.0) as sock:
        sock.sendall((chunked + request(endpoint(upstream), plain_body())) * 2)
        got = b""
        while got.count(b'"output_tokens": 24') < 4:
            received = sock.recv(65536)
            assert received
            got += received
    assert got.count(b"HTTP/1.1 200 OK") == 4


def test_a_body_has_the_size_asked_for() -> None:
    assert len(plain_body(50 * 1024)) == 50 * 1024


def test_is_whole_only_at_the_end() -> None:
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for answer in (plain, chunked):
        assert [is_whole(answer[:length]) for length in range(len(answer) + 1)] == [False] * len(answer) + [True]


def test_a_refusal_ends_the_run() -> None:
    with pytest.raises(BenchProblem, match="402"):
        is_whole(b"HTTP/1.1 402 Payment Required\r\ncontent-length: 0\r\n\r\n")


def test_closed_loop_counts_calls(upstream: Upstream) -> None:
    loop = ClosedLoop(upstream.port, request(endpoint(upstream), plain_body()), connections=4)
    assert eventually(lambda: loop.run(0.2) > 50)
    loop.close()


def test_fixed_rate_makes_as_many_calls_as_asked(upstream: Upstream) -> None:
    times = fixed_rate(upstream.port, request(endpoint(upstream), plain_body()), per_second=200, seconds=0.5)
    assert len(times.sorted_ns) == 100
    assert 0 < times.percentile_ms(50) <= times.percentile_ms(99)


def test_streams_bring_every_event_and_keep_their_rate(upstream: Upstream) -> None:
    began = time.monotonic()
    with streaming(upstream.port, request(endpoint(upstream), streamed_body(100, EVENTS)), streams=8) as streams:
        streams.wait_for_first()
        before, during = streams.events(), streams.run(0.1)
        assert streams.events() == before + during
        streams.finish(EVENTS + 5)
        assert time.monotonic() - began >= (EVENTS - 1) / 100  # later on a busy machine, never sooner
        assert streams.events() == 8 * (EVENTS + 5)


def test_missing_events_are_noticed(upstream: Upstream) -> None:
    asked = request(endpoint(upstream), streamed_body(500, 5))
    with (
        streaming(upstream.port, asked, streams=2) as streams,
        pytest.raises(BenchProblem, match=r"20 events .*of 22"),
    ):
        streams.finish(11)


def test_cpu_clock_of_another_process_counts_its_work() -> None:
    before = cpu_ns([os.getpid()])
    sum(range(2_000_000))
    assert cpu_ns([os.getpid()]) - before > 5_000_000
    assert process_tree(os.getpid())[0] == os.getpid()


def test_ratio_is_the_median_of_ratios_inside_rounds() -> None:
    nginx = [{"cpu_us": value} for value in (10.0, 20.0, 40.0)]
    ours = [{"cpu_us": value} for value in (30.0, 50.0, 80.0)]  # within rounds: 3.0, 2.5, 2.0
    figure = Figure("call", "cpu_us", {"direct": [{"cpu_us": 0.0}] * 3, "nginx": nginx, "ours": ours})
    assert figure.ratios("ours") == [3.0, 2.5, 2.0]
    assert figure.ratios("direct") == []
    found = as_json("ours", [figure], {})
    assert found["call_vs_nginx"] == 2.5


def test_missing_nginx_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path: None)
    with pytest.raises(BenchProblem, match="nginx-light"):
        Nginx().prepare(tmp_path, Upstream(1, 2, tmp_path), tls=False)


def test_one_core_is_said_clearly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert main(["--quick"]) == 2
    assert "needs 2" in capsys.readouterr().err


def test_the_gateway_may_open_as_many_streams_as_the_longest_figure_asks_for() -> None:
    """By default it opens 512 to a provider, and what waits for one of them is answered 504 after a while."""
    assert MOST_STREAMS >= IDLE_STREAMS

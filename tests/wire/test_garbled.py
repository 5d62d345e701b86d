"""Garbled answers in short form; `make soak` goes on for minutes. And those that once were answered wrongly."""

import pytest

from tests.wire.garbled import Garbled, figures, play
from tests.wire.provider import End
from tests.wire.tracks import tracks

COUNT = 1_000
STREAM = next(track for track in tracks() if track.name == "anthropic_text.sse")


def test_whatever_a_provider_answers() -> None:
    found = figures(1, COUNT)
    assert found["breaches"] == []
    assert min(found[fate] for fate in ("passed", "refused", "cut", "cut_in_words")) > COUNT // 50


@pytest.mark.parametrize(
    ("before", "behind", "fate"),
    [
        (b"200 Recorded", b"200", "passed"),
        (b"200 Recorded", b"204 No Content", "passed"),
        (b"200 Recorded", b"304 Not Modified", "passed"),
        (b"200 Recorded", b"999 Odd", "refused"),
        (b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", "passed"),
        (
            b"HTTP/1.1 200",
            b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nHTTP/1.1 200",
            "refused",
        ),
        (b"HTTP/1.1 200", b"ICY 200", "refused"),
        (b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", "refused"),
        (b"transfer-encoding: chunked", b"transfer-encoding: chunked\r\ncontent-length: 5", "refused"),
        (b"\r\n0\r\n\r\n", b"\r\nfffffffffffffffff\r\n\r\n", "cut_in_words"),
        (b"\r\n\r\n", b"\r\nx: " + b"y" * 600_000 + b"\r\n\r\n", "refused"),
        (b"event: ping", b"event: ", "cut"),
    ],
)
def test_answers_that_are_easy_to_tell(before: bytes, behind: bytes, fate: str) -> None:
    wire = STREAM.wire.replace(before, behind, 1)
    assert wire != STREAM.wire
    answer = Garbled(0, STREAM, wire, [wire], End.CLOSE)
    assert play([answer]) == []
    assert answer.fate == fate

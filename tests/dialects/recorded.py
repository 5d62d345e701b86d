"""Recorded answers, and the ways in which a network may cut them up.

`llama_*` were recorded from the llama.cpp server; the others are written by hand after the SDKs' types and the
providers' documentation, since what they show (errors in mid-stream, search results, hidden reasoning) cannot be called
up at will.
"""

from collections.abc import Iterator
from pathlib import Path

from tollhouse.dialects.dialect import Dialect
from tollhouse.terms.seen import Seen

FOLDER = Path(__file__).parent / "recordings"


def recording(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def names(prefix: str) -> list[str]:
    found = sorted(path.name for path in FOLDER.glob(f"{prefix}*.sse"))
    assert found
    return found


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, event by event, and in two at every offset."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    yield [event + b"\n\n" for event in stream.split(b"\n\n") if event]
    for at in range(1, len(stream)):
        yield [stream[:at], stream[at:]]


def meter(dialect: Dialect, chunks: list[bytes], *, swallow_usage: bool = False) -> tuple[bytes, Seen]:
    """What was relayed, and what was seen."""
    meter = dialect.stream_meter(swallow_usage=swallow_usage)
    relayed = b"".join([*map(meter.feed, chunks), meter.close()])
    return relayed, meter.seen


def with_line_ends(stream: bytes, line_end: bytes) -> bytes:
    assert b"\r" not in stream
    return stream.replace(b"\n", line_end)

"""Answers known by their form, against the parser: whatever the bytes, both come to the same."""

import asyncio
from itertools import chain
from typing import Any

import pytest

from tests.planes.wire import run
from tollhouse.terms.errors import UpstreamClosed
from tollhouse.upstream.answer_form import MAX_FORMS, AnswerForm, learn
from tollhouse.upstream.connection import Call, Connection
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.pool import Pool, PoolOptions
from tollhouse.upstream.slot import Slot

HEAD = b"HTTP/1.1 200 OK\r\nDate: Mon\r\ncontent-type: a/b\r\nrequest-id: r1\r\n"
SIZED = HEAD + b"content-length: 4\r\n\r\nfine"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 429 Slow Down\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
WHOLE = {"sized": SIZED, "chunked": CHUNKED, "empty": EMPTY}


class Heard(Call):
    """A call that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Exception | None] = []
        self.message = (b"x",)
        self.told: list[Any] = []
        self.text = b""

    def head(self, status: int, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        self.told.append((status, names, values))

    def body(self, data: bytes) -> None:
        self.text += data

    def over(self, error: Exception | None) -> None:
        self.ends.append(error)


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def is_closing(self) -> bool:
        return False

    def writelines(self, list_of_data: Any) -> None:
        """Sent."""

    def abort(self) -> None:
        """Cut."""


async def outcome(pool: Pool, data: bytes, form: AnswerForm | None) -> tuple[Any, ...]:
    """What this answer comes to on a connection of its own whose origin has had answers of this form."""
    slot = Slot(pool, Origin("127.0.0.1", 1))
    slot.form = form
    call = Heard()
    connection = Connection(slot)
    slot.open.add(connection)
    connection.connection_made(Wire())
    connection.call = call
    call.connection = connection
    call.transmit()
    connection.data_received(data)
    return call.told, call.text, str(call.ends), connection in slot.idle, connection.ended


def learned(data: bytes) -> AnswerForm:
    lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
    pairs = [line.split(b": ") for line in lines[1:]]
    form = learn(data, int(lines[0][9:12]), [name.lower() for name, _ in pairs], [value for _, value in pairs])
    assert form is not None
    return form


@pytest.mark.parametrize("how", WHOLE)
def test_what_fits_is_what_the_parser_would_say(how: str) -> None:
    async def story() -> None:
        pool, data = Pool(PoolOptions()), WHOLE[how]
        form = learned(data)
        assert form.read(data) is not None
        assert await outcome(pool, data, form) == await outcome(pool, data, None)
        pool.close()

    run(story())


@pytest.mark.parametrize("how", WHOLE)
def test_one_byte_otherwise_anywhere(how: str) -> None:
    """Each byte replaced, left out and put in, by such as mean something to HTTP; also cut off and gone on."""

    async def story() -> None:
        pool, data = Pool(PoolOptions()), WHOLE[how]
        form = learned(data)
        changes = [b"", *[bytes([byte]) for byte in b"\0\t\n\r 0159:;aFx-\x7f\xe9"]]
        replaced = (data[:at] + byte + data[at + 1 :] for at in range(len(data)) for byte in changes)
        put_in = (data[:at] + byte + data[at:] for at in range(len(data) + 1) for byte in changes)
        ends = (data[:at] for at in range(1, len(data)))
        sizes = [data.replace(b"\r\n4\r\n", b"\r\n%b\r\n" % size) for size in (b"0x4", b"0X4", b"+4", b"4_", b"004")]
        known = 0
        for one in chain(replaced, put_in, ends, sizes, [data + data, data + b"HTTP"]):
            if one:
                known += form.read(one) is not None
                assert await outcome(pool, one, form) == await outcome(pool, one, None), one
        assert known > 100
        pool.close()

    run(story())


@pytest.mark.parametrize("name", [b"Connection", b"Proxy-Connection"])
def test_a_connection_that_is_to_end_is_not_kept(name: bytes) -> None:
    async def story() -> None:
        pool, line = Pool(PoolOptions()), name + b": %b\r\ncontent-length"
        kept, ends = (SIZED.replace(b"content-length", line % says) for says in (b"keep-alive", b"close"))
        form = learned(kept)
        for data in (kept, ends):
            assert await outcome(pool, data, form) == await outcome(pool, data, None)
        pool.close()

    run(story())


@pytest.mark.parametrize("known", [True, False])
def test_what_was_answered_is_not_sent_again_though_a_bug_of_ours_cut_it(known: bool) -> None:
    """The event loop closes a connection whose callback raises: that is not the keep-alive race."""

    class Raises(Heard):
        def body(self, data: bytes) -> None:
            raise RuntimeError

    async def story() -> None:
        pool = Pool(PoolOptions())
        slot = Slot(pool, Origin("127.0.0.1", 1))
        slot.form = learned(SIZED) if known else None
        call, connection = Raises(), Connection(slot)
        slot.open.add(connection)
        connection.connection_made(Wire())
        connection.reused = True
        connection.call, call.connection = call, connection
        call.transmit()
        with pytest.raises(RuntimeError):
            connection.data_received(SIZED)
        connection.connection_lost(RuntimeError())
        assert len(call.ends) == 1
        assert isinstance(call.ends[0], UpstreamClosed)
        assert call.ends[0].sent
        assert not pool.tasks
        pool.close()

    run(story())


def test_what_has_no_form() -> None:
    def form_of(data: bytes, status: int, *names: bytes) -> AnswerForm | None:
        lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")[1:]
        return learn(data, status, names, [line.partition(b":")[2].strip() for line in lines])

    kinds = (b"content-length",)
    assert form_of(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, *kinds) is not None
    assert form_of(b"HTTP/1.1 200 OK\r\ncontent-length:  1\r\n\r\nx", 200, *kinds) is None
    assert form_of(b"HTTP/1.1 200 OK\r\ncontent-length:1\r\n\r\nx", 200, *kinds) is None
    assert form_of(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, *kinds) is None
    assert form_of(b"HTTP/1.1 204 OK\r\ncontent-length: 1\r\n\r\nx", 204, *kinds) is None
    assert form_of(b"HTTP/1.1 100 OK\r\n\r\nHTTP/1.1 200 OK\r\n", 200, *kinds) is None
    assert form_of(b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\nx", 200, b"x") is None
    assert form_of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", 200, b"transfer-encoding") is None
    assert form_of(b"HTTP/1.1 200 OK\r\nx: \xe9\r\ncontent-length: 1\r\n\r\nx", 200, b"x", *kinds) is None


def test_an_origin_keeps_a_few_forms_and_the_one_of_its_last_answer() -> None:
    async def story() -> None:
        pool = Pool(PoolOptions())
        slot = Slot(pool, Origin("127.0.0.1", 1))
        seen: list[AnswerForm] = []
        for number in range(MAX_FORMS + 1):
            name = b"x-%d" % number
            data = b"HTTP/1.1 200 OK\r\n%b: y\r\ncontent-length: 1\r\n\r\nz" % name
            slot.learn(data, 200, (name, b"content-length"), [b"y", b"1"])
            if slot.form is not None:
                seen.append(slot.form)
        assert (len(seen), slot.form) == (MAX_FORMS, None)
        slot.learn(b"HTTP/1.1 200 OK\r\n", 200, (b"x-0", b"content-length"), [b"y", b"1"])
        assert slot.form is seen[0]
        pool.close()

    run(story())

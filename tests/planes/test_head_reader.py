"""The head of a kept connection: known again only by the very same bytes, and never longer valid than the key."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from tests.planes.plane import ListJournal, hello, uvicorn_config
from tests.planes.wire import run
from tollhouse.dataplane.edge import Edge
from tollhouse.dataplane.gate import EdgeOptions, Gate
from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.head_reader import HeadReader
from tollhouse.dataplane.identify import Unwelcome, VirtualKeyScheme
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.dataplane.turn import Turn
from tollhouse.dataplane.visitor import Visitor
from tollhouse.rules import keys
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import DirectoryImage, KeySecret, User, VirtualKey

SECRET = b"s" * 32
KEY = keys.mint(b"k" * 32).encode()
DIGEST = keys.digest(SECRET, KEY)


def wire(length: bytes = b"10", *more: bytes, line: bytes = b"POST /v1/messages HTTP/1.1") -> bytes:
    """A head. Its body, of whatever length, is not here."""
    lines = [line, b"Host: h", b"X-Api-Key: " + KEY, b"Content-Length: " + length, b"anthropic-beta: a,b", *more]
    return b"\r\n".join([*lines, b"", b""])


def read(reader: HeadReader, data: bytes, *, keep_alive: bool = True) -> RequestHead:
    """As the edge has it read when the parser has taken it apart."""
    request_line, *lines = data.rstrip(b"\r\n").split(b"\r\n")
    method, url, _ = request_line.split(b" ")
    pairs = [line.split(b": ", 1) for line in lines]
    reader.incoming = data
    return reader.read(method, url, [(name.lower(), value) for name, value in pairs], "1.1", keep_alive)


def test_the_same_head_with_another_length_is_known_again() -> None:
    reader = HeadReader(65_536)
    first = read(reader, wire(b"10"))
    again = reader.known(wire(b"99") + b"the body")
    assert again is not None
    assert reader.body_at == len(wire(b"99"))
    assert (first.content_length, again.content_length) == (10, 99)
    assert again.proof is first.proof
    fresh = read(HeadReader(65_536), wire(b"99"))
    for name in ("method", "path", "query", "version", "keep_alive", "read", "forwarded", "client", "session", "route"):
        expected = first.read if name == "read" else getattr(fresh, name)  # `read` is shared, with the first's length
        assert getattr(again, name) == expected, name


@pytest.mark.parametrize(
    "other",
    [
        wire().replace(KEY, keys.mint(b"o" * 32).encode()),
        wire(b"10", b"anthropic-version: 2023-06-01"),
        wire().replace(b"a,b", b"a,c"),
        wire().replace(b"Host", b"host"),
        wire(line=b"POST /v1/messages?beta=true HTTP/1.1"),
        wire(line=b"POST /v1/messages HTTP/1.0"),
        wire()[:-1],
        wire()[:40],
        b"",
        b"\r\n" + wire(),
        *(wire(bad) for bad in (b"+5", b"-1", b"5 5", b"", b"1" * 19, b"0x10", b"1_0", b"\xb2", b"10 ", b"10,10")),
    ],
)
def test_any_other_difference_is_read_anew(other: bytes) -> None:
    reader = HeadReader(65_536)
    read(reader, wire())
    assert reader.known(wire()) is not None
    assert reader.known(other) is None


@pytest.mark.parametrize(
    ("data", "keep_alive"),
    [
        (wire(), False),
        (wire(b"10", b"expect: 100-continue"), True),
        (wire(line=b"POST /api/v1/keys HTTP/1.1"), True),
        (wire().replace(b"Content-Length: 10", b"Transfer-Encoding: chunked"), True),
        (wire(b"10 "), True),
    ],
)
def test_what_is_not_remembered(data: bytes, keep_alive: bool) -> None:
    reader = HeadReader(65_536)
    read(reader, wire())
    read(reader, data, keep_alive=keep_alive)
    assert reader.known(data) is None
    assert reader.known(wire()) is None  # the last head alone is known


def test_a_head_that_did_not_begin_the_piece_is_not_remembered() -> None:
    reader = HeadReader(65_536)
    head = wire()
    read(reader, head)
    for before in (b"", b"x" * 10 + head, b"\r\n" + head, head[:20]):
        reader.incoming = before
        reader.read(b"POST", b"/v1/messages", [(b"host", b"h"), (b"content-length", b"10")], "1.1", True)
        assert reader.known(head) is None


def directory(*, revoked: bool = False, expires: int | None = None, of_secret: int | None = None) -> DirectoryImage:
    key = VirtualKey("key_1", "alice", revoked_at_ns=1 if revoked else None, expires_at_ns=expires)
    return DirectoryImage((User("alice"),), (key,), (KeySecret(DIGEST, "key_1", expires_at_ns=of_secret),), (), {})


def known(reader: HeadReader) -> RequestHead:
    head = reader.known(wire(b"11"))
    assert head is not None
    return head


def test_who_it_is_is_remembered_until_the_directory_changes() -> None:
    snapshot = Snapshot()
    snapshot.replace(directory(), None)
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: 100), HeadReader(65_536)
    assert scheme.identify(read(reader, wire())) is scheme.identify(known(reader))
    snapshot.replace(directory(revoked=True), "alice")
    with pytest.raises(Unwelcome):
        scheme.identify(known(reader))


@pytest.mark.parametrize("image", [directory(expires=150), directory(of_secret=150)])
def test_what_expires_is_looked_at_every_time(image: DirectoryImage) -> None:
    now = [100]
    snapshot = Snapshot()
    snapshot.replace(image, None)
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: now[0]), HeadReader(65_536)
    assert scheme.identify(read(reader, wire())) is not None
    now[0] = 150
    with pytest.raises(Refusal):
        scheme.identify(known(reader))


def test_a_refusal_is_not_remembered() -> None:
    snapshot = Snapshot()
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: 100), HeadReader(65_536)
    with pytest.raises(Refusal):
        scheme.identify(read(reader, wire()))
    with pytest.raises(Refusal):
        scheme.identify(known(reader))
    snapshot.replace(directory(), None)
    assert scheme.identify(known(reader)) is not None


# --- the whole edge, with and without that memory


class Answering(Visitor):
    """Answers with what it got: at once, or when the test says so."""

    def __init__(self, edge: Edge, head: RequestHead, told: list[Any], slow: list[Visitor] | None) -> None:
        super().__init__(edge, head)
        self.told = told
        self.slow = slow

    def arrived(self) -> None:
        self.told.append(("arrived", self.head.path, self.head.forwarded, self.head.content_length))
        if b"x-refuse" in self.head.forwarded:
            self.refuse(401, "no", "no")

    def begin(self) -> None:
        if self.slow is None:
            self.reply()
        else:
            self.slow.append(self)

    def reply(self) -> None:
        body = self.whole_body()
        self.told.append(("begun", body))
        self.answer(200, b"", b"%d" % len(body))

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, b"", code.encode())

    def departed(self) -> None:
        self.told.append("departed")


class Pipe(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def told(
    pieces: list[bytes], *, forgetful: bool, slow: bool, max_body_bytes: int
) -> tuple[list[Any], bytes, bool, int]:
    """What the visitors of a connection were told, what it wrote, whether it is closed, the bytes it counts as kept."""
    result: list[tuple[list[Any], bytes, bool, int]] = []

    async def story() -> None:
        events: list[Any] = []
        waiting: list[Visitor] = []
        loop = asyncio.get_running_loop()
        gate = Gate(
            EdgeOptions(max_body_bytes=max_body_bytes),
            lambda edge, head: Answering(edge, head, events, waiting if slow else None),
            loop,
            Turn(ListJournal(), loop),
        )
        config = uvicorn_config(gate)
        config.app = hello
        edge: Any = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})  # type: ignore[operator]
        if forgetful:
            edge.heads = Forgetful(65_536)
        pipe = Pipe()
        edge.connection_made(pipe)
        for piece in pieces:
            if pipe.closed:
                break
            edge.data_received(piece)
            while waiting:
                waiting.pop(0).reply()  # type: ignore[attr-defined]
        result.append((events, pipe.written, pipe.closed, gate.buffered_bytes))
        gate.close()

    run(story())
    return result[0]


class Forgetful(HeadReader):
    """Leaves every request to the parser."""

    __slots__ = ()

    def known(self, data: bytes) -> None:
        return None


LENGTHS = (0, 1, 10, 11, 200)
HEADS = (wire(b"%d"), wire(b"%d", b"x-other: 1"), wire(b"%d", b"x-refuse: 1"), wire(b"%d").replace(b"h\r\n", b"h2\r\n"))
ODD = (
    b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n",
    wire(b"4", b"transfer-encoding: chunked") + b"0\r\n\r\n",
    wire(b"10").replace(b"Content-Length: 10", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    wire(b"1x") + b"a",
    wire(b"3", b"connection: close") + b"abc",
    b"\r\n" + wire(b"3") + b"abc",
    wire(b"3", b"expect: 100-continue") + b"abc",
    b"garbage\r\n\r\n",
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Requests of a few kinds, often the same again, cut at some of their borders and anywhere."""
    requests = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 9)) == 0:
            requests.append(draw(st.sampled_from(ODD)))
        else:
            length = draw(st.sampled_from(LENGTHS))
            body = draw(st.sampled_from((b"x" * length, wire(b"1")[:length].ljust(length, b"y"))))
            requests.append(draw(st.sampled_from((HEADS[0], *HEADS))) % length + body)
    text = b"".join(requests)
    borders = [len(b"".join(requests[:number])) for number in range(1, len(requests))]
    cuts = {border for border in borders if draw(st.integers(0, 3))}
    cuts |= set(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    ends = [*sorted(cuts), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams(), st.booleans(), st.sampled_from([150, 1000]))
def test_with_and_without_that_memory_all_is_the_same(pieces: list[bytes], slow: bool, max_body_bytes: int) -> None:
    remembering = told(pieces, forgetful=False, slow=slow, max_body_bytes=max_body_bytes)
    assert remembering == told(pieces, forgetful=True, slow=slow, max_body_bytes=max_body_bytes)


def test_it_is_used_at_all() -> None:
    """Else the test above would show nothing."""
    requests = [wire(b"%d") % length + b"x" * length for length in (3, 5, 7)]
    events, _, closed, kept = told(requests, forgetful=False, slow=False, max_body_bytes=1000)
    assert [event[1] for event in events if event[0] == "begun"] == [b"xxx", b"xxxxx", b"xxxxxxx"]
    assert (closed, kept) == (False, 0)
    reader = HeadReader(65_536)
    read(reader, wire(b"3"))
    assert reader.known(requests[1]) is not None

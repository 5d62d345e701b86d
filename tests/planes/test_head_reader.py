"""The head of a kept connection: known again only when it is the same, and never longer valid than the key."""

import pytest

from tollhouse.dataplane.head import MalformedHead, read_head
from tollhouse.dataplane.head_reader import HeadReader
from tollhouse.dataplane.identify import Unwelcome, VirtualKeyScheme
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.rules import keys
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import DirectoryImage, KeySecret, User, VirtualKey

SECRET = b"s" * 32
KEY = keys.mint(b"k" * 32).encode()
OTHER = keys.mint(b"o" * 32).encode()
DIGEST = keys.digest(SECRET, KEY)


def headers(length: bytes = b"10", key: bytes = KEY, **more: bytes) -> list[tuple[bytes, bytes]]:
    listed = [(b"host", b"h"), (b"x-api-key", key), (b"content-length", length), (b"anthropic-beta", b"a,b")]
    return listed + [(name.replace("_", "-").encode(), value) for name, value in more.items()]


def read(reader: HeadReader, fields: list[tuple[bytes, bytes]], url: bytes = b"/v1/messages"):
    head, route = reader.read(b"POST", url, fields, "1.1", True)
    assert route is not None
    return head


def directory(*, revoked: bool = False, expires: int | None = None, of_secret: int | None = None) -> DirectoryImage:
    key = VirtualKey("key_1", "alice", revoked_at_ns=1 if revoked else None, expires_at_ns=expires)
    return DirectoryImage((User("alice"),), (key,), (KeySecret(DIGEST, "key_1", expires_at_ns=of_secret),), (), {})


def test_the_same_head_with_another_length_is_known_again() -> None:
    reader = HeadReader(65_536)
    first, second = read(reader, headers(b"10")), read(reader, headers(b"99"))
    assert second.proof is first.proof
    assert (first.content_length, second.content_length) == (10, 99)
    fresh = read_head(b"POST", b"/v1/messages", headers(b"99"), "1.1", True, 65_536)
    assert (second.forwarded, second.path, second.query, second.keep_alive) == (
        fresh.forwarded,
        fresh.path,
        fresh.query,
        fresh.keep_alive,
    )


@pytest.mark.parametrize(
    "changed",
    [
        headers(key=OTHER),
        headers(anthropic_version=b"2023-06-01"),
        headers()[:-1],
        [*headers()[:-1], (b"anthropic-beta", b"a,c")],
        list(reversed(headers())),
    ],
)
def test_any_other_difference_is_read_anew(changed: list[tuple[bytes, bytes]]) -> None:
    reader = HeadReader(65_536)
    first = read(reader, headers())
    assert read(reader, changed).proof is not first.proof
    assert read(reader, headers(), b"/v1/messages?beta=true").proof is not first.proof


@pytest.mark.parametrize("length", [b"+5", b"-1", b"5 5", b"", b"1" * 19, b"0x10"])
def test_a_bad_length_is_refused_the_second_time_too(length: bytes) -> None:
    reader = HeadReader(65_536)
    read(reader, headers())
    with pytest.raises(MalformedHead):
        read(reader, headers(length))


def test_a_second_length_in_place_of_another_header_is_refused() -> None:
    reader = HeadReader(65_536)
    read(reader, headers())
    doubled = headers()
    doubled[3] = (b"content-length", b"11")
    with pytest.raises(MalformedHead):
        read(reader, doubled)


def test_who_it_is_is_remembered_until_the_directory_changes() -> None:
    snapshot = Snapshot()
    snapshot.replace(directory(), None)
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: 100), HeadReader(65_536)
    assert scheme.identify(read(reader, headers())) is scheme.identify(read(reader, headers(b"11")))
    snapshot.replace(directory(revoked=True), "alice")
    with pytest.raises(Unwelcome):
        scheme.identify(read(reader, headers(b"12")))


@pytest.mark.parametrize("image", [directory(expires=150), directory(of_secret=150)])
def test_what_expires_is_looked_at_every_time(image: DirectoryImage) -> None:
    now = [100]
    snapshot = Snapshot()
    snapshot.replace(image, None)
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: now[0]), HeadReader(65_536)
    assert scheme.identify(read(reader, headers())) is not None
    now[0] = 150
    with pytest.raises(Refusal):
        scheme.identify(read(reader, headers(b"11")))


def test_a_refusal_is_not_remembered() -> None:
    snapshot = Snapshot()
    scheme, reader = VirtualKeyScheme(snapshot, SECRET, lambda: 100), HeadReader(65_536)
    for _ in range(2):
        with pytest.raises(Refusal):
            scheme.identify(read(reader, headers()))
    snapshot.replace(directory(), None)
    assert scheme.identify(read(reader, headers())) is not None

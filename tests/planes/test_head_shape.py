"""What of a provider's head travels on, against its plain definition."""

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dataplane.head_shape import DROPPED, DROPPED_PREFIXES, HEADS_REMEMBERED, shape_of

kept = st.sampled_from([b"content-type", b"request-id", b"x-%d-%b", b"%", b"retry-after", b"x-ratelimit"])
names = kept | st.sampled_from(sorted(DROPPED)) | st.sampled_from([prefix + b"x" for prefix in DROPPED_PREFIXES])
values = st.binary(max_size=20)


def forwarded(headers: list[tuple[bytes, bytes]]) -> bytes:
    return shape_of(tuple([name for name, _ in headers])).forwarded % tuple([value for _, value in headers])


@given(st.lists(st.tuples(names, values), max_size=12))
def test_what_is_not_dropped_travels_on_in_its_order(headers: list[tuple[bytes, bytes]]) -> None:
    lines = b""
    for name, value in headers:
        if name not in DROPPED and not name.startswith(DROPPED_PREFIXES):
            lines += name + b": " + value + b"\r\n"
    assert forwarded(headers) == lines
    assert forwarded(headers) == lines  # by what is remembered now


def test_heads_of_ever_new_names_fill_no_memory() -> None:
    for number in range(HEADS_REMEMBERED + 10):
        assert forwarded([(b"x-%d" % number, b"1")]) == b"x-%d: 1\r\n" % number
    assert shape_of.cache_info().currsize == HEADS_REMEMBERED


def test_places_are_those_of_the_last_header_of_a_name() -> None:
    shape = shape_of((b"content-encoding", b"x-request-id", b"content-encoding", b"request-id"))
    assert (shape.encoding_at, shape.request_id_at, shape.type_at) == (2, 3, None)
    assert shape_of((b"x-request-id", b"content-type")).request_id_at == 0

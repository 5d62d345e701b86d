import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.recorded import cuts, meter, names, recording, with_line_ends
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.anthropic_answer import read_any_message, read_message
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage

STREAMS = [*names("anthropic"), "llama_messages.sse"]

TEXT_USAGE = Usage(
    input_tokens=25, cache_write_5m_tokens=100, cache_write_1h_tokens=1000, cache_read_tokens=4000, output_tokens=24
)
EXPECTED = {
    "anthropic_text.sse": Seen(
        usage=TEXT_USAGE,
        input_known=True,
        final=True,
        complete=True,
        served_model="claude-sonnet-4-5-20250929",
        upstream_message_id="msg_01XFDUDYJgAACzvnptvVoYEL",
        output_bound_tokens=len('Hello! Grüße, 世界 🌍 the words "message_stop" and\n\ndata: [DONE]'.encode()),
    ),
    "anthropic_tools.sse": Seen(
        usage=Usage(input_tokens=412, output_tokens=89, variant="fast+priority"),
        input_known=True,
        final=True,
        complete=True,
        served_model="claude-opus-4-6",
        upstream_message_id="msg_01XFDUDYJgAACzvnptvVoYEL",
        output_bound_tokens=len(
            "The user asks for the weather." + "EqQBCgIYAhIkNmY3ZGRhYzY0" + "Let me look." + "get_weather"
            '{"location": "San Francisco"}'
        ),
    ),
    "anthropic_error.sse": Seen(
        usage=Usage(
            input_tokens=25,
            cache_write_5m_tokens=100,
            cache_write_1h_tokens=1000,
            cache_read_tokens=4000,
            output_tokens=1,
        ),
        input_known=True,
        served_model="claude-sonnet-4-5-20250929",
        upstream_message_id="msg_01XFDUDYJgAACzvnptvVoYEL",
        failed="overloaded_error",
        output_bound_tokens=len("Partial"),
    ),
    "llama_messages.sse": Seen(
        usage=Usage(input_tokens=36, output_tokens=6),
        input_known=True,
        final=True,
        complete=True,
        served_model="smollm2-135m-instruct",
        upstream_message_id="chatcmpl-4iVrvQeosyghxN7Sz19M8gYXnYosoAC1",
        output_bound_tokens=len("Awesome! I'm"),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_stream_is_seen_alike_however_it_is_cut(name: str) -> None:
    stream = recording(name)
    for chunks in cuts(stream):
        assert meter(ANTHROPIC, chunks) == (stream, EXPECTED[name]), [len(chunk) for chunk in chunks[:2]]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("name", EXPECTED)
def test_other_line_ends_and_a_byte_order_mark(name: str, line_end: bytes) -> None:
    stream = b"\xef\xbb\xbf" + with_line_ends(recording(name), line_end)
    for chunks in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        assert meter(ANTHROPIC, chunks) == (stream, EXPECTED[name])


@pytest.mark.parametrize("name", STREAMS)
def test_what_follows_the_end_is_relayed_and_changes_nothing(name: str) -> None:
    stream = recording(name)
    relayed, seen = meter(ANTHROPIC, [stream, b"\n\n: tail\n\n"])
    assert relayed == stream + b"\n\n: tail\n\n"
    assert seen == meter(ANTHROPIC, [stream])[1]


def test_a_server_tool_adds_input_and_an_unknown_event_is_no_usage() -> None:
    _, seen = meter(ANTHROPIC, [recording("anthropic_search.sse")])
    assert seen.usage == Usage(input_tokens=10682, output_tokens=510, web_searches=1)
    assert seen.final
    assert seen.complete
    # its arguments, name and text; the citation and the unknown event in full; never the search results
    assert 40 < seen.output_bound_tokens < 500


def test_a_stream_cut_anywhere_is_final_only_once_the_usage_has_passed() -> None:
    stream = recording("anthropic_text.sse")
    usage_at = stream.index(b"event: message_delta")
    usage_end = stream.index(b"\n\n", usage_at)
    for at in range(len(stream)):
        _, seen = meter(ANTHROPIC, [stream[:at]])
        assert seen.final == (at >= usage_end)  # at the closing brace the event is readable, blank line or not
        assert seen.input_known == (at >= stream.index(b"\n\n"))
        assert seen.usage.output_tokens <= 24


def test_thinking_hides_its_size_until_its_signature_has_passed() -> None:
    stream = recording("anthropic_tools.sse")
    meter = ANTHROPIC.stream_meter(swallow_usage=False)
    hidden: list[bool] = []
    for event in stream.split(b"\n\n")[:-1]:
        meter.feed(event + b"\n\n")
        hidden.append(meter.seen.hidden_output)
        assert (meter.seen.output_bound_tokens >= UNSEEN_TOKENS) == meter.seen.hidden_output
    assert hidden == [False, True, True, True] + [False] * (len(hidden) - 4)


def test_events_too_long_to_meter_pass_and_leave_the_usage_unknown() -> None:
    long = b'event: message_delta\ndata: {"type":"message_delta","x":"' + b"y" * (1 << 21) + b'","usage":{}}\n\n'
    stream = recording("anthropic_text.sse")
    before = stream[: stream.index(b"event: message_delta")]
    for size in (len(long), 1 << 14):
        chunks = [before, *(long[at : at + size] for at in range(0, len(long), size))]
        relayed, seen = meter(ANTHROPIC, chunks)
        assert relayed == before + long
        assert not seen.final
        assert seen.input_known


def test_a_zero_repeated_takes_nothing_back() -> None:
    stream = recording("anthropic_text.sse").replace(
        b'"usage":{"output_tokens":24}', b'"usage":{"input_tokens":0,"output_tokens":24,"cache_read_input_tokens":null}'
    )
    assert meter(ANTHROPIC, [stream])[1].usage == TEXT_USAGE


def test_a_lone_surrogate_does_not_hide_the_usage() -> None:
    stream = recording("anthropic_text.sse").replace(
        b'"stop_sequence":null},"usage"', b'"stop_sequence":"\\ud800"},"usage"'
    )
    assert b"\\ud800" in stream
    assert meter(ANTHROPIC, [stream])[1] == EXPECTED["anthropic_text.sse"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({"cache_creation_input_tokens": 70}, (70, 0)),
        ({"cache_creation_input_tokens": 70, "cache_creation": {"ephemeral_5m_input_tokens": 50}}, (50, 20)),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 9}}, (0, 9)),
        ({"cache_creation_input_tokens": -5}, (0, 0)),
    ],
)
def test_cache_writes_without_a_full_split(said: dict[str, object], written: tuple[int, int]) -> None:
    body = msgspec.json.encode({"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2, **said}})
    usage = ANTHROPIC.read_answer(body).usage
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == written


def test_a_whole_answer() -> None:
    assert ANTHROPIC.read_answer(recording("anthropic_message.json")) == Seen(
        usage=msgspec.structs.replace(TEXT_USAGE, output_tokens=12, web_searches=2, web_fetches=1),
        input_known=True,
        final=True,
        complete=True,
        served_model="claude-sonnet-4-5-20250929",
        upstream_message_id="msg_m",
    )
    assert ANTHROPIC.read_answer(recording("llama_messages.json")).usage == Usage(
        input_tokens=1, cache_read_tokens=35, output_tokens=6
    )


def test_compaction_is_added_to_the_totals_and_the_place_to_the_variant() -> None:
    seen = ANTHROPIC.read_answer(recording("anthropic_compaction.json"))
    assert seen.usage == Usage(input_tokens=203_000, output_tokens=4_500, variant="us")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"usage":', b"null", b'{"usage":{"input_tokens":"7"}}', b"\xff"]
)
def test_an_unreadable_answer_is_unknown(body: bytes) -> None:
    assert not ANTHROPIC.read_answer(body).final
    assert not ANTHROPIC.read_answer(body).input_known


def test_an_error_body_is_named() -> None:
    assert ANTHROPIC.read_answer(recording("anthropic_error.json")).failed == "not_found_error"


@settings(max_examples=500)
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"\n\n", b"\r\n\r\n", b"data: ", b"event: content_block_delta\n"])
    )
)
def test_any_bytes_are_relayed_as_they_came(chunks: list[bytes]) -> None:
    assert meter(ANTHROPIC, chunks)[0] == b"".join(chunks)


def test_a_ping_fits_only_between_events() -> None:
    meter = ANTHROPIC.stream_meter(swallow_usage=False)
    stream = recording("anthropic_text.sse")
    first_end = stream.index(b"\n\n") + 2
    assert meter.between_events
    meter.feed(stream[:50])
    assert not meter.between_events
    meter.feed(stream[50:first_end])
    assert meter.between_events
    seen = msgspec.structs.replace(meter.seen)
    meter.feed(ANTHROPIC.ping)
    assert meter.seen == seen


PLAIN = {"type": "message", "id": "msg_1", "model": "claude-sonnet-4-5", "error": None}
PLAIN_USAGE = {"input_tokens": 12, "output_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 3}
COUNTS = (0, 1, 7, 12.0, 1 << 40, (1 << 40) + 1, 1 << 70, -1, None)
SPLITS = ({}, {"ephemeral_5m_input_tokens": 4}, {"ephemeral_1h_input_tokens": -1}, {"ephemeral_5m_input_tokens": 9})
ODDITIES = {
    "type": ("error", "new", None),
    "id": ("", None),
    "model": ("", None),
    "error": ({"type": "api_error"}, {}),
}
USAGE_ODDITIES = {
    **dict.fromkeys(PLAIN_USAGE, COUNTS),
    "cache_creation": (None, *SPLITS),
    "server_tool_use": (None, {}, {"web_search_requests": 2}),
    "service_tier": (None, "", "standard", "priority"),
    "speed": (None, "", "standard", "fast"),
    "inference_geo": (None, "", "global", "not_available", "us"),
    "iterations": (None, [], [{"type": "compaction", "input_tokens": 5, "output_tokens": 6}]),
    "new": (None, 1),
}


@settings(max_examples=500)
@given(st.data())
def test_the_fast_way_to_read_an_answer_sees_what_the_other_sees(data: st.DataObject) -> None:
    """A plain answer with up to two things else about it."""
    message, usage = dict(PLAIN), dict(PLAIN_USAGE)
    for target, oddities in ((message, ODDITIES), (usage, USAGE_ODDITIES)):
        for name in data.draw(st.sets(st.sampled_from(sorted(oddities)), max_size=2)):
            target[name] = data.draw(st.sampled_from(oddities[name]))
    missing = data.draw(st.sampled_from([None, None, *PLAIN_USAGE]))
    usage.pop(missing, None)
    body = msgspec.json.encode({**message, "usage": usage})
    assert read_message(body) == read_any_message(body)

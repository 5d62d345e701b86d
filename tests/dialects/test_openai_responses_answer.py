"""Answers of the Responses API: seen alike however they are cut, relayed as they came."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from tests.dialects.recorded import cuts, meter, names, recording, with_line_ends
from tollhouse.dialects.openai_responses import OPENAI_RESPONSES
from tollhouse.dialects.openai_responses_answer import MAX_RESPONSE_BYTES
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage

STREAMS = [*names("responses"), "llama_responses.sse"]

WHOLE = {"input_known": True, "final": True, "complete": True, "upstream_message_id": "resp_67ccd2be"}
GPT = {"served_model": "gpt-4o-2024-08-06"}
HIDING = {"hidden_output": True}


def data_bytes(name: str, *kinds: str) -> int:
    """Length of the data of all events of these kinds."""
    lines = [line[6:] for line in recording(name).split(b"\n") if line.startswith(b"data: ")]
    return sum(len(line) for line in lines if msgspec.json.decode(line)["type"] in kinds)


def item_bytes(name: str, at: int) -> int:
    """Length of the item that the event at this place tells of."""
    line = recording(name).split(b"\n\n")[at].partition(b"data: ")[2]
    return len(msgspec.json.decode(line, type=dict[str, msgspec.Raw])["item"])


EXPECTED = {
    "responses_text.sse": Seen(
        usage=Usage(input_tokens=176, cache_read_tokens=1024, output_tokens=9),
        output_bound_tokens=len('Hello 世界 "usage": {\\n\n'.encode()),
        **GPT,
        **WHOLE,
    ),
    "responses_tools.sse": Seen(
        usage=Usage(input_tokens=80, output_tokens=17),
        served_model="gpt-4.1-2025-04-14",
        output_bound_tokens=len('get_weather{"location":"Paris"}'),
        **WHOLE,
    ),
    "responses_reasoning.sse": Seen(
        usage=Usage(500, 1000, 500, 1000, 650, variant="priority"),
        served_model="gpt-5.6-sol",
        output_bound_tokens=UNSEEN_TOKENS + len("**Looking** at it42"),
        **HIDING,
        **WHOLE,
    ),
    "responses_search.sse": Seen(
        usage=Usage(input_tokens=328, output_tokens=40, web_searches=2),
        output_bound_tokens=len("A toll house.")
        + item_bytes("responses_search.sse", 2)
        + data_bytes(
            "responses_search.sse",
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
            "response.output_text.annotation.added",
        ),
        **GPT,
        **WHOLE,
    ),
    "responses_incomplete.sse": Seen(
        usage=Usage(input_tokens=12, output_tokens=16),
        output_bound_tokens=len("Once upon") + data_bytes("responses_incomplete.sse", "response.thing_of_tomorrow"),
        **GPT,
        **WHOLE,
    ),
    "responses_failed.sse": Seen(complete=True, failed="server_error", upstream_message_id="resp_67ccd2be", **GPT),
    "responses_error.sse": Seen(
        failed="rate_limit_exceeded", output_bound_tokens=2, upstream_message_id="resp_67ccd2be", **GPT
    ),
    "llama_responses.sse": Seen(
        usage=Usage(input_tokens=20, output_tokens=6),
        input_known=True,
        final=True,
        complete=True,
        served_model="smollm2-135m-instruct",
        upstream_message_id="resp_mk86e9GRadB1FFzSkLc23IHo1ab461X0",
        output_bound_tokens=UNSEEN_TOKENS + len("Hello, welcome to our creative"),
        **HIDING,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_seen_alike_however_it_is_cut(name: str) -> None:
    stream = recording(name)
    for chunks in cuts(stream):
        assert meter(OPENAI_RESPONSES, chunks) == (stream, EXPECTED[name])


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_is_swallowed(name: str) -> None:
    stream = recording(name)
    assert meter(OPENAI_RESPONSES, [stream], swallow_usage=True) == (stream, EXPECTED[name])


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_and_a_byte_order_mark(name: str, line_end: bytes) -> None:
    sent = b"\xef\xbb\xbf" + with_line_ends(recording(name), line_end)
    for chunks in ([sent], [sent[at : at + 1] for at in range(len(sent))], [sent[:777], sent[777:]]):
        assert meter(OPENAI_RESPONSES, chunks) == (sent, EXPECTED[name])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_off_is_never_final_and_its_bound_only_grows(name: str) -> None:
    stream = recording(name)
    events = [event + b"\n\n" for event in stream.split(b"\n\n") if event.strip()]
    shown = -1
    for end in range(1, len(events)):
        seen = meter(OPENAI_RESPONSES, events[:end])[1]
        assert not seen.final
        assert not seen.complete
        assert seen.hidden_output == (seen.output_bound_tokens >= UNSEEN_TOKENS)
        assert seen.output_bound_tokens % UNSEEN_TOKENS >= shown
        shown = seen.output_bound_tokens % UNSEEN_TOKENS


EVENTS = [
    *(event + b"\n\n" for event in recording("responses_text.sse").split(b"\n\n") if event),
    b": comment\n\n",
    b'event: response.new\nid: 7\ndata: {"type":"response.new","delta":{"x":1}}\n\n',
    b"data: [DONE]\n\n",
    b"data: {broken\n\n",
    b"\n\n",
]


@settings(max_examples=2_000, deadline=None)
@given(st.integers(0, 2**64))
def test_any_stream_cut_anyhow_is_relayed_as_it_came(seed: int) -> None:
    chance = random.Random(seed)
    stream = b"".join(chance.choices(EVENTS, k=chance.randrange(12)))
    places = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randrange(8)))
    chunks = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert meter(OPENAI_RESPONSES, chunks)[0] == stream


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n\n", b"\r\n\r\n", b"data: ", b"data: {}\n", b"\r"])))
def test_any_bytes_are_relayed_as_they_came(chunks: list[bytes]) -> None:
    assert meter(OPENAI_RESPONSES, chunks)[0] == b"".join(chunks)


def test_pings_stand_between_events_only() -> None:
    meter = OPENAI_RESPONSES.stream_meter(swallow_usage=False)
    assert meter.between_events
    meter.feed(b'event: response.output_text.delta\ndata: {"ty')
    assert not meter.between_events
    meter.feed(b'pe":"response.output_text.delta","delta":"x"}\n\n')
    assert meter.between_events


def test_reasoning_that_is_shown_unhides_the_output() -> None:
    created = b'data: {"type":"response.created","response":{"model":"gpt-oss-20b"}}\n\n'
    delta = b'data: {"type":"response.reasoning_text.delta","delta":"Hm"}\n\n'
    assert meter(OPENAI_RESPONSES, [created])[1].hidden_output
    seen = meter(OPENAI_RESPONSES, [created, delta])[1]
    assert (seen.hidden_output, seen.output_bound_tokens) == (False, 2)


def test_deltas_count_by_bytes_and_an_end_mark_does_not_count() -> None:
    created = b'data: {"type":"response.created","response":{"model":"gpt-4o"}}\n\n'
    delta = 'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"世界"}\n\n'.encode()
    empty = delta.replace("世界".encode(), b"")
    chunks = [created, delta, empty, empty.replace(b"\n", b"\r\n"), b"data: [DONE]\n\n"]
    assert meter(OPENAI_RESPONSES, chunks)[1].output_bound_tokens == 6


def test_items_without_deltas_count_by_themselves() -> None:
    """Servers that send finished items alone are bounded as well."""
    created = b'data: {"type":"response.created","response":{"model":"gpt-4o"}}\n\n'
    item = b'data: {"type":"response.output_item.done","item":{"type":"message","content":[{"text":"Hello"}]}}\n\n'
    assert meter(OPENAI_RESPONSES, [created, item])[1].output_bound_tokens == 5


def test_a_last_event_of_megabytes_is_read() -> None:
    head = b'data: {"type":"response.completed","response":{"instructions":"'
    tail = b'","usage":{"input_tokens":7,"output_tokens":5}}}\n\n'
    fits = head + b"x" * (MAX_RESPONSE_BYTES // 2) + tail
    chunks = [fits[at : at + 65_536] for at in range(0, len(fits), 65_536)]
    relayed, seen = meter(OPENAI_RESPONSES, chunks)
    assert relayed == fits
    assert seen.final
    assert seen.usage == Usage(input_tokens=7, output_tokens=5)
    endless = [head, *[b"x" * 65_536] * (MAX_RESPONSE_BYTES // 65_536 + 1), tail]
    relayed, seen = meter(OPENAI_RESPONSES, endless)
    assert relayed == b"".join(endless)
    assert not seen.final
    assert seen.output_bound_tokens > UNSEEN_TOKENS + MAX_RESPONSE_BYTES


def test_usage_is_read_whatever_the_output_looks_like() -> None:
    body = b'{"usage":{"input_tokens":7,"output_tokens":5},"output":{"of":"tomorrow"},"tool_usage":[1]}'
    seen = OPENAI_RESPONSES.read_answer(body)
    assert (seen.final, seen.usage) == (True, Usage(input_tokens=7, output_tokens=5))


def test_a_whole_answer_is_split_into_disjoint_counts() -> None:
    body = recording("responses_answer.json")
    Response.model_validate_json(body)
    seen = OPENAI_RESPONSES.read_answer(body)
    assert (seen.final, seen.complete, seen.failed) == (True, True, "")
    assert seen.usage == Usage(
        input_tokens=76,
        cache_write_5m_tokens=100,
        cache_read_tokens=1024,
        output_tokens=9,
        web_searches=1,
        variant="flex",
    )
    local = OPENAI_RESPONSES.read_answer(recording("llama_responses.json"))
    assert local.usage == Usage(input_tokens=1, cache_read_tokens=19, output_tokens=6)


@given(*[st.integers(-5, 2000)] * 5)
def test_the_parts_never_add_up_to_another_total(total: int, cached: int, written: int, long: int, out: int) -> None:
    writes = {"ttl_12h_tokens": long, "ttl_30m_tokens": written - long}
    details = {"cached_tokens": cached, "cache_write_tokens": written, "cache_write_tokens_details": writes}
    usage = {"input_tokens": total, "input_tokens_details": details, "output_tokens": out}
    read = OPENAI_RESPONSES.read_answer(msgspec.json.encode({"usage": usage})).usage
    assert read.total_input_tokens == max(total, 0)
    assert read.total_output_tokens == max(out, 0)
    assert min(count for count in msgspec.structs.astuple(read) if isinstance(count, int)) >= 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"usage":', b"null", b'{"usage":{"input_tokens":"7"}}', b'{"status":"queued"}']
)
def test_an_unreadable_answer_is_unknown(body: bytes) -> None:
    assert not OPENAI_RESPONSES.read_answer(body).final


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (recording("openai_error.json"), "rate_limit_exceeded"),
        (recording("llama_error.json"), "400"),
        (b'{"error":"no such model"}', "error"),
        (b'{"error":{"message":"x","type":"server_error","code":null}}', "server_error"),
    ],
)
def test_an_error_body_is_named(body: bytes, failed: str) -> None:
    assert OPENAI_RESPONSES.read_answer(body).failed == failed

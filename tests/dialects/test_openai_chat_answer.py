import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.recorded import cuts, meter, names, recording, with_line_ends
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.dialects.openai_chat_answer import MAX_HELD_BACK_BYTES
from tollhouse.terms.seen import UNSEEN_TOKENS, Seen
from tollhouse.terms.usage import Usage

STREAMS = [*names("openai"), "llama_chat.sse"]

GPT = {"input_known": True, "final": True, "complete": True, "upstream_message_id": "chatcmpl-B9MBs8Cj"}
EXPECTED = {
    "openai_text.sse": Seen(
        usage=Usage(input_tokens=176, cache_read_tokens=1024, output_tokens=9),
        served_model="gpt-4o-2024-08-06",
        output_bound_tokens=len('Hello 世界 "usage": {"prompt_tokens": 1}'.encode()),
        **GPT,
    ),
    "openai_tools.sse": Seen(
        usage=Usage(input_tokens=80, output_tokens=17),
        served_model="gpt-4o-2024-08-06",
        output_bound_tokens=len('get_weather{"location":"Paris"}'),
        **GPT,
    ),
    "openai_reasoning.sse": Seen(
        usage=Usage(input_tokens=30, output_tokens=650, variant="priority"),
        served_model="gpt-5.2-2025-12-11",
        output_bound_tokens=UNSEEN_TOKENS + 2,
        hidden_output=True,
        **GPT,
    ),
    "openai_error.sse": Seen(
        served_model="gpt-4o-2024-08-06",
        failed="server_error",
        output_bound_tokens=3,
        upstream_message_id="chatcmpl-B9MBs8Cj",
    ),
    "openai_usage_with_choices.sse": Seen(
        usage=Usage(input_tokens=10, cache_read_tokens=30, output_tokens=2),
        served_model="deepseek-chat",
        output_bound_tokens=UNSEEN_TOKENS + 8,
        hidden_output=True,
        **GPT,
    ),
    "llama_chat.sse": Seen(
        usage=Usage(input_tokens=1, cache_read_tokens=35, output_tokens=6),
        input_known=True,
        final=True,
        complete=True,
        served_model="smollm2-135m-instruct",
        upstream_message_id="chatcmpl-T4eTfZ4LChHzCYhISqyyESLh5QGkvYef",
        output_bound_tokens=len("Awesome! I'm"),
    ),
}


def without_usage_chunk(stream: bytes) -> bytes:
    """The oracle: cut out every event whose JSON has usage and no choices."""
    kept = []
    for event in stream.split(b"\n\n")[:-1]:
        data = event.removeprefix(b"data: ")
        chunk = msgspec.json.decode(data) if data.startswith(b"{") else {}
        if not (chunk.get("usage") and not chunk.get("choices")):
            kept.append(event + b"\n\n")
    return b"".join(kept)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_seen_alike_however_it_is_cut(name: str) -> None:
    stream = recording(name)
    for chunks in cuts(stream):
        assert meter(OPENAI_CHAT, chunks) == (stream, EXPECTED[name])


@pytest.mark.parametrize("name", STREAMS)
def test_swallowing_takes_out_the_usage_chunk_alone(name: str) -> None:
    stream = recording(name)
    expected = without_usage_chunk(stream)
    assert (expected != stream) == (name not in ("openai_error.sse", "openai_usage_with_choices.sse"))
    for chunks in cuts(stream):
        assert meter(OPENAI_CHAT, chunks, swallow_usage=True) == (expected, EXPECTED[name])


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_and_a_byte_order_mark(name: str, line_end: bytes) -> None:
    stream = recording(name)
    sent = b"\xef\xbb\xbf" + with_line_ends(stream, line_end)
    swallowed = b"\xef\xbb\xbf" + with_line_ends(without_usage_chunk(stream), line_end)
    for chunks in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        assert meter(OPENAI_CHAT, chunks) == (sent, EXPECTED[name])
        assert meter(OPENAI_CHAT, chunks, swallow_usage=True) == (swallowed, EXPECTED[name])


@pytest.mark.parametrize("name", STREAMS)
def test_what_follows_the_end_is_relayed(name: str) -> None:
    stream = recording(name)
    relayed, seen = meter(OPENAI_CHAT, [stream, b": tail\n\n", b"rest"], swallow_usage=True)
    assert relayed == without_usage_chunk(stream) + b": tail\n\nrest"
    assert seen.usage == EXPECTED[name].usage


EVENTS = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a \\"usage\\" \\n\\n"}}],"usage":null}\n\n',
    b'data: {"id":"c","choices":[],"prompt_filter_results":[]}\n\n',
    b'data: {"usage":{"prompt_tokens":7,"completion_tokens":5},"choices":[]}\n\n',
    b'data: {"choices" : [ ] , "usage" : {"prompt_tokens":7,"completion_tokens":6}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n',
    b": comment\n\n",
    b"event: unknown\nid: 7\ndata: text\ndata: more\n\n",
    b"data: [DONE]\n\n",
    b"data: {broken\n\n",
    'data: {"choices":[{"delta":{"content":"世界"}}]}\n\n'.encode(),
    b"\n\n",
]
USAGE_EVENTS = EVENTS[2:4]


@settings(max_examples=10_000, deadline=None)
@given(st.integers(0, 2**64))
def test_any_stream_cut_anyhow_is_relayed_less_its_usage_chunks(seed: int) -> None:
    chance = random.Random(seed)
    events = chance.choices(EVENTS, k=chance.randrange(12))
    stream = b"".join(events)
    chunks = random_cut(stream, chance)
    assert meter(OPENAI_CHAT, chunks)[0] == stream
    kept = b"".join(event for event in events if event not in USAGE_EVENTS)
    assert meter(OPENAI_CHAT, chunks, swallow_usage=True)[0] == kept


def random_cut(stream: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randrange(8)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n\n", b"\r\n\r\n", b"data: ", b"data: {}\n", b"\r"])))
def test_any_bytes_are_relayed_as_they_came(chunks: list[bytes]) -> None:
    assert meter(OPENAI_CHAT, chunks)[0] == b"".join(chunks)
    assert meter(OPENAI_CHAT, chunks, swallow_usage=True)[0] == b"".join(chunks)


def test_only_what_could_be_the_usage_chunk_waits_for_its_end() -> None:
    meter = OPENAI_CHAT.stream_meter(swallow_usage=True)
    assert meter.feed(b'data: {"choices":[{"in') == b'data: {"choices":[{"in'
    assert not meter.between_events
    assert meter.feed(b'dex":0}]}\n\n') == b'dex":0}]}\n\n'
    assert meter.between_events
    assert meter.feed(b'data: {"choices":[],') == b""
    assert meter.between_events  # nothing of it went out yet, so a ping still fits
    assert meter.feed(b'"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\ndata: [DO') == b""
    assert meter.feed(b"NE]\n\n") == b"data: [DONE]\n\n"


def test_what_waits_is_bounded() -> None:
    meter = OPENAI_CHAT.stream_meter(swallow_usage=True)
    relayed = meter.feed(b'data: {"x":"')
    for _ in range(40):
        relayed += meter.feed(b"y" * (MAX_HELD_BACK_BYTES // 20))
    assert len(relayed) > MAX_HELD_BACK_BYTES
    relayed += meter.feed(b'"}\n\n') + meter.close()
    assert relayed == b'data: {"x":"' + b"y" * (MAX_HELD_BACK_BYTES // 20 * 40) + b'"}\n\n'


def test_reasoning_that_is_shown_unhides_the_output() -> None:
    chunks = [
        b'data: {"model":"deepseek-reasoner","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"model":"deepseek-reasoner","choices":[{"delta":{"content":null,"reasoning_content":"Hm"}}]}\n\n',
    ]
    assert meter(OPENAI_CHAT, chunks[:1])[1].hidden_output
    _, seen = meter(OPENAI_CHAT, chunks)
    assert not seen.hidden_output
    assert seen.output_bound_tokens == 2


def test_usage_in_the_middle_is_not_final() -> None:
    usage = b'data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":7,"completion_tokens":1}}\n\n'
    _, seen = meter(OPENAI_CHAT, [usage])
    assert not seen.final
    assert seen.input_known
    assert meter(OPENAI_CHAT, [usage, b"data: [DONE]\n\n"])[1].final


def test_a_whole_answer_is_split_into_disjoint_counts() -> None:
    seen = OPENAI_CHAT.read_answer(recording("openai_audio.json"))
    assert seen.final
    assert seen.usage == Usage(
        input_tokens=50,
        cache_write_5m_tokens=50,
        cache_read_tokens=100,
        input_audio_tokens=300,
        output_tokens=30,
        output_audio_tokens=90,
        variant="flex",
    )
    assert OPENAI_CHAT.read_answer(recording("llama_chat.json")).usage == EXPECTED["llama_chat.sse"].usage


@given(*[st.integers(-5, 2000)] * 6)
def test_the_parts_never_add_up_to_another_total(
    p: int, cached: int, written: int, audio: int, c: int, spoken: int
) -> None:
    usage = {
        "prompt_tokens": p,
        "completion_tokens": c,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio},
        "completion_tokens_details": {"audio_tokens": spoken},
    }
    read = OPENAI_CHAT.read_answer(msgspec.json.encode({"usage": usage})).usage
    assert read.total_input_tokens == max(p, 0)
    assert read.total_output_tokens == max(c, 0)
    assert min(count for count in msgspec.structs.astuple(read) if isinstance(count, int)) >= 0


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"usage":', b"null", b'{"usage":{"prompt_tokens":"7"}}'])
def test_an_unreadable_answer_is_unknown(body: bytes) -> None:
    assert not OPENAI_CHAT.read_answer(body).final


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (recording("openai_error.json"), "requests"),
        (recording("llama_error.json"), "invalid_request_error"),
        (b'{"error":"no such model"}', "error"),
        (b'{"error":{"message":"x","code":500}}', "500"),
    ],
)
def test_an_error_body_is_named(body: bytes, failed: str) -> None:
    assert OPENAI_CHAT.read_answer(body).failed == failed

"""Answers that break off and clients that go, in short form; `make soak` takes every byte of every recording."""

import pytest

from tests.planes.plane import plane
from tests.planes.wire import run
from tests.wire.caller import caller
from tests.wire.cuts import ZERO, Report, departures, leave_while_sending, play, upstream_cuts
from tests.wire.lanes import LANES, Lane
from tests.wire.provider import End, Play, provider
from tests.wire.tracks import Track, smallest, tracks
from tollhouse.terms.events import SettleKind

NAMED = {str(track): track for track in tracks()}


@pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.name)
def test_wherever_an_answer_breaks_off(lane: Lane) -> None:
    report = Report()
    cuts = [cut for cut in upstream_cuts(every=False, seed=1) if cut.track.lane is lane]
    play(cuts, report)
    assert_all_well(report)
    assert report.counted["upstream_cuts"] == sum(cut.end is not End.KEEP for cut in cuts) > 10


@pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.name)
def test_whenever_the_client_goes(lane: Lane) -> None:
    report = Report()
    cuts = [cut for cut in departures(every=False, seed=1) if cut.track.lane is lane]
    play(cuts, report)
    assert_all_well(report)
    assert report.counted["client_departures"] == len(cuts) > 10


def test_a_client_that_goes_before_it_has_asked() -> None:
    report = Report()
    run(leave_while_sending(report))
    assert_all_well(report)
    assert report.counted["client_departures"] > 500


@pytest.mark.parametrize("cut", [True, False])
def test_a_client_of_http_1_0_sees_a_cut_as_well(cut: bool) -> None:
    """Its answers end with the connection, so one that broke off is ended by RST."""
    track = NAMED["messages anthropic_text.sse"]
    wire = track.wire[: track.wire.index(b"message_delta")] if cut else track.wire

    async def story() -> None:
        async with provider() as upstream, plane(upstream.port) as running, caller(running.port) as client:
            upstream.plays["old"] = Play([wire], End.CLOSE if cut else End.KEEP)
            body = track.request()
            await client.send([track.lane.request(body, "old").replace(b"HTTP/1.1", b"HTTP/1.0") + body])
            await client.until(lambda: False)  # its end
            assert client.was_reset == cut
            assert track.body.startswith(bytes(client.received).partition(b"\r\n\r\n")[2])

    run(story())


def assert_all_well(report: Report) -> None:
    assert report.told == []
    assert not any(report.counted[name] for name in ZERO)


def test_every_lane_has_a_recording_that_is_cut_at_every_byte() -> None:
    found = {(track.lane.name, track.stream) for track in tracks() if str(track) in smallest()}
    both = {(name, stream) for name in ("messages", "chat", "responses") for stream in (False, True)}
    assert found == both | {("embeddings", False)}
    assert {track.lane.name for track in tracks()} - {name for name, _ in found} == {"count_tokens"}


@pytest.mark.parametrize("track", tracks(), ids=str)
def test_a_track_knows_where_its_body_is(track: Track) -> None:
    assert len(track.come) == len(track.wire) + 1
    assert track.come[-1] == len(track.body)
    assert track.come[len(track.head)] == 0
    assert track.come == sorted(track.come)


@pytest.mark.parametrize(
    ("name", "behind", "cut", "left"),
    [
        ("messages anthropic_text.sse", b"", "upper", "estimated"),
        ("messages anthropic_text.sse", b'"usage":{"output_tokens":24}}\n', "upper", "estimated"),
        ("messages anthropic_text.sse", b'"usage":{"output_tokens":24}}\n\n', "exact", "exact"),
        ("messages anthropic_tools.sse", b'"thinking":"","signature":""}}\n\n', "upper", "upper"),
        ("chat openai_reasoning.sse", b'"role":"assistant"', "upper", "upper"),
        ("chat openai_text.sse", b"", "upper", "upper"),
        ("chat openai_text.sse", b"\n\n", "upper", "estimated"),
        ("chat openai_usage_with_choices.sse", b"data: [DONE]\n\n", "exact", "exact"),
        ("responses responses_failed.sse", b"response.failed", "upper", "estimated"),
        ("responses responses_reasoning.sse", b"response.completed", "upper", "upper"),
    ],
)
def test_what_a_track_says_of_money(name: str, behind: bytes, cut: str, left: str) -> None:
    """The reference itself, where it is easy to see what must come out."""
    track = NAMED[name]
    come = track.body.index(behind) + len(behind)
    assert (track.kind_when_cut(come), track.kind_when_left(come)) == (SettleKind(cut), SettleKind(left))

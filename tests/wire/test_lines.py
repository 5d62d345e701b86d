"""Long and odd lines in short form; `make soak` sends 64 MiB everywhere."""

from collections.abc import Iterator

import pytest

from tests.scripted import ScriptedUpstream
from tests.serving import Gateway
from tests.wire.lanes import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Lane
from tests.wire.lines import MIB, Report, long_answers, play_long, play_odd, serving

MAX_GROWN_MB = 40
"""Kept of a line of 64 MiB, beside 8 MiB of a whole answer that waits for its end."""
MAX_GROWN_RESPONSES_MB = 56
"""The closing event of a response repeats the answer, so 8 MiB of it are kept, and taken apart."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("lines"), upstream) as running:
        yield running


def test_a_line_and_an_answer_of_64_mib(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    report = Report()
    answers = {answer.name: answer for answer in long_answers(MESSAGES, 64 * MIB)}
    play_long(gateway, upstream, [answers["a delta, a slow client"], answers["whole"]], report)
    assert_all_well(report, 2)
    assert report.grown_mb < MAX_GROWN_MB


@pytest.mark.parametrize("lane", [MESSAGES, CHAT, RESPONSES, EMBEDDINGS], ids=lambda lane: lane.name)
def test_long_lines_everywhere(lane: Lane, gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """The shortest that no meter takes apart any more, and one that it just does."""
    report = Report()
    for size in (MIB // 2, 9 * MIB if lane is RESPONSES else 4 * MIB):
        answers = [answer for answer in long_answers(lane, size) if not answer.slow]
        play_long(gateway, upstream, answers, report)
    assert_all_well(report, 2 * len(answers))
    assert report.grown_mb < MAX_GROWN_RESPONSES_MB


def test_byte_by_byte_with_every_line_end() -> None:
    report = Report()
    play_odd(report, every=False)
    assert_all_well(report, 3 * 3 * 2)


def assert_all_well(report: Report, played: int) -> None:
    assert report.differing == []
    assert report.lost == []
    assert report.played == played

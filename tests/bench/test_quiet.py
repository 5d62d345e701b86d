"""What counts as a quiet moment is settled beforehand, and the quickest speed of a machine outlives a run."""

from pathlib import Path

import pytest

from bench.problem import BenchProblem
from bench.quiet import Quiet, Speed, is_ours_alone, is_quiet, quickest_of, recall, remember
from bench.rounds import Figure

QUICKEST = Speed(100.0, 50.0)
QUIET = Quiet({"call/ours": QUICKEST, "event/ours": QUICKEST})
MOMENT = {"pace_us": 100.0, "memory_us": 50.0, "foreign": 0.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"pace_us": 119.0, "memory_us": 67.0, "foreign": 0.09}, True),
        ({"pace_us": 121.0}, False),
        ({"memory_us": 68.0}, False),
        ({"foreign": 0.11}, False),
        ({"pace_us": 0.0}, False),
        ({"memory_us": 0.0}, False),
    ],
)
def test_a_quiet_moment(change: dict[str, float], expected: bool) -> None:
    assert is_quiet(MOMENT | change, QUICKEST) is expected


def test_few_moments_say_nothing() -> None:
    slow = MOMENT | {"pace_us": 130.0}
    figure = Figure("call", None, {"ours": [MOMENT] * 4 + [slow], "nginx": [MOMENT] * 5})
    assert QUIET.moments(figure, "ours") == []
    assert QUIET.moments(figure, "nginx") == []  # nothing is known of it
    figure.rounds["ours"].append(MOMENT)
    assert QUIET.moments(figure, "ours") == [MOMENT] * 5


def test_a_run_is_quiet_when_most_of_every_figure_is() -> None:
    slow = MOMENT | {"memory_us": 90.0}
    quiet, half = (
        Figure("call", None, {"ours": [MOMENT, MOMENT, slow]}),
        Figure("event", None, {"ours": [MOMENT, slow]}),
    )
    unseen = Figure("idle", None, {"ours": [{"start_s": 1.0}]})
    assert QUIET.is_run([quiet, unseen])
    assert not QUIET.is_run([quiet, half])
    assert (QUIET.share(half), QUIET.share(unseen)) == (0.5, 0.0)
    crowded = Figure("call", None, {"ours": [MOMENT | {"foreign": 0.05}] * 3})
    assert not is_ours_alone(crowded)
    assert not QUIET.is_run([crowded])


def test_the_quickest_of_each_piece_of_work() -> None:
    samples = [MOMENT, {"pace_us": 90.0, "memory_us": 60.0}, {"pace_us": 0.0}]
    figure = Figure("call", None, {"ours": samples})
    assert quickest_of([figure]) == {"call/ours": Speed(90.0, 50.0)}
    known = {"call/ours": Speed(95.0, 40.0), "event/ours": QUICKEST}
    assert quickest_of([figure], known) == {"call/ours": Speed(90.0, 40.0), "event/ours": QUICKEST}


def test_the_quickest_outlives_a_run(tmp_path: Path) -> None:
    path = tmp_path / "below" / "quickest.json"
    assert recall(path) == {}
    remember({"call/ours": QUICKEST}, path)
    assert recall(path) == {"call/ours": QUICKEST}


@pytest.mark.parametrize("text", ["[", "[]", "3"])
def test_a_file_of_others_is_not_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "quickest.json"
    path.write_text(text)
    with pytest.raises(BenchProblem, match="remove it"):
        recall(path)


def test_garbled_speeds_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "quickest.json"
    remember({"call/ours": QUICKEST}, path)
    path.write_text(path.read_text().replace("100.0", '"many"'))
    with pytest.raises(BenchProblem, match="remove it"):
        recall(path)


def test_where_nothing_can_be_kept_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("a file where the directory should be")
    with pytest.raises(BenchProblem, match="cannot be kept"):
        remember({"call/ours": QUICKEST}, tmp_path / "bench" / "quickest.json")


def test_figures_nobody_watched_say_nothing_of_speed() -> None:
    assert quickest_of([Figure("idle", None, {"ours": [{"start_s": 1.0}]})]) == {}

"""The report says what was reached, and what makes a figure kinder or worse than it is."""

import pytest

from bench.quiet import Quickest, Speed
from bench.report import as_json, as_text, speed_spread
from bench.rounds import Figure


def called(nginx_wanted: float, ours_us: float = 60.0) -> Figure:
    sample = {"per_s": 1.0, "core": 1.0, "pace_us": 100.0, "memory_us": 50.0, "foreign": 0.0}
    nginx = sample | {"cpu_us": 20.0, "wanted": nginx_wanted}
    ours = sample | {"cpu_us": ours_us, "wanted": 1.0}
    return Figure("call", "cpu_us", {"nginx": [nginx] * 5, "ours": [ours] * 5})


def test_each_bound_is_judged() -> None:
    idle = Figure("idle", None, {"ours": [{"start_s": 1.2, "rss_mb": 131.0}]})
    found = as_json("ours", [called(0.95), idle], {})
    unknown = {"in_quiet_moments": None, "must_met_in_quiet_moments": None}
    assert found["call_vs_nginx"] == 3.0
    assert found["goals"] == {
        "call_vs_nginx": {"value": 3.0, "must": 4.0, "must_met": True, "goal": 3.0, "goal_met": True}
        | {"in_quiet_moments": 3.0, "must_met_in_quiet_moments": True},
        "idle_rss_mb": {"value": 131.0, "must": 130.0, "must_met": False, "goal": 80.0, "goal_met": False} | unknown,
        "ready_after_s": {"value": 1.2, "must": 2.0, "must_met": True, "goal": 1.0, "goal_met": False} | unknown,
    }
    text = as_text("ours", [called(0.95), idle])
    assert [line.split()[-1] for line in text.splitlines() if line.strip().startswith(("idle_", "call_v"))] == [
        "met",
        "MET",
    ]


def test_an_idle_yardstick_is_said() -> None:
    assert not [note for note in _notes(called(0.95)) if note.startswith("Kind")]
    assert [note for note in _notes(called(0.6)) if note.startswith("Kind") and "60%" in note]


def test_an_uneven_machine_is_said() -> None:
    figure = called(0.95)
    figure.rounds["ours"] = [sample | {"pace_us": 150.0} for sample in figure.rounds["ours"]]
    assert speed_spread([figure]) == 1.5
    assert [note for note in _notes(figure) if "1.50 times" in note]


def test_what_quiet_moments_say_stands_beside() -> None:
    """Slow moments cost us more than the yardstick; too few quiet ones say nothing."""
    quiet, slow = called(0.95, 60.0), called(0.95, 90.0)
    figure = Figure("call", "cpu_us", {name: [*quiet.rounds[name], *slow.rounds[name] * 2] for name in quiet.rounds})
    for samples in figure.rounds.values():
        samples[5:] = [sample | {"pace_us": 150.0} for sample in samples[5:]]
    found = as_json("ours", [figure], {})["goals"]["call_vs_nginx"]  # type: ignore[index]
    assert (found["value"], found["must_met"], found["in_quiet_moments"]) == (4.5, False, 3.0)
    assert "call_vs_nginx   4.50              3.00     4     3  NOT MET" in as_text("ours", [figure])


def test_a_run_without_a_quick_moment_knows_it_by_the_runs_before() -> None:
    figure = called(0.95)
    quicker = {"call/nginx": Speed(80.0, 50.0), "call/ours": Speed(80.0, 50.0)}
    found = as_json("ours", [figure], {}, quicker)
    assert found["quiet"] is False
    assert found["goals"]["call_vs_nginx"]["in_quiet_moments"] is None  # type: ignore[index]
    assert found["figures"]["call"]["quiet_share"] == 0.0  # type: ignore[index]
    assert [note for note in _notes(figure, quicker) if note.startswith("Not quiet") and note.endswith("call 0%.")]
    nearly = {"call/nginx": Speed(90.0, 45.0), "call/ours": Speed(90.0, 45.0)}
    assert as_json("ours", [figure], {}, nearly)["quiet"] is True
    assert not [note for note in _notes(figure) if note.startswith(("Not quiet", "Disturbed"))]


def test_latency_in_quiet_moments() -> None:
    samples = [{"added_p50_ms": 0.3, "added_p99_ms": 1.5, "pace_us": 100.0, "memory_us": 50.0}] * 5
    slow = [{"added_p50_ms": 0.6, "added_p99_ms": 6.0, "pace_us": 140.0, "memory_us": 50.0}] * 6
    goals = as_json("ours", [Figure("latency", None, {"ours": [*samples, *slow]})], {})["goals"]
    found = {key: (goal["value"], goal["in_quiet_moments"]) for key, goal in goals.items()}  # type: ignore[attr-defined]
    assert found == {"added_p50_ms": (0.6, 0.3), "added_p99_ms": (6.0, 1.5)}


@pytest.mark.parametrize("profile_guided", [True, False])
def test_a_slow_interpreter_is_said(monkeypatch: pytest.MonkeyPatch, profile_guided: bool) -> None:
    monkeypatch.setattr("bench.report.is_profile_guided", lambda: profile_guided)
    slow = [note for note in _notes(called(0.95)) if note.startswith("Slow interpreter")]
    assert bool(slow) is not profile_guided


def _notes(figure: Figure, known: Quickest | None = None) -> list[str]:
    notes = as_json("ours", [figure], {}, known or {})["notes"]
    assert isinstance(notes, list)
    return notes

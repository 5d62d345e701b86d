"""The report says what was reached, and what makes a figure kinder or worse than it is."""

import pytest

from bench.figures import Figure
from bench.report import as_json, as_text, is_quiet, speed_spread


def called(nginx_wanted: float, ours_us: float = 60.0) -> Figure:
    sample = {"per_s": 1.0, "core": 1.0}
    nginx = sample | {"cpu_us": 20.0, "wanted": nginx_wanted}
    ours = sample | {"cpu_us": ours_us, "wanted": 1.0}
    return Figure("call", "cpu_us", {"nginx": [nginx] * 5, "ours": [ours] * 5}, [0.0] * 5, [1_000_000] * 10)


def test_each_bound_is_judged() -> None:
    idle = Figure("idle", None, {"ours": [{"start_s": 1.2, "rss_mb": 131.0}]})
    found = as_json("ours", [called(0.95), idle], {})
    assert found["call_vs_nginx"] == 3.0
    assert found["goals"] == {
        "call_vs_nginx": {"value": 3.0, "must": 4.0, "must_met": True, "goal": 3.0, "goal_met": True},
        "idle_rss_mb": {"value": 131.0, "must": 130.0, "must_met": False, "goal": 80.0, "goal_met": False},
        "ready_after_s": {"value": 1.2, "must": 2.0, "must_met": True, "goal": 1.0, "goal_met": False},
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
    figure.speeds_ns[:5] = [1_500_000] * 5
    assert speed_spread([figure]) == 1.5
    assert [note for note in _notes(figure) if "1.50 times" in note]
    assert is_quiet([figure])


@pytest.mark.parametrize("profile_guided", [True, False])
def test_a_slow_interpreter_is_said(monkeypatch: pytest.MonkeyPatch, profile_guided: bool) -> None:
    monkeypatch.setattr("bench.report.is_profile_guided", lambda: profile_guided)
    slow = [note for note in _notes(called(0.95)) if note.startswith("Slow interpreter")]
    assert bool(slow) is not profile_guided


def _notes(figure: Figure) -> list[str]:
    notes = as_json("ours", [figure], {})["notes"]
    assert isinstance(notes, list)
    return notes

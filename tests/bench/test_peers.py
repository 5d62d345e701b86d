"""A peer that cannot do something is named with the reason; what must be measured is not forgiven."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from bench import peers
from bench.__main__ import main
from bench.calls import Endpoint, plain_body, request
from bench.figures import Bench, Plan
from bench.gateways import Launch, Upstream
from bench.machine import Cores
from bench.pace import Pace
from bench.problem import BenchProblem
from bench.quiet import Quickest, Speed
from bench.report import as_json, as_text
from bench.running import mock_upstream


class Pass:
    """A gateway without a process: its callers meet the upstream."""

    def __init__(self, name: str, *, is_peer: bool) -> None:
        self.name, self.is_peer = name, is_peer

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        return Launch(Endpoint(upstream.port, "none", "/v1/models"))


class Absent(Pass):
    """One that cannot be installed."""

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        raise BenchProblem("there is no such package\nmany words of an installer\nits last")


class Deaf(Pass):
    """One that does not answer where it should."""

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        return Launch(Endpoint(1, "none", "/"))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Upstream, subprocess.Popen[bytes]]]:
    core = min(os.sched_getaffinity(0))
    with mock_upstream(tmp_path_factory.mktemp("bench"), Cores(load=core, gateway=core)) as found:
        yield found


def bench(
    upstream: tuple[Upstream, subprocess.Popen[bytes]],
    place: Path,
    pace: Pace,
    *recipes: Pass,
    patience_s: float = 0.0,
    known: Quickest = MappingProxyType({}),
) -> Bench:
    core = min(os.sched_getaffinity(0))
    plan = Plan(2, 0.2, 2, 2, 0.2, 3, 1, patience_s)
    return Bench(plan, Cores(core, core), place, upstream, recipes, pace, known)


@pytest.fixture(scope="module")
def pace() -> Iterator[Pace]:
    with Pace(min(os.sched_getaffinity(0))) as found:
        yield found


def test_a_run_goes_on_without_a_peer_that_fails(
    upstream: tuple[Upstream, subprocess.Popen[bytes]], tmp_path: Path, pace: Pace
) -> None:
    recipes = (Pass("plain", is_peer=False), Absent("gone", is_peer=True), Deaf("deaf", is_peer=True))
    figure = bench(upstream, tmp_path, pace, *recipes).call()
    assert len(figure.rounds["plain"]) == 2
    assert set(figure.absent) == {"gone", "deaf"}
    assert "there is no such package" in figure.absent["gone"]
    figures = as_json("plain", [figure], {})["figures"]
    assert isinstance(figures, dict)
    assert "cannot connect" in figures["call"]["absent"]["deaf"]
    text = as_text("plain", [figure])
    assert "Without gone: there is no such package … its last\n" in text
    assert "many words" not in text


def test_a_patient_figure_goes_on_for_quiet_moments_and_not_for_ever(
    upstream: tuple[Upstream, subprocess.Popen[bytes]], tmp_path: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Pass("plain", is_peer=False)
    never = {"call/plain": Speed(1e-6, 1e-6)}
    began = time.monotonic()
    waited = bench(upstream, tmp_path, pace, plain, patience_s=3.0, known=never).call()
    assert len(waited.rounds["plain"]) > 2
    assert time.monotonic() - began > 3.0
    for name in ("CORE_LIMIT", "MEMORY_LIMIT", "MOMENT_SHARE"):
        monkeypatch.setattr(f"bench.quiet.{name}", float("inf"))
    always = bench(upstream, tmp_path, pace, plain, patience_s=60.0).call()
    assert len(always.rounds["plain"]) < 20


def test_what_is_no_peer_must_not_fail(
    upstream: tuple[Upstream, subprocess.Popen[bytes]], tmp_path: Path, pace: Pace
) -> None:
    with pytest.raises(BenchProblem, match="cannot connect"):
        bench(upstream, tmp_path, pace, Deaf("deaf", is_peer=False)).call()


def test_peers_are_measured_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "compared (nginx,tollhouse)" in words
    for name in ("smg", "portkey", "litellm"):
        assert name in words


def test_a_call_carries_what_a_gateway_wants_to_be_told() -> None:
    head = request(Endpoint(1, "key", "/", (("x-portkey-provider", "anthropic"),)), plain_body())
    assert b"\r\nx-portkey-provider: anthropic\r\n\r\n{" in head


def test_an_installation_is_kept_until_its_recipe_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "HOUSE", tmp_path / "house")
    installed: list[str] = []

    def install(folder: Path) -> None:
        assert not folder.exists()  # nothing of an older one is left
        folder.mkdir()
        installed.append("once")

    for recipe, times in (("one", 1), ("one", 1), ("two", 2), ("two", 2)):
        assert peers.installed("it", recipe, install).exists()
        assert len(installed) == times


def test_an_installation_that_did_not_end_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "HOUSE", tmp_path / "house")

    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise BenchProblem("the registry is away")

    with pytest.raises(BenchProblem, match="away"):
        peers.installed("it", "one", fail)
    assert not (peers.installed("it", "one", Path.mkdir) / "half").exists()

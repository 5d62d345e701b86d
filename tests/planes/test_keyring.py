"""The keyring on virtual time: secrets are read again before they run out, and what fails or is refused changes as
little as it can.
"""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from tests.planes.virtual_time import VirtualLoop
from tollhouse.app.providers import credential_problem
from tollhouse.ports import Reading
from tollhouse.terms.errors import SettingsError, SourceError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.workers import Keyring, KeyringOptions, Wanted

ONE, TWO, THREE = (f"sk-ant-api03-{name}-0123456789" for name in ("one", "two", "three"))
WANTED = Wanted("anthropic", "cmd:helper", "providers.anthropic.api_key")
PATIENT = Wanted("anthropic", "vault:a/b#c", "providers.anthropic.api_key", patient=True)
TTL_S = 1000.0
OPTIONS = KeyringOptions(overlap_s=600.0, jitter=0.0)


class Scripted:
    """A source that says what it is told to."""

    name = "cmd:helper"

    def __init__(self, says: str | SourceError = ONE, lifetime_s: float | None = TTL_S) -> None:
        self.says = says
        self.lifetime_s = lifetime_s
        self.again_s: float | None = None
        self.read_at: list[float] = []

    async def read(self) -> Reading:
        self.read_at.append(asyncio.get_running_loop().time())
        if isinstance(self.says, SourceError):
            raise self.says
        return Reading(self.says, self.lifetime_s, self.again_s)


class Bench:
    """A keyring, its source, and what it told."""

    def __init__(self, source: Scripted, options: KeyringOptions = OPTIONS, chance: float = 1.0) -> None:
        self.source = source
        self.notices: list[Notice] = []
        self.served: list[str] = []
        """Each secret that was in use."""
        self.keyring = Keyring(
            lambda _: source, credential_problem, self.notices.append, options, chance=lambda: chance
        )
        self.keyring.changed = lambda: self.served.append(self.secret)

    @property
    def secret(self) -> str:
        return self.keyring.secret("anthropic")

    @property
    def facts(self) -> dict[str, Any]:
        facts = self.keyring.facts("anthropic")
        assert facts is not None
        return facts

    @property
    def told(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.notices]

    async def refused(self, status: int = 401) -> None:
        """A call with the secret in use was refused; whatever comes of it at once."""
        self.keyring.refused("anthropic", status)
        await asyncio.sleep(0.001)


def run_for_hours(story: Coroutine[Any, Any, None]) -> None:
    """On virtual time, and without an end to it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)


def play(story: Callable[[Bench], Coroutine[Any, Any, None]], source: Scripted | None = None, **how: Any) -> None:
    """The story with a keyring that holds the source's secret."""

    async def whole() -> None:
        bench = Bench(source or Scripted(), **how)
        assert await bench.keyring.hold([WANTED]) == {}
        await story(bench)
        for notice in bench.notices:
            assert not {ONE, TWO, THREE} & {str(value) for value in notice.data.values()}
            assert "sk-ant-api03" not in notice.text
        assert "sk-ant-api03" not in str(bench.keyring.warnings()) + str(bench.facts)
        await bench.keyring.stop()

    run_for_hours(whole())


# --- in time


@pytest.mark.parametrize(("chance", "jitter", "after_s"), [(0.0, 0.1, 800.0), (1.0, 0.1, 720.0), (0.5, 0.2, 720.0)])
def test_a_secret_is_read_again_before_it_runs_out(chance: float, jitter: float, after_s: float) -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        (first,) = bench.source.read_at
        await asyncio.sleep(after_s - 1)
        assert (bench.secret, len(bench.source.read_at)) == (ONE, 1)
        await asyncio.sleep(2)
        assert bench.secret == TWO
        assert bench.source.read_at[1] - first == pytest.approx(after_s, abs=0.1)
        await asyncio.sleep(after_s)
        assert len(bench.source.read_at) == 3
        assert bench.served == [TWO]
        assert bench.told == []

    play(story, options=KeyringOptions(jitter=jitter), chance=chance)


def test_a_source_may_ask_to_be_looked_at_earlier() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(5.5)
        assert len(bench.source.read_at) == 2
        bench.source.says = TWO
        await asyncio.sleep(5)
        assert bench.secret == TWO

    source = Scripted(lifetime_s=None)
    source.again_s = 5.0
    play(story, source)


def test_what_never_ends_is_read_once() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(1e7)
        assert len(bench.source.read_at) == 1
        assert bench.facts["next_read_at_ns"] is None

    play(story, Scripted(lifetime_s=None))


def test_a_lifetime_of_nothing_does_not_run_hot() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(60)
        assert len(bench.source.read_at) <= 62

    play(story, Scripted(lifetime_s=0.0))


# --- failures


def test_a_failure_keeps_the_old_one_and_is_told_once() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = SourceError("the helper exited with 1")
        await asyncio.sleep(20_000)  # far beyond its lifetime
        assert bench.secret == ONE
        assert bench.told == [NoticeKind.SOURCE_FAILED]
        assert "the helper exited with 1" in bench.notices[0].text
        assert bench.facts["failure"] == "the helper exited with 1"
        assert bench.facts["expires_at_ns"] < bench.facts["next_read_at_ns"]
        assert "the one read before serves on" in bench.keyring.warnings()[0]
        pauses = [later - earlier for earlier, later in pairwise(bench.source.read_at[1:])]
        assert [round(pause) for pause in pauses[:8]] == [5, 10, 20, 40, 80, 160, 300, 300]
        bench.source.says = TWO
        await asyncio.sleep(301)
        assert (bench.secret, bench.served) == (TWO, [TWO])
        assert bench.told == [NoticeKind.SOURCE_FAILED, NoticeKind.SOURCE_RECOVERED]
        assert (bench.facts["failure"], bench.keyring.warnings()) == ("", [])
        bench.source.says = SourceError("again")
        await asyncio.sleep(900)
        assert bench.told[2:] == [NoticeKind.SOURCE_FAILED]

    play(story)


@pytest.mark.parametrize(
    "garbage",
    ["sk-ant-oat01-the-login-of-a-subscription", "sk-ant-sid01-of-a-browser", "two words", "line\nline", "schlüssel"],
)
def test_each_reading_is_looked_at(garbage: str) -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = garbage
        await asyncio.sleep(900)
        assert bench.secret == ONE
        assert bench.told == [NoticeKind.SOURCE_FAILED]
        assert garbage not in bench.notices[0].text + str(bench.facts)

    play(story)


def test_what_was_taken_away_on_purpose_is_used_no_more() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await asyncio.sleep(801)
        bench.source.says = SourceError("the operator has removed it", withdrawn=True)
        bench.keyring.read_soon("file")
        await asyncio.sleep(1)
        assert bench.secret == TWO
        bench.keyring.read_soon("cmd")
        await asyncio.sleep(1)
        assert bench.secret == ""
        assert bench.keyring.unavailable("anthropic") != ""
        await asyncio.sleep(700)
        bench.source.says = THREE
        await asyncio.sleep(300)
        assert bench.served == [TWO, "", THREE]

    play(story)


def test_who_is_not_patient_does_not_start_without_it() -> None:
    async def story() -> None:
        bench = Bench(Scripted(SourceError("it is gone")))
        assert await bench.keyring.hold([WANTED]) == {"anthropic": "providers.anthropic.api_key: it is gone"}
        assert bench.told == []
        assert bench.keyring.facts("anthropic") is None
        bench.source.says = "sk-ant-oat01-the-login-of-a-subscription"
        failures = await bench.keyring.hold([WANTED])
        assert "subscription" in failures["anthropic"]
        assert "oat01" not in str(failures)
        await bench.keyring.stop()

    run_for_hours(story())


def test_who_is_patient_starts_and_has_it_when_it_is_there() -> None:
    async def story() -> None:
        bench = Bench(Scripted(SourceError("Vault is sealed")))
        assert await bench.keyring.hold([PATIENT]) == {}
        assert bench.secret == ""
        assert "anthropic cannot be read just now" in bench.keyring.unavailable("anthropic")
        assert "answered 503" in bench.keyring.warnings()[0]
        assert bench.told == [NoticeKind.SOURCE_FAILED]
        bench.source.says = ONE
        await asyncio.sleep(6)
        assert (bench.secret, bench.served, bench.keyring.unavailable("anthropic")) == (ONE, [ONE], "")
        assert bench.told == [NoticeKind.SOURCE_FAILED, NoticeKind.SOURCE_RECOVERED]
        await bench.keyring.stop()

    run_for_hours(story())


# --- rotation, and what the provider says to it


def test_the_provider_refuses_the_new_one_within_the_overlap() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await asyncio.sleep(801)
        assert bench.facts["overlap_until_ns"] is not None
        await bench.refused()
        assert bench.secret == ONE
        assert bench.told == [NoticeKind.CREDENTIAL_REFUSED]
        assert bench.facts["older_serves"]
        assert "the one before serves" in bench.keyring.warnings()[0]
        await asyncio.sleep(500)
        assert bench.secret == ONE
        await asyncio.sleep(101)  # it may have needed its time: once more
        assert (bench.secret, bench.facts["older_serves"]) == (TWO, False)
        await bench.refused()
        assert bench.secret == ONE
        bench.source.says = THREE
        await asyncio.sleep(801)
        assert bench.secret == THREE
        assert bench.keyring.warnings() == []
        assert bench.served == [TWO, ONE, TWO, ONE, THREE]

    play(story)


def test_what_one_caller_may_not_have_undoes_no_rotation() -> None:
    """403 is also the answer to who asks for a model that the account has not."""

    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await bench.keyring.refresh("anthropic")
        await bench.refused(403)
        assert (bench.secret, bench.facts["older_serves"]) == (TWO, False)
        await bench.refused(401)
        assert (bench.secret, bench.facts["older_serves"]) == (ONE, True)
        await bench.refused(403)
        assert bench.secret == ONE

    play(story)


def test_after_the_overlap_the_old_one_is_forgotten() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await asyncio.sleep(1402)
        assert bench.facts["overlap_until_ns"] is None
        await bench.refused()
        assert bench.secret == TWO
        assert bench.told == [NoticeKind.CREDENTIAL_REFUSED]

    play(story)


def test_when_both_are_refused_it_does_not_swing() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await asyncio.sleep(801)
        for _ in range(50):
            await bench.refused()
        assert bench.served == [TWO, ONE, TWO]
        assert bench.told == [NoticeKind.CREDENTIAL_REFUSED] * 2
        await asyncio.sleep(2000)
        assert bench.served == [TWO, ONE, TWO]

    play(story)


def test_an_operator_who_takes_a_rotation_back() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        await asyncio.sleep(801)
        await bench.refused()
        bench.source.says = ONE
        await asyncio.sleep(2000)
        assert (bench.secret, bench.facts["older_serves"], bench.keyring.warnings()) == (ONE, False, [])
        assert bench.served == [TWO, ONE]

    play(story)


def test_a_refused_one_is_read_again_at_once_but_not_for_each_call() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(100)
        bench.source.says = TWO  # rotated long before it was due, and the old one revoked
        await bench.refused()
        assert (bench.secret, bench.served) == (TWO, [TWO])
        bench.source.says = ONE
        reads = len(bench.source.read_at)
        for _ in range(100):
            await bench.refused(403)
        assert len(bench.source.read_at) == reads
        await asyncio.sleep(10)
        for _ in range(100):
            await bench.refused(403)
        assert len(bench.source.read_at) == reads + 1

    play(story)


def test_a_refused_one_without_another_is_told_once_a_spell() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(100):
            await bench.refused()
            await asyncio.sleep(20)
        assert bench.told == [NoticeKind.CREDENTIAL_REFUSED]
        assert bench.facts["refused_status"] == 401
        await asyncio.sleep(700)
        await bench.refused()
        assert bench.told == [NoticeKind.CREDENTIAL_REFUSED] * 2

    play(story)


# --- what is held


def test_what_is_held_stays_and_what_is_not_wanted_goes() -> None:
    async def story() -> None:
        opened: list[str] = []

        def open_source(wanted: Wanted) -> Scripted:
            if wanted.reference == "vault:none":
                raise SettingsError("providers.b.api_key: no HashiCorp Vault is configured")
            opened.append(wanted.reference)
            return Scripted(wanted.reference)

        keyring = Keyring(open_source, lambda _: None, lambda _: None, OPTIONS)
        rows = [Wanted("a", "env:A", "a"), Wanted("b", "env:B", "b"), Wanted("none", "", "none")]
        assert await keyring.hold(rows) == {}
        assert await keyring.hold(rows) == {}
        assert opened == ["env:A", "env:B"]
        assert (keyring.secret("a"), keyring.secret("none"), keyring.unavailable("none")) == ("env:A", "", "")
        assert "no HashiCorp" in (await keyring.hold([Wanted("b", "vault:none", "b")]))["b"]
        assert keyring.secret("b") == "env:B"
        assert await keyring.hold([Wanted("b", "env:C", "b")]) == {}
        assert keyring.secret("b") == "env:C"
        keyring.keep(["b"])
        assert (keyring.secret("a"), keyring.facts("a"), await keyring.refresh("a")) == ("", None, None)
        await keyring.stop()

    run_for_hours(story())


def test_it_can_be_read_now() -> None:
    async def story(bench: Bench) -> None:
        bench.source.says = TWO
        facts = await bench.keyring.refresh("anthropic")
        assert facts is not None
        assert (bench.secret, facts["failure"]) == (TWO, "")
        bench.source.says = SourceError("it is gone")
        facts = await bench.keyring.refresh("anthropic")
        assert facts is not None
        assert (bench.secret, facts["failure"]) == (TWO, "it is gone")

    play(story)

"""The corpus with random bytes changed, in random pieces, and cut in two at every place."""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.planes.plane import plane
from tests.planes.virtual_time import run_in_virtual_time
from tests.wire import law
from tests.wire.corpus import LENGTH, TE, Case, Fate, chunked, request
from tests.wire.corpus_heads import corpus
from tests.wire.mutants import breaches, mutant, seeds, send
from tests.wire.recorder import recording
from tests.wire.strict import read_requests

CHOICES = seeds()
SPLIT = (
    "TE in mixed case",
    "TE.CL with a request in a chunk",
    "announced trailer",
    "an extension",
    "an upgrade, chunked",
    "field, folded by a tab",
    "two Hosts, different",
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.reuse, Phase.generate))
@given(st.lists(st.integers(0, 2**32), min_size=64, max_size=64, unique=True))
def test_whatever_is_changed(numbers: list[int]) -> None:
    mutants = [mutant(number, CHOICES) for number in numbers]

    async def story() -> None:
        async with recording() as provider, plane(provider.port, edge=law.HURRIED) as running:
            outcomes = await send(mutants, running.port)
            assert not (found := breaches(mutants, outcomes, provider)), "\n".join(found)
            assert running.held == 0

    run_in_virtual_time(story())


def test_mutants_are_no_mere_noise() -> None:
    """A good part of them is still a request, a good part is none any more."""
    wires = [mutant(number, CHOICES).wire for number in range(500)]
    alive = sum(bool(read_requests(wire)[0]) for wire in wires)
    assert 100 < alive < 450


def test_wherever_it_is_cut() -> None:
    """Two writes instead of one change nothing, wherever between two bytes they meet."""
    by_name = {case.name: case for case in corpus()}
    honest = [
        Case("plain", request(LENGTH), Fate.PASSED, frozenset((200,))),
        Case("chunked", request(TE, body=chunked()), Fate.PASSED, frozenset((200,))),
    ]

    async def story(case: Case) -> None:
        async with recording() as provider, plane(provider.port, edge=law.HURRIED) as running:
            places = range(1, len(case.wire) + 20)
            cases = [case] * len(places)
            outcomes = await law.play(cases, running.port, cut_at=places)
            assert not (found := law.breaches(cases, outcomes, provider, direct=True)), "\n".join(found)

    for case in (*honest, *(by_name[name] for name in SPLIT)):
        run_in_virtual_time(story(case))

"""Nothing is lost when a gateway is killed, stopped, starved of disk, refused by its storage, locked out of its
database or shown another time under load; in short. `make chaos` has the long form.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from chaos.__main__ import CYCLE, CYCLES
from chaos.books import Round
from chaos.faulted import PLACES
from chaos.kinds import KINDS
from chaos.nursery import Nursery
from chaos.parts import LONG, SHORT, STREAMS
from chaos.run import Run
from tollhouse.workers import ShipperOptions

SEED = "20261122"
LANES = (
    ["killed"] * 8 + ["storm", "spent", "changed", "stopped"],  # kill -9 in the middle of 64 streams, eight times
    ["locked", "faulted", "gone"],
    ["behind", "nospace", "jumped"],
    ["away", "killed_postgres"],
)
"""All at once: they mostly wait."""
ROUNDS = [(lane, number, kind) for lane, kinds in enumerate(LANES) for number, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[int, int, str], Future[Round]]]:
    """The rounds that were asked for; each lane on its own gateways."""
    here = [item for item in request.session.items if item.path == request.path]
    wanted = [item.callspec.params["of"] for item in here if hasattr(item, "callspec")]
    rounds: dict[tuple[int, int, str], Future[Round]] = {}
    runs = [Run(tmp_path_factory.mktemp("chaos"), SEED, SHORT, nursery) for _ in LANES]
    pools = [ThreadPoolExecutor(1, f"lane {number}") for number in range(len(LANES))]
    for of in wanted:
        lane, number, kind = of
        rounds[of] = pools[lane].submit(runs[lane].play, kind, number)
    try:
        yield rounds
    finally:
        for pool, run in zip(pools, runs, strict=True):
            pool.shutdown(cancel_futures=True)
            with run:
                pass


@pytest.mark.parametrize("of", ROUNDS, ids=lambda of: f"{of[2]}{of[1]}")
def test_bill_answers_journal_and_ledger_agree(
    played: dict[tuple[int, int, str], "Future[Round]"], of: tuple[int, int, str]
) -> None:
    this = played[of].result()
    assert not +this.broken, (this.notes, f"make chaos ARGS='--short --replay {SEED}:{of[2]}:{of[1]}'")
    assert this.facts["calls"] > 20
    assert this.facts["billed_nusd"] > 0
    if of[2] == "killed":
        assert this.facts["streams_cut"] > STREAMS / 2
    if of[2] in ("faulted", "gone"):
        assert this.facts["faults"] > 0


def test_the_ledger_is_tried_again_in_time() -> None:
    """A full backlog turns calls away until the database is used again: no pause may be as long as the law's 5 s."""
    assert ShipperOptions().last_retry_s + ShipperOptions().interval_s < LONG.back_s / 2


def test_every_kind_has_its_rounds_and_every_place_its_turn() -> None:
    assert {kind for _, _, kind in ROUNDS} == set(KINDS) - {"fulldisk", "strict"}  # the long form has these
    assert LONG.places is not None
    assert CYCLE.count("faulted") * CYCLES * LONG.places >= len(PLACES)
    assert CYCLE.count("killed") * CYCLES == 50

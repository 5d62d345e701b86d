"""Nothing is lost when a gateway is killed, stopped, starved of disk or locked out of its database under load; in
short. `make chaos` has the long form.
"""

from collections.abc import Iterator

import pytest

from chaos.rounds import SHORT
from chaos.run import Run

SEED = "20261122"
KILLED = ["killed"] * 6 + ["storm", "spent"]  # kill -9 in the middle of 64 streams, eight times
OTHERS = ["changed", "stopped", "locked", "behind", "nospace"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with Run(tmp_path_factory.mktemp("chaos"), SEED, SHORT) as running:
        yield running


@pytest.mark.parametrize(("number", "kind"), list(enumerate(KILLED + OTHERS)))
def test_bill_answers_journal_and_ledger_agree(run: Run, number: int, kind: str) -> None:
    this = run.play(kind, number)
    assert not +this.broken, (this.notes, run.failed[-1]["reproduce"])
    assert this.facts["calls"] > 20
    assert this.facts["billed_nusd"] > 0
    if kind == "killed":
        assert this.facts["crashed"] > 40  # they were in the middle

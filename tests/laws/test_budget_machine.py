"""The budgets' law holds over random histories, and the same histories catch every seeded bug."""

from collections.abc import Iterator

import pytest

from tests.laws.budget_figures import FIRST_SEED, caught_by
from tests.laws.budget_machine import run
from tests.laws.one_node import Home
from tests.laws.seeded_bugs import BUGS

EXAMPLES = 50


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home() as opened:
        yield opened


def test_without_a_bug_every_law_holds(home: Home) -> None:
    assert run(home, examples=EXAMPLES, first_seed=FIRST_SEED) > 20 * EXAMPLES


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_caught(home: Home, bug: str) -> None:
    found = caught_by(home, bug)
    assert found is not None, "no history shows it"
    print(f"{bug}: {found[1]}")

"""The books see each breach: facts that agree are doctored one at a time."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.__main__ import main
from chaos.books import LAW, Round, audit
from chaos.calls import Call, Fate, Key
from chaos.nursery import Nursery
from chaos.parts import SHORT
from chaos.run import Run
from tollhouse.terms.events import SettleKind, SettleRecord
from tollhouse.terms.usage import Usage

KEY = Key("secret", "key_1", ("bud_1",))


class Books:
    """Stands in for a world whose three calls were billed 10 each: one seen whole, one estimated, one cut off."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory
        self.billed = [{"call": f"r-{n}", "state": "complete", "nusd": 10} for n in (1, 2, 3)]
        self.ledger = [row(1, "exact", 10), row(2, "estimated", 12), row(3, "upper", 30)]
        self.posted = 52
        self.limits = {"bud_1": 60}
        self.held = 0
        self.facts: dict[str, Any] = {
            "holds": 0,
            "bound_violations": 0,
            "journal": {"parked": 0, "dropped": 0, "open_holds": 0},
            "ledger": {"backlog": 0, "set_aside": 0},
        }

    def shipped(self) -> None:
        pass

    def bill(self, prefix: str) -> list[dict[str, Any]]:
        return self.billed

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [{"budget_id": "bud_1", "window_start_s": 0, "posted": self.posted}]

    def rows(self) -> list[dict[str, Any]]:
        return self.ledger

    def sums_nusd(self) -> Counter[tuple[str, int]]:
        return Counter({("bud_1", 0): sum(row["amount_nusd"] for row in self.ledger)})

    def limits_nusd(self) -> dict[str, int]:
        return self.limits

    def held_nusd(self) -> int:
        return self.held

    def status(self) -> dict[str, Any]:
        return self.facts


def row(number: int, kind: str, nusd: int) -> dict[str, Any]:
    facts = {"attempt_id": f"a-{number}", "session": f"r-{number}"}
    return {**facts, "kind": kind, "amount_nusd": nusd, "hold_nusd": 30, "budgets": '[["bud_1", 0]]'}


def call(number: int, *, complete: bool = False) -> Call:
    return Call(Fate(f"r-{number}", 0.5, 0.5, 0.0), KEY, stream=True, max_tokens=10, status=200, complete=complete)


def a_round() -> Round:
    settle = SettleRecord("a-1", 1, SettleKind.EXACT, 10, Usage(), "", 200, "", 0, 0)
    calls = [call(1, complete=True), call(2), call(3)]
    return Round("r", calls=calls, killed=True, settled={"a-1": settle})


def test_books_that_agree(tmp_path: Path) -> None:
    this = a_round()
    audit(Books(tmp_path), this)  # type: ignore[arg-type]
    assert not +this.broken, this.notes


DOCTORED: list[tuple[str, Callable[[Books, Round], object]]] = [
    ("lost_rows", lambda books, this: books.ledger.pop(1)),
    ("wrong_200", lambda books, this: books.ledger.pop(0)),
    ("double_rows", lambda books, this: books.ledger.append(row(2, "estimated", 12))),
    ("inexact_answers", lambda books, this: books.ledger[0].update(kind="upper")),
    ("not_exact_though_settled", lambda books, this: books.ledger[0].update(amount_nusd=11)),
    ("bill_minus_ledger_nusd", lambda books, this: books.ledger[0].update(amount_nusd=11)),
    ("invented_exact", lambda books, this: books.billed.pop(0)),
    ("below_bill", lambda books, this: books.ledger[1].update(amount_nusd=9)),
    ("overspend_nusd", lambda books, this: books.limits.update(bud_1=29)),
    ("overposted_nusd", lambda books, this: books.limits.update(bud_1=51)),
    ("wrong_postings", lambda books, this: setattr(books, "posted", 51)),
    ("stranded_nusd", lambda books, this: setattr(books, "held", 1)),
    ("stranded_holds", lambda books, this: books.facts.update(holds=1)),
    ("stranded_holds", lambda books, this: books.facts["journal"].update(parked=1)),
    ("stranded_holds", lambda books, this: books.facts["ledger"].update(backlog=1)),
    ("bound_violations", lambda books, this: books.facts.update(bound_violations=1)),
    ("damaged_segments", lambda books, this: (books.journal / "1.journal.damaged").touch()),
]


@pytest.mark.parametrize(("law", "doctor"), DOCTORED)
def test_a_breach_is_seen(tmp_path: Path, law: str, doctor: Callable[[Books, Round], object]) -> None:
    books, this = Books(tmp_path), a_round()
    doctor(books, this)
    audit(books, this)  # type: ignore[arg-type]
    assert this.broken[law]


def test_a_call_the_provider_refused_needs_no_row(tmp_path: Path) -> None:
    books, this = Books(tmp_path), a_round()
    books.billed.append({"call": "r-4", "state": "answered 429", "nusd": 0})
    audit(books, this)  # type: ignore[arg-type]
    assert not +this.broken, this.notes


def test_a_round_that_fails_is_told_with_all_figures(tmp_path: Path, nursery: Nursery) -> None:
    """A kind whose gateway cannot start: its error is a breach, and the law lists every name."""
    run = Run(tmp_path, "1", SHORT, nursery)
    (tmp_path / "world1").write_text("in the way")
    with run:
        run.play("killed", 3)
    figures = run.figures()
    assert figures["failed_rounds"] == 1
    assert set(LAW) <= set(figures)
    assert not figures["ok"]
    assert figures["failed"][0]["reproduce"].endswith("--replay 1:killed:3'")


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--minutes", "0"], ["--replay", "1:killed"]])
def test_words_it_does_not_know(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err

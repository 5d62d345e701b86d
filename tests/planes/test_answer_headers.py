"""The header lines of an answer, against their plain definitions."""

import math
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planes.plane import BUDGET
from tests.planes.records import settlement
from tollhouse.dataplane import reply
from tollhouse.dataplane.answer_headers import own
from tollhouse.dataplane.holds import Account, MoneyHold, Purse
from tollhouse.dataplane.plan import SHARED
from tollhouse.ports import LimitStanding
from tollhouse.rules.bounds import Bound, CapChoice
from tollhouse.terms.names import DialectName
from tollhouse.terms.people import Budget, BudgetUnit


class FakeTicket:
    def __init__(self, standing: LimitStanding | None) -> None:
        self.standing = standing

    def remaining(self) -> LimitStanding | None:
        return self.standing


def hold_of(cap: CapChoice, account: Account | None, payer: bytes = SHARED) -> MoneyHold:
    attempt: Any = SimpleNamespace(payer=payer, credential_id="" if payer == SHARED else "own_1")
    purse = Purse([] if account is None else [account], 1)
    return MoneyHold(settlement(1).hold, purse, attempt, Bound(0, 0, 0), cap, account)


def exchange(
    hold: MoneyHold | None = None,
    *,
    standing: LimitStanding | None = None,
    dialect: DialectName = DialectName.ANTHROPIC,
    origin: bytes = b"",
    sent_at: float | None = None,
) -> Any:
    """As much of an exchange as its header lines look at."""
    return SimpleNamespace(
        request_id="req_1",
        hold=hold,
        ticket=FakeTicket(standing) if hold is not None else None,
        dialect=SimpleNamespace(name=dialect),
        relay=None if sent_at is None else SimpleNamespace(sent_at=sent_at),
        started_at=100.0,
        head=SimpleNamespace(read={b"origin": origin} if origin else {}),
        plane=SimpleNamespace(options=SimpleNamespace(cors_origins=frozenset({b"https://a.example"}))),
    )


def fields(lines: bytes) -> dict[str, str]:
    """The lines by name; each name once."""
    assert lines.endswith(b"\r\n")
    pairs = [line.split(": ", 1) for line in lines.decode("ascii").split("\r\n")[:-1]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_without_a_hold_there_is_only_the_id() -> None:
    assert own(exchange()) == b"x-tollhouse-request-id: req_1\r\n"


@pytest.mark.parametrize("payer", [SHARED, b"assigned", b"own"])
@pytest.mark.parametrize("unit", list(BudgetUnit))
@given(held=st.integers(0, 2**62), limit=st.integers(0, 2**62), posted=st.integers(0, 2**62))
def test_amounts_are_exact_also_below_nothing(
    unit: BudgetUnit, payer: bytes, held: int, limit: int, posted: int
) -> None:
    budget = msgspec.structs.replace(BUDGET, unit=unit, limit=limit)
    account = Account(budget, 0, 1_800_000_000, posted)
    hold = hold_of(CapChoice(1_024, held, 5_000), account, payer)
    for _ in range(2):  # the second time by the remembered labels
        said = fields(own(exchange(hold)))
        assert list(said) == [
            "x-tollhouse-request-id",
            "x-tollhouse-paid-by",
            "x-tollhouse-held-usd",
            "x-tollhouse-budget",
            f"x-tollhouse-budget-remaining-{unit.value}",
            "x-tollhouse-budget-reset",
        ]
        assert (said["x-tollhouse-held-usd"], said["x-tollhouse-paid-by"]) == (usd(held), payer.decode())
        left = said[f"x-tollhouse-budget-remaining-{unit.value}"]
        assert left == (usd(limit - posted) if unit is BudgetUnit.USD else str(limit - posted))
        assert (said["x-tollhouse-budget"], said["x-tollhouse-budget-reset"]) == ("user alice", "1800000000")


def usd(amount_nusd: int) -> str:
    return f"{Decimal(amount_nusd).scaleb(-9):.9f}"


def test_a_budget_without_an_end_and_a_name_of_any_characters() -> None:
    account = Account(msgspec.structs.replace(BUDGET, scope_name="100 %d\r\nx: \xe9"), 0, None, 0)
    assert account.end_s == math.inf
    said = fields(own(exchange(hold_of(CapChoice(1, 0, 0), account))))
    assert said["x-tollhouse-budget"] == r"user 100 %d??x: \xe9"
    assert "x-tollhouse-budget-reset" not in said


def test_without_a_budget_only_what_is_held() -> None:
    said = fields(own(exchange(hold_of(CapChoice(1, 5, 0), None))))
    assert said == {
        "x-tollhouse-request-id": "req_1",
        "x-tollhouse-paid-by": "shared",
        "x-tollhouse-held-usd": "0.000000005",
    }


@pytest.mark.parametrize("budget", [None, BUDGET])
@pytest.mark.parametrize(("clamped", "why"), [(True, "clamped"), (False, "injected")])
def test_another_cap_than_the_clients_is_told(budget: Budget | None, clamped: bool, why: str) -> None:
    account = None if budget is None else Account(budget, 0, None, 0)
    cap = CapChoice(777, 5, 0, edit=True, clamped=clamped, injected=True)
    assert fields(own(exchange(hold_of(cap, account))))["x-tollhouse-max-tokens"] == f"777; {why}"


@pytest.mark.parametrize("dialect", list(DialectName))
def test_room_in_limits_is_told_in_the_words_of_the_sdk(dialect: DialectName) -> None:
    hold = hold_of(CapChoice(1, 5, 0), None)
    said = fields(own(exchange(hold, standing=LimitStanding(60, 7, 59.9994), dialect=dialect)))
    limits = {name: value for name, value in said.items() if "ratelimit" in name}
    general = {"limit-requests": "60", "remaining-requests": "7", "reset-requests": "59.999s"}
    theirs = {"limit": "60", "remaining": "7"} if dialect is DialectName.ANTHROPIC else {}
    assert limits == {f"x-ratelimit-{name}": value for name, value in general.items()} | {
        f"anthropic-ratelimit-requests-{name}": value for name, value in theirs.items()
    }


@given(st.integers(0, 2**62))
def test_a_settled_call_tells_its_cost_and_the_time_it_took_here(amount_nusd: int) -> None:
    settled = settlement(1, amount_nusd=amount_nusd)
    hold = hold_of(CapChoice(1, 5, 0), Account(BUDGET, 0, None, 0))
    said = fields(own(exchange(hold, sent_at=100.0125), settled))
    assert said["x-tollhouse-cost-usd"] == usd(amount_nusd)
    assert said["x-tollhouse-overhead-ms"] == "12.500"
    assert fields(own(exchange(hold), settled))["x-tollhouse-overhead-ms"] == "0.000"


def test_only_a_page_of_an_origin_on_the_list_may_read_them() -> None:
    assert fields(own(exchange(origin=b"https://a.example")))["access-control-allow-origin"] == "https://a.example"
    assert own(exchange(origin=b"https://b.example")) == own(exchange())


# -------------------------------------------------------------------------------------------------------------- framing


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    ("status", "method", "rest"),
    [
        (200, b"POST", b"content-length: 2\r\n\r\n{}"),
        (200, b"HEAD", b"content-length: 2\r\n\r\n"),
        (204, b"OPTIONS", b"\r\n"),
        (304, b"GET", b"\r\n"),
    ],
)
def test_a_whole_answer(status: int, method: bytes, keep_alive: bool, rest: bytes) -> None:
    head, _, after = reply.whole(status, b"x-a: 1\r\n", b"{}", method=method, keep_alive=keep_alive).partition(b"\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert after == b"x-a: 1\r\n" + (b"" if keep_alive else b"connection: close\r\n") + rest

"""Money is whole numbers: what is written is what is read, and nothing is rounded down."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.terms.money import (
    MAX_AMOUNT_NUSD,
    NUSD_PER_USD,
    PUSD_PER_NUSD,
    decimal_usd,
    format_usd,
    nusd_from_pusd,
    parse_usd,
)

AMOUNTS = st.integers(0, MAX_AMOUNT_NUSD)


def test_the_units() -> None:
    assert NUSD_PER_USD == 10**9
    assert NUSD_PER_USD * PUSD_PER_NUSD == 10**12
    assert MAX_AMOUNT_NUSD * 2 <= 2**63


@given(st.integers(0, 2**80))
def test_a_charge_is_the_price_rounded_up(amount_pusd: int) -> None:
    charge = nusd_from_pusd(amount_pusd) * PUSD_PER_NUSD
    assert amount_pusd <= charge < amount_pusd + PUSD_PER_NUSD


@given(AMOUNTS)
def test_the_exact_decimal_is_read_back(amount_nusd: int) -> None:
    text = decimal_usd(amount_nusd)
    assert parse_usd(text) == parse_usd("$" + text) == parse_usd(Decimal(text)) == amount_nusd
    assert Fraction(text) * NUSD_PER_USD == amount_nusd
    assert "e" not in text.lower()
    assert decimal_usd(-amount_nusd) == ("-" + text if amount_nusd else text)


@given(AMOUNTS)
def test_what_people_read_is_never_below_the_amount_nor_far_above(amount_nusd: int) -> None:
    shown = Fraction(format_usd(amount_nusd).removeprefix("$")) * NUSD_PER_USD
    assert amount_nusd <= shown
    slack = 10_000_000 if amount_nusd >= NUSD_PER_USD else amount_nusd / 10
    assert shown - amount_nusd <= slack
    assert len(format_usd(amount_nusd).partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("amount_nusd", "text"),
    [
        (0, "$0.00"),
        (20 * NUSD_PER_USD, "$20.00"),
        (1_230_000_000, "$1.23"),
        (1_230_000_001, "$1.24"),
        (50_000_000, "$0.05"),
        (42_000, "$0.000042"),
        (1, "$0.000000001"),
        (-1_500_000_000, "-$1.50"),
    ],
)
def test_shown_to_people(amount_nusd: int, text: str) -> None:
    assert format_usd(amount_nusd) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "x",
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e999999",
        "1e-999999",
        "1.0000000000000000000000000000000001",
        "0.0000000001",
        "1,5",
        "$$1",
        str(MAX_AMOUNT_NUSD // NUSD_PER_USD + 1),
    ],
)
def test_what_is_no_amount_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="amount in USD"):
        parse_usd(text)


def test_nothing_is_nothing_in_any_exponent() -> None:
    assert [parse_usd(text) for text in ("0", "-0", "0.00", "0e999999", "0e-999999")] == [0] * 5


@given(st.text(max_size=15))
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    try:
        amount_nusd = parse_usd(text)
    except ValueError:
        return
    assert 0 <= amount_nusd <= MAX_AMOUNT_NUSD

"""Money without floats: amounts are integer nano-USD, prices integer pico-USD per token, every product rounded up."""

from decimal import Decimal, InvalidOperation

NUSD_PER_USD = 1_000_000_000
PUSD_PER_NUSD = 1_000
MAX_AMOUNT_NUSD = 2**62
"""Largest amount stored: fits a signed 64-bit column with room for one addition (about 4.6 billion USD)."""

_MAX_MAGNITUDE = 9
"""Decimal exponent of the largest amount in USD; the product of what lies far above it overflows."""
_EXACT_DIGITS = 28
"""More digits than these the context of `decimal` would round away."""


def nusd_from_pusd(amount_pusd: int) -> int:
    """Pico-USD to nano-USD, rounded up (a charge is never below the price)."""
    return -(-amount_pusd // PUSD_PER_NUSD)


def parse_usd(text: str | int | Decimal) -> int:
    """Read a USD amount such as `20`, `"0.05"` or `"$1.50"` as nano-USD.

    Raises ValueError for anything that is not a finite, non-negative decimal of at most nine decimal places.
    """
    cleaned = text.strip().removeprefix("$").replace("_", "") if isinstance(text, str) else text
    try:
        amount = Decimal(cleaned)
    except (InvalidOperation, ValueError) as error:
        raise ValueError(f"not an amount in USD: {text!r} (write for example 20 or 0.05)") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"an amount in USD is a finite number of at least 0, not {text!r}")
    if not amount:
        return 0
    nusd = amount * NUSD_PER_USD if amount.adjusted() <= _MAX_MAGNITUDE else None
    if nusd is None or nusd > MAX_AMOUNT_NUSD:
        raise ValueError(f"an amount in USD is at most {MAX_AMOUNT_NUSD // NUSD_PER_USD}, not {text!r}")
    if len(amount.as_tuple().digits) > _EXACT_DIGITS or nusd != nusd.to_integral_value():
        raise ValueError(f"an amount in USD has at most nine decimal places, unlike {text!r}")
    return int(nusd)


def decimal_usd(amount_nusd: int) -> str:
    """Exact decimal USD without exponent or trailing zeros: 1_230_000_000 is `1.23`, 5 is `0.000000005`."""
    sign = "-" if amount_nusd < 0 else ""
    whole, fraction = divmod(abs(amount_nusd), NUSD_PER_USD)
    return f"{sign}{whole}" + (f".{fraction:09d}".rstrip("0") if fraction else "")


def format_usd(amount_nusd: int) -> str:
    """For people: cents from one dollar on, below it two digits more than leading zeros; never rounded to zero, always
    up: `$1.23`, `$0.9986`, `$0.000042`.
    """
    sign = "-" if amount_nusd < 0 else ""
    size = abs(amount_nusd)
    if size >= NUSD_PER_USD or size == 0 or size % 10_000_000 == 0:
        cents = -(-size // 10_000_000)
        return f"{sign}${cents // 100}.{cents % 100:02d}"
    digits = f"{size:09d}"
    keep = max(4, len(digits) - len(digits.lstrip("0")) + 2)
    scale = 10 ** max(0, 9 - keep)
    rounded = -(-size // scale) * scale
    text = f"{rounded // NUSD_PER_USD}.{rounded % NUSD_PER_USD:09d}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{sign}${whole}.{fraction:0<2}"

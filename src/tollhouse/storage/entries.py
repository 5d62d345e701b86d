"""Entries of the ledger as rows, in two parts: what calls of one kind say alike, and what each says for itself.

Calls are of few kinds: the same tool asks the same model of the same provider, and all goes well. Of the forty values
of an entry half are the same for all of them, nearly all its texts among these; and to hand a text to SQLite costs as
much as to store it. So entries of one kind go together, and what they share is handed over once (`bulk`).
"""

import msgspec

from tollhouse.storage.bulk import NUL, Bulk, Row, without_nul
from tollhouse.storage.requests import MAX_NUMBER, attempt_number
from tollhouse.storage.tables import ledger
from tollhouse.terms.events import Settlement

Window = tuple[str, int]
"""Budget id and the start of its window in seconds since 1970 UTC."""

ALIKE = (
    "org_id",
    "endpoint",
    "provider",
    "requested_model",
    "upstream_model",
    "served_model",
    "kind",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "web_searches",
    "web_fetches",
    "variant",
    "price_version",
    "streamed",
    "status",
    "client",
    "code",
    "team_id",
    "credential_id",
)
"""The columns of the first part. The rarer counts are here because they are 0."""

ENTER = Bulk.insert(
    tuple(ledger.columns), "ON CONFLICT (request_id, attempt) DO NOTHING", alike=ALIKE, numbered="entry_id"
)

_OWN = [column.name for column in ledger.columns if column.name not in (*ALIKE, "entry_id")]
_NUMBERS = slice(_OWN.index("amount_nusd"), _OWN.index("output_tokens") + 1)
_COUNTS = slice(ALIKE.index("cache_write_1h_tokens"), ALIKE.index("web_fetches") + 1)
"""What a provider or a price may have made absurd, in the one part and the other."""

_encode = msgspec.json.Encoder().encode


def alike(settlement: Settlement) -> Row:
    """Values in the order of ALIKE: nothing but str and int, which sqlite3 takes as they are."""
    hold, settle = settlement.hold, settlement.settle
    used = settle.usage
    values: Row = (
        hold.org_id,
        hold.endpoint,
        hold.provider,
        hold.requested_model,
        hold.upstream_model,
        settle.served_model,
        settle.kind._value_,  # a plain str, without the detour over the property
        used.cache_write_1h_tokens,
        used.input_audio_tokens,
        used.output_audio_tokens,
        used.web_searches,
        used.web_fetches,
        used.variant or "",
        hold.price_version,
        1 if hold.streamed else 0,
        settle.status,
        hold.client,
        settle.code,
        hold.team_id,
        hold.credential_id,
    )
    if sum(values[_COUNTS]) <= MAX_NUMBER and NUL not in settle.served_model:
        return values
    return _fitting(values, _COUNTS)


class OwnParts:
    """Makes the second part of entries. One for each transaction."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Window, ...], str] = {}
        """What the column `budgets` says; many entries of a transaction say the same."""
        self._last: tuple[Window, ...] = ()
        self._last_text = self._text(())
        """Calls of one user come together, with the very same budgets: not even their hash is asked for."""

    def part(self, settlement: Settlement) -> Row:
        """Values in the order of the table's columns. Raises ValueError for an attempt of another request."""
        hold, settle = settlement.hold, settlement.settle
        used, budgets = settle.usage, hold.budgets
        if budgets is not self._last:
            self._last = budgets
            self._last_text = self._texts.get(budgets) or self._text(budgets)
        values: Row = (
            hold.request_id,
            attempt_number(hold),
            hold.at_ns,
            settle.at_ns,
            hold.user_id,
            hold.key_id,
            settle.amount_nusd,
            hold.hold_nusd,
            hold.hold_tokens,
            hold.max_output_tokens,
            settle.tokens,
            used.input_tokens,
            used.cache_write_5m_tokens,
            used.cache_read_tokens,
            used.output_tokens,
            settle.duration_us,
            settle.first_byte_us,
            settle.response_bytes,
            hold.session,
            settle.upstream_request_id,
            self._last_text,
            hold.end_user,
        )
        if sum(values[_NUMBERS]) <= MAX_NUMBER and NUL not in hold.session and NUL not in hold.end_user:
            return values
        return _fitting(values, _NUMBERS)

    def _text(self, budgets: tuple[Window, ...]) -> str:
        text = self._texts[budgets] = _encode(budgets).decode()
        return text


def _fitting(values: Row, numbers: slice) -> Row:
    """With numbers and texts that fit their columns: an absurd one must not stop every other row."""
    bounded = [min(number, MAX_NUMBER) for number in values[numbers]]
    return tuple(map(without_nul, (*values[: numbers.start], *bounded, *values[numbers.stop :])))

"""What was used, what it cost, and the log of requests."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.problems import invalid, not_found
from tollhouse.controlplane.shapes import DEFAULT_PAGE, CursorQuery, LimitQuery, Page, cursor_position, cut
from tollhouse.controlplane.tenancy import admit, reached
from tollhouse.controlplane.times import NS_PER_S, iso_ns, iso_s, parse_instant_s
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.rules.tenants import Tenant
from tollhouse.storage import ledger, requests
from tollhouse.storage.ledger import MAX_GROUPS, UsageRow
from tollhouse.storage.requests import RequestRow
from tollhouse.terms.credentials import PaidBy, paid_by
from tollhouse.terms.money import decimal_usd

router = APIRouter(prefix="/api/v1", tags=["reports"])

MAX_UTC_OFFSET_S = 14 * 3_600

Named = Annotated[str | None, Query(max_length=256)]
Instant = Annotated[str | None, Query(max_length=64, description="`7d` (ago), `2026-11-22` or a time with zone")]


class UsageFigures(BaseModel):
    """Amounts are exact decimals. `estimated_usd` and `upper_usd` are parts of `amount_usd` nobody reported so;
    `own_usd` is the part that users' own provider keys paid.
    """

    calls: int
    input_tokens: int
    """Uncached."""
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    amount_usd: str
    estimated_usd: str
    upper_usd: str
    own_usd: str


class UsageGroup(UsageFigures):
    group: str
    label: str
    """A name for people; the group itself when it has none."""


class UsageReport(BaseModel):
    """`total` is over everything asked for, also what did not fit into `rows`."""

    by: str
    since: str | None
    until: str | None
    rows: list[UsageGroup]
    total: UsageFigures


class TokensOut(BaseModel):
    input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    output_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    web_searches: int
    web_fetches: int
    variant: str | None


class RequestOut(BaseModel):
    """`kind` says how the amount is known: exact, estimated, upper (the whole hold), voided; empty is free.

    `paid_by` is whose key the provider was called with: shared, assigned or own; empty when no money was held.
    """

    request_id: str
    at: str | None
    user_id: str
    team_id: str
    key_id: str
    endpoint: str
    provider: str
    requested_model: str
    upstream_model: str
    served_model: str
    status: int
    code: str
    kind: str
    amount_usd: str
    hold_usd: str
    max_output_tokens: int
    usage: TokensOut
    price_version: str
    streamed: bool
    duration_ms: float
    first_byte_ms: float
    response_bytes: int
    attempts: int
    client: str
    session: str
    end_user: str
    """Of the application's own users, as the client says."""
    upstream_request_id: str
    paid_by: PaidBy | Literal[""]
    credential_id: str
    """The stored credential; empty: the provider's own."""


@router.get("/usage")
async def read_usage(
    deps: Deps,
    visit: By,
    by: ledger.UsageBy = "user",
    since: Instant = None,
    until: Instant = None,
    user: Named = None,
    key: Named = None,
    team: Named = None,
    limit: Annotated[int, Query(ge=1, le=MAX_GROUPS)] = DEFAULT_PAGE,
    utc_offset_s: Annotated[int, Query(ge=-MAX_UTC_OFFSET_S, le=MAX_UTC_OFFSET_S)] = 0,
) -> UsageReport:
    """Calls, tokens and cost, dearest group first; by day in order of time. Of what the caller may know of: an admin
    everything, who leads a team what counted toward it, everybody their own.
    """
    theirs = reached(visit.caller, Action.READ_USAGE)
    now_s = deps.now_ns() // NS_PER_S
    since_s, until_s = _instant("since", since, now_s), _instant("until", until, now_s)

    def query(connection: Connection) -> tuple[tuple[UsageRow, ...], tuple[UsageRow, ...]]:
        def report(group: ledger.UsageBy, most: int) -> tuple[UsageRow, ...]:
            return ledger.usage(
                connection,
                group,
                since_s=since_s,
                until_s=until_s,
                user_id=user,
                key_id=key,
                team_id=team,
                tenants=theirs,
                limit=most,
                utc_offset_s=utc_offset_s,
            )

        # Days are few (10,000 are 27 years), so their sum is the sum of everything.
        days = report("day", MAX_GROUPS)
        return (days[-limit:] if by == "day" else report(by, limit)), days

    await deps.shipped()
    rows, days = await deps.read(query)
    groups = [UsageGroup(group=row.group, label=row.label or row.group, **_figures((row,))) for row in rows]
    total = UsageFigures(**_figures(days))
    return UsageReport(by=by, since=iso_s(since_s), until=iso_s(until_s), rows=groups, total=total)


@router.get("/requests")
async def list_requests(
    deps: Deps,
    visit: By,
    user: Named = None,
    key: Named = None,
    team: Named = None,
    session: Named = None,
    end_user: Named = None,
    failed: Annotated[bool | None, Query(description="Only those with (true) or without (false) a code")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[RequestOut]:
    """Requests, newest first, refused ones too: those the caller may know of."""
    after = cursor_position(cursor)
    theirs = reached(visit.caller, Action.READ_REQUESTS)

    def query(connection: Connection) -> tuple[RequestRow, ...]:
        try:
            return requests.list_requests(
                connection,
                user_id=user,
                key_id=key,
                team_id=team,
                tenants=theirs,
                session=session,
                end_user=end_user,
                failed=failed,
                cursor=after,
                limit=limit + 1,
            )
        except ValueError:
            raise invalid("cursor", "is not one this list gave; start again without it") from None

    await deps.shipped()
    page, next_cursor = cut(await deps.read(query), limit, requests.cursor_after)
    return Page(items=[request_out(row) for row in page], next_cursor=next_cursor)


@router.get("/requests/{request_id}")
async def get_request(request_id: str, deps: Deps, visit: By) -> RequestOut:
    """One request with its cost: for who may know of it, and for the virtual key that made it."""
    await deps.shipped()
    row = await deps.read(lambda connection: requests.get_request(connection, request_id))
    # Somebody else's request looks like none at all.
    missing = not_found("request", request_id, "It may not be over yet, be another's, or have left the log.")
    if row is None:
        raise missing
    key = visit.caller.key
    if key is None:
        tenant = Tenant(row.user_id, frozenset((row.team_id,) if row.team_id else ()))
        admit(visit.caller, Action.READ_REQUESTS, tenant, missing)
    elif row.key_id != key.key_id:
        raise missing
    return request_out(row)


def request_out(row: RequestRow) -> RequestOut:
    used = row.usage
    return RequestOut(
        **{name: getattr(row, name) for name in _SAME},
        at=iso_ns(row.at_ns),
        paid_by=paid_by(row.credential_id) if row.attempts else "",
        amount_usd=decimal_usd(row.amount_nusd),
        hold_usd=decimal_usd(row.hold_nusd),
        usage=TokensOut(**msgspec.structs.asdict(used)),
        duration_ms=row.duration_us / 1_000,
        first_byte_ms=row.first_byte_us / 1_000,
    )


_SAME = tuple(name for name in RequestOut.model_fields if name in RequestRow.__struct_fields__ and name != "usage")


def _figures(rows: tuple[UsageRow, ...]) -> dict[str, int | str]:
    counts = {name: sum(getattr(row, name) for row in rows) for name in _COUNTS}
    sums = {f"{name}_usd": decimal_usd(sum(getattr(row, f"{name}_nusd") for row in rows)) for name in _AMOUNTS}
    return counts | sums


_COUNTS = ("calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
_AMOUNTS = ("amount", "estimated", "upper", "own")


def _instant(field: str, text: str | None, now_s: int) -> int | None:
    if text is None:
        return None
    try:
        return parse_instant_s(text, now_s, ahead=False)
    except ValueError as error:
        raise invalid(field, str(error)) from error

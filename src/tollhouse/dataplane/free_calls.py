"""Calls that cost nothing: listing models and counting tokens. They carry a zero hold and have a generous rate limit of
their own.
"""

from typing import TYPE_CHECKING

import msgspec

from tollhouse.dataplane import answer_headers
from tollhouse.dataplane.attempts import REFUSED, request_bytes
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.relay import Relay
from tollhouse.dataplane.snapshot import Principal
from tollhouse.ports import LimitHolder
from tollhouse.rules.access import admits
from tollhouse.terms.errors import Refusal
from tollhouse.terms.holds import ZeroHold
from tollhouse.terms.people import Limits

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

COUNTING = ZeroHold("count_tokens")
BYTES_PER_TOKEN = 4
"""English prose and code; an estimate is marked as one."""
NOT_OFFERED = frozenset((404, 405, 501))
"""How an upstream says that it has no token counting."""


async def count_tokens(exchange: "Exchange", principal: Principal, attempt: Attempt) -> None:
    """The provider's count; where it has none, an estimate that says so. Raises Refusal (429) and UpstreamError."""
    plane, ask = exchange.plane, exchange.ask
    assert ask is not None
    limits = Limits(requests_per_minute=plane.options.free_calls_per_minute)
    name = f"free:{principal.user.user_id}@{principal.key.key_id}"
    ticket = exchange.ticket = plane.limiter.take((LimitHolder(name, limits),), 0)
    if ticket.pending is not None:
        await ticket.pending
    exchange.provider_name = attempt.provider.name
    body = exchange.whole_body()
    if attempt.lane is not None:
        relay = exchange.relay = Relay(exchange)
        model = attempt.upstream_model if attempt.upstream_model != ask.model else None
        relay.message = request_bytes(exchange.head, attempt.lane, exchange.dialect.edit(body, ask, model=model))
        starting = plane.pool.start(COUNTING, attempt.provider.origin, relay)
        if starting is not None:
            await starting
        await relay
        if relay.status in REFUSED:
            plane.credential_refused(attempt.provider, attempt.credential_id, relay.status)
        if relay.failure is not None:
            relay.check()
        if relay.begun:
            exchange.end_stream()
            return
        if relay.status not in NOT_OFFERED:
            code = "" if relay.status < 300 else f"upstream_{relay.status}"
            exchange.note(relay.status, code, attempt.credential_id)
            headers = relay.forwarded() + answer_headers.PAID_BY % attempt.payer + answer_headers.own(exchange)
            exchange.answer(relay.status, headers, relay.whole())
            return
    exchange.note(200, "estimated")
    answer = msgspec.json.encode({"input_tokens": -(-len(body) // BYTES_PER_TOKEN)})
    headers = b"content-type: application/json\r\nx-tollhouse-estimated: true\r\n" + answer_headers.own(exchange)
    exchange.answer(200, headers, answer)


def answer_models(exchange: "Exchange", principal: Principal) -> None:
    """`GET /v1/models` and `/v1/models/{id}` in the caller's dialect: what this key may use, by name."""
    dialect = exchange.dialect
    payers = principal.payers
    names = dict.fromkeys(
        name
        for name, provider in exchange.plane.planner.models()
        if any(
            all(admits(models, name) for models in face.models)
            for face in ((principal,) if payers is None else payers.faces(provider))
        )
    )
    _, _, wanted = exchange.head.path.partition(b"/models/")
    headers = b"content-type: application/json\r\n" + answer_headers.own(exchange)
    body = dialect.model_list(list(names), exchange.at_ns // 1_000_000_000)
    if wanted:
        rows = {row["id"]: row for row in msgspec.json.decode(body)["data"]}
        row = rows.get(wanted.decode("latin-1"))
        if row is None:
            exchange.answer_refusal(
                Refusal(404, "unknown_model", f"There is no model {wanted.decode('latin-1')!r} for this key.")
            )
            return
        body = msgspec.json.encode(row)
    exchange.note(200, "")
    exchange.answer(200, headers, body)

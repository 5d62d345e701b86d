"""A page's chat becomes a call like any other: its body is written anew with what the operator pinned, for the dialect
of the model's provider. Nothing of the page's own headers or query goes to the provider.

How long an answer may be is pinned, too: a page gets so much where it asks for nothing else, and no more than that.
Only a call that the user's own key pays may ask for more, as much as its plan allows.
"""

from typing import TYPE_CHECKING

import msgspec

from tollhouse import __version__
from tollhouse.dataplane.head import Route
from tollhouse.dataplane.plan import Planner
from tollhouse.dialects.page import PAGES, read_talk
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName, Endpoint

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

ROUTES = tuple(
    Route(endpoint, dialect, b"POST", name=Endpoint.CHAT.value)
    for endpoint, dialect in (
        (Endpoint.MESSAGES, DialectName.ANTHROPIC),
        (Endpoint.CHAT_COMPLETIONS, DialectName.OPENAI_CHAT),
    )
)
"""What a chat may become, the first choice first. In the ledger it stays a chat."""
HEADERS = b"content-type: application/json\r\nanthropic-version: 2023-06-01\r\nuser-agent: tollhouse/%b\r\n" % (
    __version__.encode()
)


def recast(exchange: "Exchange") -> bool:
    """Make the exchange one with the pinned model; False when it was refused instead."""
    pinned = exchange.plane.chat
    assert pinned is not None, "the path is closed without"
    try:
        talk = read_talk(exchange.whole_body(), pinned)
        route = route_of(exchange.plane.planner, pinned.model)
    except Refusal as refusal:
        exchange.answer_refusal(refusal)
        return False
    dialect = PAGES[route.dialect]
    exchange.route, exchange.dialect = route, dialect
    if exchange.principal is None or exchange.principal.payers is None:  # else it depends on who will pay
        talk.max_tokens = min(talk.max_tokens or pinned.max_tokens, pinned.max_tokens)
    exchange.body = [dialect.write(talk, pinned)]
    exchange.head = msgspec.structs.replace(exchange.head, forwarded=HEADERS, query=b"")
    return True


def as_pinned(exchange: "Exchange") -> None:
    """No more output than is pinned, whatever the page asked for."""
    pinned, ask = exchange.plane.chat, exchange.ask
    assert pinned is not None, "the path is closed without"
    assert ask is not None, "it was read before anybody paid"
    if (ask.max_output_tokens or 0) > pinned.max_tokens:
        body = exchange.dialect.edit(exchange.whole_body(), ask, max_output_tokens=pinned.max_tokens)
        exchange.body = [body]
        exchange.ask = exchange.dialect.read(body)


def route_of(planner: Planner, model: str) -> Route:
    """In which dialect the model answers. Raises Refusal (503) when in none of a chat's."""
    for route in ROUTES:
        try:
            planner.plan(model, route.endpoint)
        except Refusal:
            continue
        return route
    message = f"There is no chat right now: no provider serves the model {model!r} (chat.model). Tell the operator."
    raise Refusal(503, "chat_unavailable", message)

"""What is remembered of a request besides money: by which tool, in which conversation, and its row in the log."""

from time import monotonic
from typing import TYPE_CHECKING

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.holds import Caller
from tollhouse.terms.ask import Ask
from tollhouse.terms.events import Refused

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

MAX_CLIENT_CHARS = 64
MAX_SESSION_CHARS = 128


def caller(exchange: "Exchange") -> Caller:
    """What a hold remembers."""
    head, ask = exchange.head, exchange.ask
    return Caller(
        exchange.request_id,
        head.route.endpoint.value,
        exchange.at_ns,
        client_family(head),
        session_of(head, ask) if ask else "",
    )


def row(exchange: "Exchange", status: int, code: str) -> Refused:
    """A row of the request log for a call that never held money."""
    principal = exchange.principal
    return Refused(
        exchange.request_id,
        exchange.at_ns,
        principal.user.org_id if principal else "",
        principal.user.user_id if principal else "",
        principal.key.key_id if principal else "",
        exchange.head.route.endpoint.value,
        exchange.ask.model if exchange.ask else "",
        status,
        code,
        int((monotonic() - exchange.started_at) * 1e6),
        client_family(exchange.head),
        exchange.provider_name,
    )


def client_family(head: RequestHead) -> str:
    """`claude-cli/2.1 (…)` is `claude-cli`."""
    agent = head.read.get(b"user-agent", b"").decode("latin-1")
    return agent.split("/", 1)[0].split(" ", 1)[0][:MAX_CLIENT_CHARS]


def session_of(head: RequestHead, ask: Ask) -> str:
    """The client's own name of the conversation, for attribution: a header of the tools, else what the body says."""
    for name in (b"x-claude-code-session-id", b"x-session-id", b"session-id"):
        value = head.read.get(name)
        if value:
            return value.decode("latin-1")[:MAX_SESSION_CHARS]
    return ask.session[:MAX_SESSION_CHARS]

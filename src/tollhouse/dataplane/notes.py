"""What is remembered of a request that never held money: its row in the log."""

from time import monotonic
from typing import TYPE_CHECKING

from tollhouse.terms.events import Refused

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange


def row(exchange: "Exchange", status: int, code: str, credential_id: str, attempts: int) -> Refused:
    """A row of the request log for a call that never held money."""
    principal = exchange.principal
    return Refused(
        exchange.request_id,
        exchange.at_ns,
        principal.user.org_id if principal else "",
        principal.user.user_id if principal else "",
        principal.key.key_id if principal else "",
        exchange.route.endpoint_name,
        exchange.ask.model if exchange.ask else "",
        status,
        code,
        int((monotonic() - exchange.started_at) * 1e6),
        exchange.head.client,
        exchange.provider_name,
        principal.team.team_id if principal and principal.team else "",
        credential_id,
        end_user=exchange.ask.end_user if exchange.ask and exchange.ask.end_user else exchange.head.end_user,
        attempts=attempts,
    )

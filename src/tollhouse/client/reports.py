"""What was used, what is left, and single requests."""

from typing import Literal

from tollhouse.client.asks import Ask, PageAsk, ask, page, segment
from tollhouse.client.shapes import Content, Me, Request, Usage


def me(provider: str | None = None) -> Ask[Me]:
    """Whoever asks, by a virtual key: who they are, what limits their calls (to this provider), what is left."""
    return ask("GET", "/me", Me, provider=provider)


def usage(
    by: Literal["user", "key", "team", "model", "client", "session", "end_user", "payer", "day"] = "user",
    *,
    since: str | None = None,
    until: str | None = None,
    user: str | None = None,
    key: str | None = None,
    team: str | None = None,
    limit: int | None = None,
) -> Ask[Usage]:
    """Calls, tokens and cost, dearest group first. `since`: `7d` (ago), a date or a time."""
    return ask("GET", "/usage", Usage, by=by, since=since, until=until, user=user, key=key, team=team, limit=limit)


def requests(
    *,
    user: str | None = None,
    key: str | None = None,
    team: str | None = None,
    session: str | None = None,
    end_user: str | None = None,
    failed: bool | None = None,
) -> PageAsk[Request]:
    """Newest first, refused ones too."""
    return page("/requests", Request, user=user, key=key, team=team, session=session, end_user=end_user, failed=failed)


def request(request_id: str) -> Ask[Request]:
    """By the `x-tollhouse-request-id` of its answer."""
    return ask("GET", f"/requests/{segment(request_id)}", Request)


def content(request_id: str) -> Ask[Content]:
    """What was asked and answered, where its key has it kept."""
    return ask("GET", f"/requests/{segment(request_id)}/content", Content)

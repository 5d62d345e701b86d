"""What was done, by whom, and whether the record of it is whole."""

from typing import Literal

from tollhouse.client.asks import Ask, PageAsk, ask, page
from tollhouse.client.shapes import AuditRecord, AuditVerification


def find(
    *,
    actor: str | None = None,
    action: str | None = None,
    act: str | None = None,
    kind: str | None = None,
    object: str | None = None,  # noqa: A002  its name
    since: str | None = None,
    until: str | None = None,
    order: Literal["newest", "oldest"] | None = None,
) -> PageAsk[AuditRecord]:
    """Newest first unless said otherwise. `actor`, `object`: ids; `since`: `7d` (ago), a date or a time."""
    return page(
        "/audit",
        AuditRecord,
        actor=actor,
        action=action,
        act=act,
        kind=kind,
        object=object,
        since=since,
        until=until,
        order=order,
    )


def verify(after: str | None = None, *, head: str | None = None, limit: int | None = None) -> Ask[AuditVerification]:
    """A part of the trail: ask again with `after=answer.next` until that is None. `head`: one that you kept."""
    return ask("GET", "/audit/verification", AuditVerification, after=after, head=head, limit=limit)

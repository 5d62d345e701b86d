"""A notice as its receivers read it: JSON with id, type, at, subject, text, data."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from tollhouse.terms.webhooks import RecordedNotice

_S_NS: Final = 1_000_000_000


def body_of(recorded: RecordedNotice) -> bytes:
    """The same bytes every time."""
    notice = recorded.notice
    at = datetime.fromtimestamp(notice.at_ns // _S_NS, UTC)
    return msgspec.json.encode(
        {
            "id": recorded.notice_id,
            "type": notice.kind.value,
            "at": at.isoformat().replace("+00:00", "Z"),
            "subject": notice.subject,
            "text": notice.text,
            "data": notice.data,
        }
    )

"""Line ends of all kinds in one read: what a proxy puts into a stream need not end as the provider's own lines do."""

import pytest

from tests.dialects.recorded import meter, recording, with_line_ends
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.dialects.openai_responses import OPENAI_RESPONSES

PING = b": ping\n\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize(
    ("dialect", "name"),
    [(ANTHROPIC, "anthropic_text.sse"), (OPENAI_CHAT, "openai_text.sse"), (OPENAI_RESPONSES, "responses_text.sse")],
    ids=["anthropic", "chat", "responses"],
)
def test_a_read_that_ends_with_another_kind_of_event(dialect: Dialect, name: str, line_end: bytes) -> None:
    told = with_line_ends(recording(name), line_end)
    relayed, seen = meter(dialect, [told + PING])
    assert relayed == told + PING
    assert seen == meter(dialect, [recording(name)])[1]


def test_the_usage_chunk_is_taken_out_of_such_a_read() -> None:
    told = with_line_ends(recording("openai_text.sse"), b"\r\n")
    events = [event + b"\r\n\r\n" for event in told.split(b"\r\n\r\n") if event]
    kept = b"".join(event for event in events if b'"choices":[],"usage"' not in event)
    assert meter(OPENAI_CHAT, [told + PING], swallow_usage=True)[0] == kept + PING

"""The chat of a page: `POST /api/chat`, open when there is a model."""

from pydantic import Field

from tollhouse.settings.sections import Section


class Chat(Section):
    """What a page does not decide."""

    model: str = Field("", max_length=256)
    """Empty: there is no `/api/chat`."""
    system: str = Field("", max_length=100_000)
    max_tokens: int = Field(1_024, ge=1)
    max_messages: int = Field(200, ge=1, le=10_000)
    max_body_bytes: int = Field(256 * 1024, ge=1024)
    """A longer conversation is refused."""

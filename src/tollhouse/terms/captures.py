"""What was asked and answered in one call, kept because its key says so."""

import msgspec


class Side(msgspec.Struct, frozen=True):
    """A request body or an answer: its beginning, as far as it is kept, and how long all of it was."""

    data: bytes
    size_bytes: int

    @property
    def cut(self) -> bool:
        return self.size_bytes > len(self.data)


class Content(msgspec.Struct, frozen=True):
    """Both sides of a call. Never stored as it stands: it is sealed first."""

    request_id: str
    org_id: str
    user_id: str
    key_id: str
    at_ns: int
    expires_at_ns: int
    request: Side
    answer: Side

    @property
    def size_bytes(self) -> int:
        """In memory."""
        return len(self.request.data) + len(self.answer.data)

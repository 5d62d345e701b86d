"""The chat of pages, as the settings pin it."""

from tollhouse.dialects.page import Pinned
from tollhouse.settings.chat import Chat


def pinned(chat: Chat) -> Pinned | None:
    """None: there is none."""
    return Pinned(**chat.model_dump()) if chat.model else None

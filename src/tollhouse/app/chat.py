"""The chat of pages, as the settings pin it."""

from tollhouse.dataplane.page_chat import route_of
from tollhouse.dataplane.plan import Planner
from tollhouse.dialects.page import Pinned
from tollhouse.settings.chat import Chat
from tollhouse.terms.errors import Refusal


def pinned(chat: Chat, planner: Planner, warnings: list[str]) -> Pinned | None:
    """None: there is none. A model that nobody serves (yet) is a warning: providers come and go."""
    if not chat.model:
        return None
    try:
        route_of(planner, chat.model)
    except Refusal:
        dialects = "Anthropic's dialect or OpenAI's chat completions"
        warnings.append(
            f"chat.model: no provider serves {chat.model!r} in {dialects}; /api/chat answers 503 until one does."
        )
    return Pinned(**chat.model_dump())

"""A page's chat: what a web page sends, as small as can be, and how it is told what went wrong.

    {"messages": [{"role": "user", "content": "Hello"}], "stream": true}

Model and system prompt are the operator's (`Pinned`), so a page has little else to say: any other field is refused by
name. It may say `max_tokens`; the most of that is the operator's, too, unless the user's own key pays. The call is
written anew for the dialect of the model's provider, whose answer and stream the page gets as they are; a refusal of
ours is one plain object in either:

    {"error": {"code": "rate_limited", "message": "…", "scope": "user alice", "limit": 10,
               "limit_kind": "requests_per_minute", "retry_after_s": 12.5, "request_id": "…"}}
"""

from typing import Annotated, Any, Literal

import msgspec

from tollhouse.dialects.anthropic import AnthropicDialect
from tollhouse.dialects.dialect import MAX_COUNT, refusal_facts
from tollhouse.dialects.openai_chat import OpenAIChatDialect
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName


class Pinned(msgspec.Struct, frozen=True):
    """What the operator decides for a page."""

    model: str
    system: str = ""
    max_tokens: int = 1_024
    max_messages: int = 200
    max_body_bytes: int = 256 * 1024


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str


class Talk(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends."""

    messages: list[Message]
    stream: bool = False
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] | None = None


TOLD = ("limit", "limit_kind", "unit", "resets_at")
"""Of a refusal's details, what a page needs to say it in words of its own."""
NOT_SIGNED_IN = "You are not signed in. Sign in, and try again."
_decode = msgspec.json.Decoder(Talk).decode


def read_talk(body: bytes, pinned: Pinned) -> Talk:
    """Raises Refusal: 413 `request_too_large`, 400 `invalid_json`, `invalid_request`."""
    if len(body) > pinned.max_body_bytes:
        limit = f"{pinned.max_body_bytes:,} bytes (chat.max_body_bytes)"
        raise Refusal(413, "request_too_large", f"This conversation is longer than {limit}. Begin a new one.")
    try:
        talk = _decode(body)
    except msgspec.ValidationError as error:
        shape = (
            'Send {"messages": [{"role": "user", "content": "…"}], "stream": true}; model and system are fixed here.'
        )
        raise Refusal(400, "invalid_request", f"{error}. {shape}") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json", "The request body is not JSON.") from None
    if not 1 <= len(talk.messages) <= pinned.max_messages:
        found = f"this one has {len(talk.messages)}"
        raise Refusal(
            400, "invalid_request", f"messages: from 1 to {pinned.max_messages} (chat.max_messages), {found}."
        )
    return talk


class PageDialect:
    """How a page is told of a refusal; before it is known which model answers."""

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        facts = refusal_facts(refusal)
        details = facts.pop("details", {})
        message = NOT_SIGNED_IN if refusal.code == "missing_key" else refusal.message
        told = {name: details[name] for name in TOLD if name in details}
        error = {"message": message, **facts, **told, "request_id": request_id}
        return refusal.status, msgspec.json.encode({"error": error})


class AnthropicPage(PageDialect, AnthropicDialect):
    """Answered by a model of Anthropic's dialect."""

    def write(self, talk: Talk, pinned: Pinned) -> bytes:
        """The call for the provider."""
        body: dict[str, Any] = {"model": pinned.model, "max_tokens": talk.max_tokens or pinned.max_tokens}
        if pinned.system:
            body["system"] = pinned.system
        return msgspec.json.encode({**body, "messages": talk.messages, "stream": talk.stream})


class ChatPage(PageDialect, OpenAIChatDialect):
    """Answered by a model of OpenAI's chat completions."""

    def write(self, talk: Talk, pinned: Pinned) -> bytes:
        """The call for the provider."""
        system = [{"role": "system", "content": pinned.system}] if pinned.system else []
        body = {"model": pinned.model, "max_completion_tokens": talk.max_tokens or pinned.max_tokens}
        return msgspec.json.encode({**body, "messages": [*system, *talk.messages], "stream": talk.stream})


PAGES: dict[DialectName, AnthropicPage | ChatPage] = {
    DialectName.ANTHROPIC: AnthropicPage(),
    DialectName.OPENAI_CHAT: ChatPage(),
}


class UnknownPage(AnthropicPage):
    """Until the model is known: refusals are all there is."""

    name = DialectName.PAGE


PAGE = UnknownPage()

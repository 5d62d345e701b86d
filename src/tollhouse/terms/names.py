"""Names of things: identifiers that look alike but are not, and the closed sets of words."""

from enum import StrEnum
from typing import NewType

OrgId = NewType("OrgId", str)
UserId = NewType("UserId", str)
KeyId = NewType("KeyId", str)
BudgetId = NewType("BudgetId", str)
RequestId = NewType("RequestId", str)
AttemptId = NewType("AttemptId", str)

RequestedModel = NewType("RequestedModel", str)
"""The model as the client wrote it."""
UpstreamModel = NewType("UpstreamModel", str)
"""The model as it is written into the body sent to the provider."""
ServedModel = NewType("ServedModel", str)
"""The model the provider says it answered with."""

DEFAULT_ORG = OrgId("default")


class DialectName(StrEnum):
    """A wire language of clients and providers."""

    ANTHROPIC = "anthropic"
    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    PAGE = "page"
    """Of a web page that chats; no provider speaks it."""


class Endpoint(StrEnum):
    """What a data-plane path asks for."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    CHAT = "chat"
    """A page's, which becomes one of the others."""


class ScopeKind(StrEnum):
    """What a limit or a budget holds over; a call must have room in all that apply to it."""

    ORGANISATION = "organisation"
    TEAM = "team"
    USER = "user"
    KEY = "key"

"""What kind of credential a text is, by its public prefix; never by asking anybody.

Logins of a person's Claude subscription (OAuth tokens and web sessions) are not API keys: they are refused in both
directions, as the credential of a client and as the credential for a provider. Wherever such a token stands in a text
(behind `Bearer`, in quotes, in a pasted `Cookie`), the text counts as one. No message built here repeats the text.
"""

from enum import StrEnum
from typing import Final

from tollhouse.terms.errors import Refusal


class CredentialKind(StrEnum):
    ANTHROPIC_API = "anthropic_api"
    ANTHROPIC_ADMIN = "anthropic_admin"
    ANTHROPIC_OAUTH_ACCESS = "anthropic_oauth_access"
    ANTHROPIC_OAUTH_REFRESH = "anthropic_oauth_refresh"
    ANTHROPIC_SESSION = "anthropic_session"
    OPENAI_API = "openai_api"
    OPENAI_PROJECT = "openai_project"
    OPENAI_SERVICE_ACCOUNT = "openai_service_account"
    OPENAI_ADMIN = "openai_admin"
    TOLLHOUSE = "tollhouse"
    UNKNOWN = "unknown"


_SUBSCRIPTION_MARKS: Final = (
    # sk-ant-oat01-: what `claude setup-token` prints and Claude Code saves as its login (issues of its clients, 2026).
    ("sk-ant-oat", CredentialKind.ANTHROPIC_OAUTH_ACCESS),
    # sk-ant-ort01-: the refresh token beside it in Claude Code's credentials file (as above).
    ("sk-ant-ort", CredentialKind.ANTHROPIC_OAUTH_REFRESH),
    # sk-ant-sid01-: the value of the `sessionKey` cookie of claude.ai (as above).
    ("sk-ant-sid", CredentialKind.ANTHROPIC_SESSION),
)
_PREFIXES: Final = (
    # Order matters: the longer prefix first.
    # sk-ant-admin01-: Anthropic's Admin API guide; such keys serve /v1/organizations/… only (2026-11).
    ("sk-ant-admin", CredentialKind.ANTHROPIC_ADMIN),
    # sk-ant-api03-: keys of the Claude Console (its page on getting a key, 2026-11).
    ("sk-ant-api", CredentialKind.ANTHROPIC_API),
    # A kind of Anthropic's that is not in this table must not be taken for OpenAI's `sk-`.
    ("sk-ant-", CredentialKind.UNKNOWN),
    ("sk-th-", CredentialKind.TOLLHOUSE),  # rules/keys
    # OpenAI's platform: keys of projects, of service accounts, of administrators; older user keys have `sk-` alone.
    ("sk-proj-", CredentialKind.OPENAI_PROJECT),
    ("sk-svcacct-", CredentialKind.OPENAI_SERVICE_ACCOUNT),
    ("sk-admin-", CredentialKind.OPENAI_ADMIN),
    ("sk-or-", CredentialKind.UNKNOWN),  # OpenRouter's keys, sk-or-v1-
    ("sk-", CredentialKind.OPENAI_API),  # DeepSeek and others issue the same form
)
_SUBSCRIPTIONS: Final = frozenset(kind for _, kind in _SUBSCRIPTION_MARKS)
_WRAPPING: Final = " \t\r\n\v\f\0\u00a0\u200b\ufeff'\"`"


def classify(text: str) -> CredentialKind:
    """The kind by prefix; surrounding space, quotes, `Bearer` and letter case make no difference."""
    bare = text.strip(_WRAPPING).lower()
    for mark, kind in _SUBSCRIPTION_MARKS:
        if mark in bare:
            return kind
    while bare.startswith("bearer") and bare[6:7] in _WRAPPING:
        shorter = bare[6:].strip(_WRAPPING)
        if shorter == bare:
            break
        bare = shorter
    for prefix, kind in _PREFIXES:
        if bare.startswith(prefix):
            return kind
    return CredentialKind.UNKNOWN


def client_refusal(text: str) -> Refusal | None:
    """The answer to a client that sends a subscription login instead of a key; None for everything else."""
    if classify(text) not in _SUBSCRIPTIONS:
        return None
    return Refusal(
        401,
        "subscription_token",
        "This request carries the login of a Claude subscription, which is not accepted here and was not stored. "
        "Use a key of this gateway (it begins with sk-th-): in Claude Code set ANTHROPIC_AUTH_TOKEN to it "
        "and sign out with /logout.",
        should_retry=False,
    )


def upstream_problem(text: str) -> str | None:
    """Why this text cannot be a provider's credential, for the operator to read; None if nothing speaks against it."""
    kind = classify(text)
    if not text.strip(_WRAPPING):
        return "The credential is empty. Put in the provider's API key."
    if kind in _SUBSCRIPTIONS:
        return (
            "This is the login of a Claude subscription, which may not be used for a gateway. "
            "Put in an API key made in the Claude Console (it begins with sk-ant-api)."
        )
    if kind is CredentialKind.ANTHROPIC_ADMIN:
        return "This is an Anthropic admin key; it cannot call models. Put in an API key (it begins with sk-ant-api)."
    if kind is CredentialKind.OPENAI_ADMIN:
        return "This is an OpenAI admin key; it cannot call models. Put in a project's key (it begins with sk-proj-)."
    if kind is CredentialKind.TOLLHOUSE:
        return "This is a key of a Tollhouse gateway, not of a provider. Put in the provider's own API key."
    return None

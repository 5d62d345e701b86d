"""What a row of the table of credentials says (`credential_table`)."""

from enum import StrEnum

import msgspec


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
    OPENAI_OAUTH_ACCESS = "openai_oauth_access"
    OPENAI_OAUTH_REFRESH = "openai_oauth_refresh"
    OPENAI_SESSION = "openai_session"
    GOOGLE_API = "google_api"
    GOOGLE_OAUTH_ACCESS = "google_oauth_access"
    GOOGLE_OAUTH_REFRESH = "google_oauth_refresh"
    GOOGLE_SESSION = "google_session"
    XAI_API = "xai_api"
    XAI_OAUTH_ACCESS = "xai_oauth_access"
    OPENROUTER_API = "openrouter_api"
    GROQ_API = "groq_api"
    TOGETHER_API = "together_api"
    FIREWORKS_API = "fireworks_api"
    PERPLEXITY_API = "perplexity_api"
    BEDROCK_API = "bedrock_api"
    BEDROCK_SESSION = "bedrock_session"
    AWS_ACCESS_KEY = "aws_access_key"
    AZURE_API = "azure_api"
    AZURE_TOKEN = "azure_token"  # noqa: S105  a kind, no secret
    GITHUB_TOKEN = "github_token"  # noqa: S105  a kind, no secret
    GITHUB_LOGIN = "github_login"
    COPILOT_SESSION = "copilot_session"
    HUGGINGFACE_API = "huggingface_api"
    TOLLHOUSE = "tollhouse"
    UNKNOWN = "unknown"


class Use(StrEnum):
    """What may be done with a credential."""

    UPSTREAM = "upstream"
    """Providers are called with it."""
    REFUSED = "refused"
    """The login of a person: refused from a client and as a provider's credential alike."""
    UNFIT = "unfit"
    """No model can be called with it: refused as a provider's credential."""


class TokenSigns(msgspec.Struct, frozen=True):
    """By what claims a JWT is of a kind; nobody checks its signature. All that are given must be there.

    issuers   one of these in `iss`; a `*` at the end stands for any rest
    claims    one of these claims is there
    scopes    one of these in `scope` or `scp`
    """

    issuers: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


class CredentialRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of credential.

    provider  whose it is
    what      in a sentence: `This is …`
    form      how it looks, for people
    prefixes  how it begins (case makes no difference); the longest of all rows decides
    marks     what makes any text that holds it one (a pasted cookie, JSON of a login)
    pattern   what all of it must match
    token     by what claims, when it is a JWT
    mask      how the log scrubber finds it inside a text, when its prefixes are not enough
    reason    why it may not be used; a clause that goes on after `what`
    way_out   what to put in instead, for who configures a provider
    instead   what to do with a key of this gateway, for who sent it as a client
    source    where the form was seen; `guess`: there only, so nothing is refused for it
    """

    kind: CredentialKind
    provider: str
    what: str
    form: str
    use: Use
    prefixes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    pattern: str = ""
    token: tuple[TokenSigns, ...] = ()
    mask: str = ""
    reason: str = ""
    way_out: str = ""
    instead: str = ""
    source: str
    guess: bool = False

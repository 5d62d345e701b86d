"""The table of credentials: what the providers' look like, what may be done with each, why, and the way out.

A form stands here when its provider's documents or its own client's source show it. Providers whose keys have no form
of their own (Mistral, older ones of Azure and Together) have no row: their keys count as unknown, and an unknown
credential is never refused. So is one that a row merely guesses at (`guess`): it is named and masked, no more.
"""

import re
from typing import Final

from tollhouse.rules.credential_rows import CredentialKind, CredentialRow, TokenSigns, Use

REVIEWED: Final = "2026-11-22"


_CLAUDE: Final = "the login of a Claude subscription"
_NOT_FOR_A_GATEWAY: Final = ", which may not be used for a gateway"
_CLAUDE_CONSOLE: Final = "Put in an API key made in the Claude Console (it begins with sk-ant-api)."
_CLAUDE_CODE: Final = "in Claude Code set ANTHROPIC_AUTH_TOKEN to it and sign out with /logout."
_CLAUDE_SOURCE: Final = "code.claude.com: Legal and compliance, Authentication and credential use"

_CHATGPT: Final = "the login of a ChatGPT subscription"
_RELAY_NEITHER: Final = ". OpenAI permits what Anthropic forbids; we relay neither"
_OPENAI_PROJECT: Final = "Put in a project's API key (it begins with sk-proj-)."
_CODEX: Final = "in Codex give it to a provider of its own (model_providers, env_key) and sign out with `codex logout`."
_CODEX_SOURCE: Final = "openai/codex: codex-rs/login/src (token_data.rs, auth/storage.rs)"

_GOOGLE: Final = "the login of a Google account"
_GOOGLE_KEY: Final = "Put in an API key of Google AI Studio (it begins with AIza or AQ.)."
_GITLEAKS: Final = "gitleaks/gitleaks: config/gitleaks.toml"
_GITHUB_SOURCE: Final = "docs.github.com: About authentication to GitHub, GitHub's token formats"
_COPILOT_KEY: Final = "Put in an API key of a model's own provider; GitHub Models takes a personal access token."
_CLIENT: Final = "put it where your client has its API key."


def _api_key(
    kind: CredentialKind, provider: str, what: str, form: str, prefixes: tuple[str, ...], source: str
) -> CredentialRow:
    """What providers are called with, and known by how it begins."""
    return CredentialRow(
        kind=kind, provider=provider, what=what, form=form, use=Use.UPSTREAM, prefixes=prefixes, source=source
    )


TABLE: Final[tuple[CredentialRow, ...]] = (
    _api_key(
        CredentialKind.ANTHROPIC_API,
        "Anthropic",
        "an API key of the Claude Console",
        "sk-ant-api03-…",
        ("sk-ant-api",),
        "platform.claude.com: Get an API key",
    ),
    CredentialRow(
        kind=CredentialKind.ANTHROPIC_ADMIN,
        provider="Anthropic",
        what="an Anthropic admin key",
        form="sk-ant-admin01-…",
        use=Use.UNFIT,
        prefixes=("sk-ant-admin",),
        reason="; it cannot call models",
        way_out="Put in an API key (it begins with sk-ant-api).",
        source="platform.claude.com: Admin API, which serves /v1/organizations/… alone",
    ),
    CredentialRow(
        kind=CredentialKind.ANTHROPIC_OAUTH_ACCESS,
        provider="Anthropic",
        what=_CLAUDE,
        form="sk-ant-oat01-… (access)",
        use=Use.REFUSED,
        marks=("sk-ant-oat",),  # what `claude setup-token` prints and Claude Code saves as its login
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_CLAUDE_CONSOLE,
        instead=_CLAUDE_CODE,
        source=_CLAUDE_SOURCE,
    ),
    CredentialRow(
        kind=CredentialKind.ANTHROPIC_OAUTH_REFRESH,
        provider="Anthropic",
        what=_CLAUDE,
        form="sk-ant-ort01-… (refresh)",
        use=Use.REFUSED,
        marks=("sk-ant-ort",),  # beside the access token in Claude Code's credentials file
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_CLAUDE_CONSOLE,
        instead=_CLAUDE_CODE,
        source=_CLAUDE_SOURCE,
    ),
    CredentialRow(
        kind=CredentialKind.ANTHROPIC_SESSION,
        provider="Anthropic",
        what=_CLAUDE,
        form="sk-ant-sid01-… (cookie `sessionKey`)",
        use=Use.REFUSED,
        marks=("sk-ant-sid",),  # the value of the cookie `sessionKey` of claude.ai
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_CLAUDE_CONSOLE,
        instead=_CLAUDE_CODE,
        source=_CLAUDE_SOURCE,
    ),
    # A kind of Anthropic's that is not in this table must not be taken for OpenAI's `sk-`.
    CredentialRow(
        kind=CredentialKind.UNKNOWN,
        provider="Anthropic",
        what="a credential of Anthropic of a kind that is not known here",
        form="sk-ant-…",
        use=Use.UPSTREAM,
        prefixes=("sk-ant-",),
        source="the rows above",
        guess=True,
    ),
    _api_key(
        CredentialKind.OPENAI_PROJECT, "OpenAI", "an OpenAI API key of a project", "sk-proj-…", ("sk-proj-",), _GITLEAKS
    ),
    _api_key(
        CredentialKind.OPENAI_SERVICE_ACCOUNT,
        "OpenAI",
        "an OpenAI API key of a service account",
        "sk-svcacct-…",
        ("sk-svcacct-",),
        _GITLEAKS,
    ),
    CredentialRow(
        kind=CredentialKind.OPENAI_ADMIN,
        provider="OpenAI",
        what="an OpenAI admin key",
        form="sk-admin-…",
        use=Use.UNFIT,
        prefixes=("sk-admin-",),
        reason="; it cannot call models",
        way_out="Put in a project's key (it begins with sk-proj-).",
        source="developers.openai.com: Admin API keys, which serve /v1/organization/… alone",
    ),
    _api_key(
        CredentialKind.OPENAI_API,
        "OpenAI, DeepSeek and others",
        "an API key as OpenAI, DeepSeek and others make them",
        "sk-…",
        ("sk-",),
        _GITLEAKS,
    ),
    CredentialRow(
        kind=CredentialKind.OPENAI_OAUTH_ACCESS,
        provider="OpenAI",
        what=_CHATGPT,
        form="JWT of auth.openai.com with the claim https://api.openai.com/auth (access and id token)",
        use=Use.REFUSED,
        token=(
            # Claims of Codex's tokens; a scope of its own marks a login that goes on (`offline_access`).
            TokenSigns(claims=("https://api.openai.com/auth",)),
            TokenSigns(
                issuers=("https://auth.openai.com*", "https://auth0.openai.com*"),
                scopes=("offline_access", "chatgpt.tokens.use.direct"),
            ),
        ),
        reason=_RELAY_NEITHER,
        way_out=_OPENAI_PROJECT,
        instead=_CODEX,
        source=_CODEX_SOURCE,
    ),
    CredentialRow(
        kind=CredentialKind.OPENAI_OAUTH_REFRESH,
        provider="OpenAI",
        what=_CHATGPT,
        form="rt_….… (refresh)",
        use=Use.UPSTREAM,
        # Codex's own tests say no more of it than that it is a text.
        pattern=r"rt_[a-z0-9_-]{24,}\.[a-z0-9_-]{24,}",
        mask=r"rt_[A-Za-z0-9_-]{24,128}\.[A-Za-z0-9_-]{24,}",
        source="auth.json files of Codex in public code",
        guess=True,
    ),
    CredentialRow(
        kind=CredentialKind.OPENAI_SESSION,
        provider="OpenAI",
        what=_CHATGPT,
        form="cookie `__Secure-next-auth.session-token` of chatgpt.com; sess-… of OpenAI's own pages",
        use=Use.REFUSED,
        marks=("__secure-next-auth.session-token",),
        pattern=r"sess-[a-z0-9]{40}",
        mask=r"sess-[A-Za-z0-9]{40}",
        reason=_RELAY_NEITHER,
        way_out=_OPENAI_PROJECT,
        instead=_CODEX,
        source="clients of chatgpt.com in public code",
    ),
    _api_key(
        CredentialKind.GOOGLE_API,
        "Google (Gemini, AI Studio, Vertex)",
        "an API key of Google",
        "AIza…, AQ.…",
        ("AIza", "AQ."),
        _GITLEAKS,
    ),
    CredentialRow(
        kind=CredentialKind.GOOGLE_OAUTH_ACCESS,
        provider="Google (Gemini, AI Studio, Vertex)",
        what="an access token of Google, of a person or of a service account",
        form="ya29.…",
        # Vertex is called with such tokens of service accounts, and nothing tells them from a person's.
        use=Use.UPSTREAM,
        prefixes=("ya29.",),
        source="developers.google.com: Using OAuth 2.0, token size; lasts an hour",
    ),
    CredentialRow(
        kind=CredentialKind.GOOGLE_OAUTH_REFRESH,
        provider="Google (Gemini, AI Studio, Vertex)",
        what=_GOOGLE,
        form="1//0… (refresh)",
        use=Use.REFUSED,
        pattern=r"1//0[a-z0-9_-]{30,}",
        mask=r"1//0[A-Za-z0-9_-]{30,}",
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_GOOGLE_KEY,
        instead="in Gemini CLI choose an API key instead of signing in.",
        source="google-gemini/gemini-cli: packages/core/src/code_assist/oauth2.ts",
    ),
    CredentialRow(
        kind=CredentialKind.GOOGLE_SESSION,
        provider="Google (Gemini, AI Studio, Vertex)",
        what=_GOOGLE,
        form="cookie `__Secure-1PSID`",
        use=Use.REFUSED,
        marks=("__secure-1psid",),
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_GOOGLE_KEY,
        instead=_CLIENT,
        source="clients of gemini.google.com in public code",
    ),
    _api_key(CredentialKind.XAI_API, "xAI", "an xAI API key", "xai-…", ("xai-",), "docs.x.ai: Getting started"),
    CredentialRow(
        kind=CredentialKind.XAI_OAUTH_ACCESS,
        provider="xAI",
        what="the login of a Grok subscription",
        form="JWT of auth.x.ai with the scope grok-cli:access",
        use=Use.REFUSED,
        token=(TokenSigns(issuers=("https://auth.x.ai*",), scopes=("grok-cli:access",)),),
        reason=_NOT_FOR_A_GATEWAY,
        way_out="Put in an API key of console.x.ai (it begins with xai-).",
        instead=_CLIENT,
        source="the login of Grok's own client (scope grok-cli:access) in public code",
    ),
    CredentialRow(
        kind=CredentialKind.OPENROUTER_API,
        provider="OpenRouter",
        what="an OpenRouter key",
        form="sk-or-v1-…",
        # Keys that only manage other keys have the same form.
        use=Use.UPSTREAM,
        prefixes=("sk-or-",),
        source="openrouter.ai: Authentication",
    ),
    _api_key(CredentialKind.GROQ_API, "Groq", "a Groq API key", "gsk_…", ("gsk_",), "console.groq.com: API keys"),
    _api_key(
        CredentialKind.TOGETHER_API,
        "Together",
        "a Together API key",
        "tgp_v1_…",
        ("tgp_v1_",),
        "scanners for secrets in public code (tgp_v1_ and 43 characters); older keys have no form",
    ),
    _api_key(
        CredentialKind.FIREWORKS_API,
        "Fireworks",
        "a Fireworks API key",
        "fw_…",
        ("fw_",),
        "docs.fireworks.ai: API keys",
    ),
    _api_key(CredentialKind.PERPLEXITY_API, "Perplexity", "a Perplexity API key", "pplx-…", ("pplx-",), _GITLEAKS),
    CredentialRow(
        kind=CredentialKind.BEDROCK_API,
        provider="AWS Bedrock",
        what="a long-term API key of Amazon Bedrock",
        form="ABSK…",
        use=Use.UPSTREAM,
        pattern=r"absk[a-z0-9+/]{80,}={0,2}",
        mask=r"ABSK[A-Za-z0-9+/]{80,}={0,2}",
        source=_GITLEAKS,
    ),
    CredentialRow(
        kind=CredentialKind.BEDROCK_SESSION,
        provider="AWS Bedrock",
        what="a short-term API key of Amazon Bedrock, of at most 12 hours",
        form="bedrock-api-key-…",
        use=Use.UPSTREAM,
        prefixes=("bedrock-api-key-",),
        mask=r"bedrock-api-key-[A-Za-z0-9+/=]{8,}",
        source=_GITLEAKS,
    ),
    CredentialRow(
        kind=CredentialKind.AWS_ACCESS_KEY,
        provider="AWS Bedrock",
        what="the id of an AWS access key, half of a pair that signs requests",
        form="AKIA…, ASIA… (20 characters)",
        use=Use.UNFIT,
        pattern=r"(?:akia|asia)[a-z2-7]{16}",
        mask=r"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])",
        reason=", which this gateway does not do",
        way_out="Put in an API key of Amazon Bedrock (it begins with ABSK or bedrock-api-key-).",
        source="docs.aws.amazon.com: IAM identifiers, unique ID prefixes",
    ),
    CredentialRow(
        kind=CredentialKind.AZURE_API,
        provider="Azure",
        what="a key of an Azure resource",
        form="84 characters with JQQJ99 after the 52nd",
        use=Use.UPSTREAM,
        pattern=r"[a-z0-9]{52}jqqj99[a-z0-9]{26}",
        mask=r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{26}",
        source="microsoft/security-utilities: common annotated security keys; older keys have no form",
    ),
    CredentialRow(
        kind=CredentialKind.AZURE_TOKEN,
        provider="Azure",
        what="an access token of Microsoft Entra, which lasts about an hour",
        form="JWT of sts.windows.net or login.microsoftonline.com",
        use=Use.UPSTREAM,
        token=(TokenSigns(issuers=("https://sts.windows.net/*", "https://login.microsoftonline.com/*")),),
        source="learn.microsoft.com: Access tokens in the Microsoft identity platform",
    ),
    CredentialRow(
        kind=CredentialKind.GITHUB_TOKEN,
        provider="GitHub (Models)",
        what="a GitHub token that somebody made, or of an Action",
        form="ghp_…, github_pat_…, ghs_…",
        use=Use.UPSTREAM,  # GitHub Models is called with them
        prefixes=("ghp_", "github_pat_", "ghs_"),
        source=_GITHUB_SOURCE,
    ),
    CredentialRow(
        kind=CredentialKind.GITHUB_LOGIN,
        provider="GitHub (Copilot)",
        what="the login of a GitHub account, as Copilot keeps it",
        form="gho_…, ghu_…, ghr_…",
        use=Use.REFUSED,
        prefixes=("gho_", "ghu_", "ghr_"),
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_COPILOT_KEY,
        instead=_CLIENT,
        source=_GITHUB_SOURCE,
    ),
    CredentialRow(
        kind=CredentialKind.COPILOT_SESSION,
        provider="GitHub (Copilot)",
        what="a session of GitHub Copilot",
        form="tid=…;exp=…;proxy-ep=…",
        use=Use.REFUSED,
        pattern=r"tid=[^;]*;(?:[a-z0-9_-]{1,20}=[^;]*;){0,20}?exp=[0-9]+(?:[;:].*)?",
        mask=r"tid=[^\s;'\"]{1,128};[^\s'\"]+",
        reason=_NOT_FOR_A_GATEWAY,
        way_out=_COPILOT_KEY,
        instead=_CLIENT,
        source="answers of api.github.com/copilot_internal/v2/token as Copilot's clients in public code read them",
    ),
    _api_key(
        CredentialKind.HUGGINGFACE_API,
        "Hugging Face",
        "a Hugging Face access token",
        "hf_…",
        ("hf_",),
        "huggingface.co: User access tokens",
    ),
    CredentialRow(
        kind=CredentialKind.TOLLHOUSE,
        provider="Tollhouse",
        what="a key of a Tollhouse gateway, not of a provider",
        form="sk-th-…",
        use=Use.UNFIT,
        prefixes=("sk-th-",),
        way_out="Put in the provider's own API key.",
        source="`rules/keys`",
    ),
)

ROWS: Final[dict[CredentialKind, CredentialRow]] = {
    row.kind: row for row in TABLE if row.kind is not CredentialKind.UNKNOWN
}
"""By kind; of what is not known there is none."""


def check(table: tuple[CredentialRow, ...]) -> None:
    """What must be so of every row: how it is known, and words for who is refused."""
    for row in table:
        assert row.prefixes or row.marks or row.pattern or row.token, f"{row.kind}: nothing to know it by"
        assert row.use is Use.UPSTREAM or row.way_out, f"{row.kind}: no way out"
        assert row.use is not Use.REFUSED or (row.instead and not row.guess), f"{row.kind}: refused without a word"
        re.compile(row.pattern)
        re.compile(row.mask)


check(TABLE)

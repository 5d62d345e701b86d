"""Sites for people: web applications, pages to sign in at, and what subscriptions are served from. As base URLs of a
provider they are refused like the logins they take (`credential_table`): what they serve is for their own clients.

A host is given in normal form: lower case, ASCII, no dot at its end (`base_urls.normal_host`).
"""

from typing import Final

import msgspec

REVIEWED: Final = "2026-11-22"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One vendor's.

    name     what it is, in a sentence: `… is of NAME`
    hosts    exactly these
    domains  these and every host below them
    apis     but not these: a program may call them
    instead  where models are called with an API key
    """

    name: str
    hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    instead: str
    source: str


SITES: Final[tuple[Site, ...]] = (
    Site(
        name="Claude's apps and sign-in",
        hosts=("claude.com", "www.claude.com", "console.anthropic.com"),
        domains=("claude.ai", "platform.claude.com", "console.claude.com", "code.claude.com"),
        instead="https://api.anthropic.com with a key of the Claude Console",
        source="code.claude.com: Network configuration; anthropic.com: Consumer terms",
    ),
    Site(
        name="ChatGPT, its subscriptions' back end (backend-api/codex too) or OpenAI's sign-in",
        hosts=("auth.openai.com", "auth0.openai.com", "platform.openai.com"),
        domains=("chatgpt.com", "chat.openai.com"),
        instead="https://api.openai.com/v1 with a project's API key",
        source="openai/codex: codex-rs/login and model providers (chatgpt.com/backend-api/codex)",
    ),
    Site(
        name="Gemini's apps, Google's sign-in or the back end of Gemini CLI's logins",
        hosts=(
            "gemini.google.com",
            "bard.google.com",
            "aistudio.google.com",
            "accounts.google.com",
            "oauth2.googleapis.com",
            "cloudcode-pa.googleapis.com",
            "daily-cloudcode-pa.googleapis.com",
            "daily-cloudcode-pa.sandbox.googleapis.com",
        ),
        instead="https://generativelanguage.googleapis.com/v1beta/openai with an API key of AI Studio",
        source="google-gemini/gemini-cli: packages/core/src/code_assist/server.ts",
    ),
    Site(
        name="GitHub Copilot",
        hosts=("copilot.microsoft.com", "github.com", "api.github.com", "copilot-proxy.githubusercontent.com"),
        domains=("githubcopilot.com",),
        instead="the model's own provider, or https://models.github.ai/inference with a personal access token",
        source="docs.github.com: Copilot allowlist reference",
    ),
    Site(
        name="Grok's apps, X or xAI's sign-in",
        hosts=("auth.x.ai", "accounts.x.ai", "x.com", "www.x.com", "twitter.com"),
        domains=("grok.com",),
        instead="https://api.x.ai/v1 with an API key",
        source="docs.x.ai; clients of grok.com in public code",
    ),
    Site(
        name="Mistral's chat",
        hosts=("chat.mistral.ai", "auth.mistral.ai", "console.mistral.ai"),
        instead="https://api.mistral.ai/v1 with an API key",
        source="docs.mistral.ai",
    ),
    Site(
        name="DeepSeek's chat",
        hosts=("chat.deepseek.com", "platform.deepseek.com"),
        instead="https://api.deepseek.com with an API key",
        source="api-docs.deepseek.com",
    ),
    Site(
        name="Poe",
        domains=("poe.com",),
        apis=("api.poe.com",),
        instead="https://api.poe.com/v1 with an API key",
        source="creator.poe.com: External applications",
    ),
    Site(
        name="Perplexity",
        domains=("perplexity.ai", "perplexity.com"),
        apis=("api.perplexity.ai",),
        instead="https://api.perplexity.ai with an API key",
        source="docs.perplexity.ai",
    ),
    Site(
        name="Qwen's chat",
        hosts=("chat.qwen.ai", "portal.qwen.ai"),
        instead="https://dashscope.aliyuncs.com/compatible-mode/v1 with an API key",
        source="QwenLM/qwen-code: packages/core/src/qwen",
    ),
)

_HOSTS: Final = {host: site for site in SITES for host in site.hosts}
_DOMAINS: Final = {domain: site for site in SITES for domain in site.domains}
_APIS: Final = frozenset(api for site in SITES for api in site.apis)


def consumer_site(host: str) -> Site | None:
    """Whose site for people this host is; None for any other."""
    found = _HOSTS.get(host)
    labels = host.split(".") if found is None and host not in _APIS else []
    for count in range(2, len(labels) + 1):
        found = _DOMAINS.get(".".join(labels[-count:]))
        if found is not None:
            break
    return found


def site_problem(host: str) -> str | None:
    """Why no provider can be there, for who wrote the base URL; None if nothing speaks against it."""
    site = consumer_site(host)
    if site is None:
        return None
    return (
        f"{host} is of {site.name}, a site for people and their subscriptions, which may not be used for a gateway. "
        f"Use {site.instead}."
    )

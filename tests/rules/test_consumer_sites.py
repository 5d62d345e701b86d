"""Sites for people are no providers, however their names are written; the providers' own APIs are."""

import pytest

from tollhouse.rules.base_urls import BaseUrlError, read_base_url
from tollhouse.rules.consumer_sites import SITES, consumer_site, site_problem
from tollhouse.terms.errors import SettingsError
from tollhouse.upstream.providers import KINDS, parse_base_url

FOR_PEOPLE = (
    "claude.ai",
    "api.claude.ai",
    "platform.claude.com",
    "chatgpt.com",
    "ab.chatgpt.com",
    "chat.openai.com",
    "auth.openai.com",
    "gemini.google.com",
    "cloudcode-pa.googleapis.com",
    "accounts.google.com",
    "api.githubcopilot.com",
    "api.individual.githubcopilot.com",
    "grok.com",
    "cli-chat-proxy.grok.com",
    "auth.x.ai",
    "x.com",
    "chat.mistral.ai",
    "chat.deepseek.com",
    "poe.com",
    "www.perplexity.ai",
)
APIS = (
    "api.anthropic.com",
    "api.openai.com",
    "eu.api.openai.com",
    "generativelanguage.googleapis.com",
    "us-central1-aiplatform.googleapis.com",
    "api.x.ai",
    "openrouter.ai",
    "api.mistral.ai",
    "api.groq.com",
    "api.deepseek.com",
    "api.together.xyz",
    "api.fireworks.ai",
    "api.perplexity.ai",
    "api.poe.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "mine.openai.azure.com",
    "models.github.ai",
    "router.huggingface.co",
    "notclaude.ai",
    "claude.ai.example",
    "mychatgpt.com",
    "localhost",
    "ai",
)
SPELLINGS = (
    "https://{}",
    "HTTPS://{}/v1",
    "https://{}:443/",
    "https://{}:8443",
    "https://{}./v1",
    "https://{}/backend-api/codex",
)


@pytest.mark.parametrize("host", FOR_PEOPLE)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_site_for_people_is_no_provider(host: str, spelling: str) -> None:
    for name in (host, host.upper()):
        url = spelling.format(name)
        with pytest.raises(SettingsError, match="site for people") as refused:
            parse_base_url(url, where="providers.x.base_url", allow_plain_http=True)
        assert "providers.x.base_url" in str(refused.value)
        with pytest.raises(BaseUrlError, match="site for people"):
            read_base_url(url)


@pytest.mark.parametrize(
    "url", ["https://ｃｈａｔｇｐｔ.com", "https://claude。ai", "https://ＣＬＡＵＤＥ.ai", "https://chat\u00adgpt.com"]
)
def test_letters_that_stand_for_others_make_no_difference(url: str) -> None:
    with pytest.raises(SettingsError, match="site for people"):
        parse_base_url(url, where="here", allow_plain_http=False)
    with pytest.raises(BaseUrlError, match=r"site for people|white space"):
        read_base_url(url)


@pytest.mark.parametrize("host", APIS)
def test_an_api_is_none(host: str) -> None:
    assert consumer_site(host) is None
    assert parse_base_url(f"https://{host}/v1", where="here", allow_plain_http=False).host == host


def test_no_kind_of_provider_is_one() -> None:
    for kind in KINDS.values():
        assert parse_base_url(kind.base_url, where="here", allow_plain_http=False)


def test_every_refusal_says_where_to_go_instead_and_that_is_no_such_site() -> None:
    for site in SITES:
        for host in (*site.hosts, *site.domains):
            assert site.instead in (site_problem(host) or "")
        for api in site.apis:
            assert site_problem(api) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2secret@api.example",
        "https://@api.example",
        "https://api.example?key=hunter2secret",
        "https://u:hunter2secret@api.example:99999",
        "https://chatgpt%2ecom",
        "https://api.example/hunter2secret path",
        "https://[::1",
        "https://0x7f.1",
    ],
)
def test_what_is_no_base_url_of_an_operator_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_base_url(url, where="here", allow_plain_http=True)
    assert "hunter2secret" not in str(refused.value) or "path" in url


@pytest.mark.parametrize("host", ["my_model", "llama-cpp", "10.0.0.7", "::1", "xn--bcher-kva.example"])
def test_names_of_a_local_network_are_an_operators_to_write(host: str) -> None:
    place = f"[{host}]" if ":" in host else host
    assert parse_base_url(f"http://{place}:8080/v1", where="here", allow_plain_http=True).host == host

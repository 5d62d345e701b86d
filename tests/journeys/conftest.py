"""The gateways that journeys share. Users are never shared: each test makes its own, named after itself."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.scripted import ScriptedUpstream, reply
from tests.serving import Gateway

LOCAL_MODEL = "smollm2-135m-instruct"
ORIGIN = "https://app.example"
PROVIDER_KEY = "sk-ant-api03-the-operators-own"
ANSWER_S = 60.0
"""An answer that does not come fails its test, not the run."""
OPENAI_KEY = "sk-the-operators-own"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the embedded model, which has a price here: 1 USD a million tokens in, 2 out."""
    prices = {LOCAL_MODEL: {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "cache_read_usd_per_mtok": 1}}
    local = {"enabled": True, "context_tokens": 2048, "parallel": 2}
    gateway = Gateway(tmp_path_factory.mktemp("real"), {"only_local": True, "local": local, "prices": prices})
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def scripted_gateway(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedUpstream) -> Iterator[Gateway]:
    """A gateway before the scripted provider, in both dialects."""
    settings = {
        "local": {"enabled": False},
        "listen": {"cors_origins": [ORIGIN]},
        "chat": {"model": "gpt-4o"},
        "providers": [
            {
                "name": "mock",
                "kind": "anthropic",
                "base_url": provider.url,
                "api_key": "env:MOCK_KEY",
                "models": ["claude-*", "unpriced-*"],
                "list_models": ["claude-sonnet-4-6", "claude-opus-4-6"],
            },
            {
                "name": "mockchat",
                "kind": "openai",
                "base_url": f"{provider.url}/v1",
                "api_key": "env:MOCK_CHAT_KEY",
                "models": ["gpt-*", "text-embedding-*"],
                "list_models": ["gpt-4o"],
            },
        ],
    }
    directory = tmp_path_factory.mktemp("scripted")
    gateway = Gateway(directory, settings, MOCK_KEY=PROVIDER_KEY, MOCK_CHAT_KEY=OPENAI_KEY)
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def upstream(provider: ScriptedUpstream) -> ScriptedUpstream:
    """The scripted provider with nothing in its book."""
    provider.received.clear()
    provider.script = lambda received: [reply(500, b"this test has no script")]
    return provider


@pytest.fixture
def gateway(scripted_gateway: Gateway, upstream: ScriptedUpstream) -> Gateway:
    return scripted_gateway


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user of this test alone."""
    name: str = request.node.name
    return name


Claude = Callable[..., anthropic.Anthropic]
Chat = Callable[..., openai.OpenAI]


@pytest.fixture
def claude() -> Iterator[Claude]:
    """Makes Anthropic's client as its users do, from a base URL and a key."""
    with contextlib.ExitStack() as opened:

        def make(base_url: str, key: str, **more: Any) -> anthropic.Anthropic:
            return opened.enter_context(
                anthropic.Anthropic(base_url=base_url, api_key=key, **{"timeout": ANSWER_S, **more})
            )

        yield make


@pytest.fixture
def chat() -> Iterator[Chat]:
    """Makes OpenAI's client as its users do."""
    with contextlib.ExitStack() as opened:

        def make(base_url: str, key: str, **more: Any) -> openai.OpenAI:
            return opened.enter_context(openai.OpenAI(base_url=base_url, api_key=key, **{"timeout": ANSWER_S, **more}))

        yield make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with authority.pem, server.pem, server.key for localhost."""
    from bench.certificates import issue  # noqa: PLC0415  cryptography, for the tests that need it

    directory = tmp_path_factory.mktemp("certificates")
    issue(directory)
    return directory

"""A user's own endpoint: the provider's dialects at another address, by the user's key, through the guard."""

import asyncio
import ssl
from pathlib import Path

import msgspec
import pytest

from tests.planes.test_guard import HERE, NAME, Names, guard
from tests.planes.test_pool import Pools, fetch
from tests.planes.test_pool_ways import OK, Certificates
from tests.planes.wire import always, run, until, upstream
from tollhouse.app.opening import KeyOpener
from tollhouse.app.providers import own_endpoints
from tollhouse.rules.base_urls import BaseUrlError
from tollhouse.settings import Settings
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import VaultError
from tollhouse.terms.names import Endpoint
from tollhouse.upstream.own_endpoint import OwnEndpoints
from tollhouse.upstream.pool import OWN_ENDPOINTS
from tollhouse.upstream.providers import Provider, ProviderSpec, build_provider
from tollhouse.vault import Binding, MasterKeys, Vault

VAULT = Vault(MasterKeys({1: b"m" * 32}))
SECRET = "sk-ant-api03-anns-own-0123456789"
VENDOR = build_provider(
    ProviderSpec("anthropic", "anthropic", "", "sk-ant-api03-the-operators", ("claude-*",)),
    allow_plain_http=False,
    tls=ssl.create_default_context(),
    proxy_for=lambda scheme, host: None,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def stored(base_url: str, host: str) -> Credential:
    binding = Binding("default", "own_1", "anthropic", host)
    sealed = VAULT.seal(SECRET.encode(), binding)
    return Credential("own_1", "anthropic", host, user_id="ann", org_id="default", base_url=base_url, sealed=sealed)


def reached(certificates: Certificates, *answers: str) -> OwnEndpoints:
    names = Names(list(answers or [HERE]))
    return OwnEndpoints(guard(names, HERE), certificates.client(), lambda scheme, host: None)


def opened(own: OwnEndpoints | None, credential: Credential) -> Provider:
    return KeyOpener(VAULT, own)(VENDOR, credential)


def request(provider: Provider) -> bytes:
    lane = provider.lanes[Endpoint.MESSAGES]
    return b"POST %b HTTP/1.1\r\n%bcontent-length: 2\r\n\r\n{}" % (lane.path, lane.fixed_headers)


@pytest.mark.parametrize(
    ("path", "asks"), [("", "/v1/messages"), ("/v1", "/v1/messages"), ("/llm", "/llm/v1/messages")]
)
def test_calls_go_to_it_with_the_users_key_alone(certificates: Certificates, path: str, asks: str) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as server, Pools(keep_alive_s=0.1) as pool:
            place = f"https://{NAME}:{server.port}"
            provider = opened(reached(certificates), stored(f"{place}{path}", place))
            assert (await fetch(pool, provider.origin, request(provider))).text == b"fine"
            ((head, _),) = server.requests
            assert head.startswith(b"POST %b HTTP/1.1" % asks.encode())
            assert b"host: %b:%d" % (NAME.encode(), server.port) in head
            assert b"x-api-key: %b" % SECRET.encode() in head
            assert b"operators" not in head
            assert provider.name == VENDOR.name
            assert VENDOR.origin.guard is None
            assert pool.standing() == {OWN_ENDPOINTS: {"open": 1, "idle": 1, "waiting": 0}}
            await until(lambda: not pool.standing())  # as many as users: what is not in use is forgotten
            assert (await fetch(pool, provider.origin, request(provider))).text == b"fine"

    run(story())


def test_a_call_that_begins_as_it_is_forgotten_finds_its_way(certificates: Certificates) -> None:
    """The pool may forget an idle endpoint between the start of a call and its connection."""

    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as server, Pools() as pool:
            place = f"https://{NAME}:{server.port}"
            provider = opened(reached(certificates), stored(place, place))
            calls = [asyncio.ensure_future(fetch(pool, provider.origin, request(provider))) for _ in range(3)]
            await asyncio.sleep(0)
            pool._sweeper.cancel()
            pool._sweep()
            assert [(await call).text for call in calls] == [b"fine"] * 3
            assert sum(standing["open"] for standing in pool.standing().values()) == server.connections

    run(story())


def test_what_it_was_not_stored_for_it_is_not_sent_to(certificates: Certificates) -> None:
    place = f"https://{NAME}:443"
    with pytest.raises(VaultError, match=r"was stored for https://other\.example:443"):
        opened(reached(certificates), stored(place, "https://other.example:443"))
    with pytest.raises(VaultError, match="calls no endpoints"):
        opened(None, stored(place, place))
    for url in ("http://api.example", "https://claude.ai", "https://u@api.example"):
        with pytest.raises(VaultError, match="endpoint cannot be called"):
            opened(reached(certificates), stored(url, place))
    elsewhere = "https://evil.example:443"
    assert opened(reached(certificates), stored("https://evil.example", elsewhere)).origin.address == elsewhere
    moved = msgspec.structs.replace(stored(place, place), base_url="https://evil.example", host=elsewhere)
    with pytest.raises(VaultError):  # the row says another host than its envelope is of
        opened(reached(certificates), moved)


def test_nobodys_endpoint_is_called_unless_the_operator_says_so(tmp_path: Path) -> None:
    assert own_endpoints(Settings(home=tmp_path)) is None
    allowing = Settings.model_validate({"vault": {"own_base_urls": True, "allowed_networks": ["10.20.0.0/16"]}})
    own = own_endpoints(allowing)
    assert own is not None
    assert [str(network) for network in own.guard.rules.allowed] == ["10.20.0.0/16"]
    with pytest.raises(ValueError, match="no address or network"):
        Settings.model_validate({"vault": {"allowed_networks": ["10.20.0.0/99"]}})
    with pytest.raises(BaseUrlError):
        own.of(VENDOR, "https://api.githubcopilot.com")

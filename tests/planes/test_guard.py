"""Where users say, connections go to public addresses alone: whatever a name's answers are, now and a moment later."""

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.planes.test_pool import Pools, failure, fetch
from tests.planes.test_pool_ways import OK, Certificates, Tunnels
from tests.planes.wire import always, reply, run, upstream
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.terms.errors import UpstreamTimeout, UpstreamUnreachable
from tollhouse.upstream.guard import MAX_ANSWERS, AddressGuard, resolve
from tollhouse.upstream.guarded_http import guarded_client
from tollhouse.upstream.origin import Origin, Proxy

NAME = "api.example"
"""No resolver of this machine knows it: who connects to the name instead of an address gets nowhere."""
HERE = "127.0.0.1"
WAIT_S = 20.0


class Names:
    """A resolver that gives the next of its answers each time it is asked; the last one for ever."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def guard(names: Any, *allowed: str) -> AddressGuard:
    return AddressGuard(AddressRules(read_networks(allowed)), names)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_a_name_is_asked_once_a_connection_and_tls_and_host_keep_it(certificates: Certificates) -> None:
    async def story() -> None:
        greeted: list[str | None] = []
        tls = certificates.server(NAME)
        tls.sni_callback = lambda _, name, __: greeted.append(name)
        names = Names([HERE])
        async with upstream(always(OK), tls=tls) as provider, Pools() as pool:
            origin = Origin(NAME, provider.port, certificates.client(), guard=guard(names, HERE))
            for _ in range(3):
                assert (await fetch(pool, origin)).text == b"fine"
            assert names.asked == [(NAME, provider.port)]
            assert greeted == [NAME]
            assert provider.connections == 1

    run(story())


def test_an_answer_that_changes_between_look_and_connection_changes_nothing(certificates: Certificates) -> None:
    """Rebinding: what was looked at is what is called, and each new connection is looked at anew."""

    async def story() -> None:
        names = Names([HERE], ["169.254.169.254"], [HERE])
        async with upstream(always(OK), tls=certificates.server(NAME)) as provider, Pools(keep_alive_s=0.01) as pool:
            origins = [Origin(NAME, provider.port, certificates.client(), guard=guard(names, HERE)) for _ in range(3)]
            assert (await fetch(pool, origins[0])).text == b"fine"
            error = await failure(fetch(pool, origins[1]))
            assert isinstance(error, UpstreamUnreachable)
            assert "of a cloud's metadata" in str(error)
            assert (await fetch(pool, origins[2])).text == b"fine"
            assert len(names.asked) == 3
            assert provider.connections == 2

    run(story())


REFUSED: dict[str, list[str] | Exception] = {
    "loopback": [HERE],
    "private": ["10.0.0.1"],
    "one of them private": ["8.8.8.8", "192.168.1.1"],
    "the private one first": ["192.168.1.1", "8.8.8.8"],
    "IPv6 beside IPv4": ["8.8.8.8", "fd00::1"],
    "mapped": ["::ffff:127.0.0.1"],
    "NAT64": ["64:ff9b::7f00:1"],
    "6to4": ["2002:7f00:1::1"],
    "link-local with a zone": ["fe80::1%lo"],
    "metadata": ["169.254.169.254"],
    "none": [],
    "too many": [f"8.8.{n // 250}.{n % 250 + 1}" for n in range(MAX_ANSWERS + 1)],
    "what is no address": ["localhost"],
    "an empty one": [""],
    "a failure": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "another failure": OSError("the resolver is gone"),
}


@pytest.mark.parametrize("answers", [[HERE, "10.0.0.1"], ["10.0.0.1", HERE], [HERE, "fd00::1"], [HERE, "junk"]])
def test_one_bad_answer_refuses_the_good_ones_too(certificates: Certificates, answers: list[str]) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as provider, Pools() as pool:
            origin = Origin(NAME, provider.port, certificates.client(), guard=guard(Names(answers), HERE))
            error = await failure(fetch(pool, origin))
            assert "leads to an address" in str(error)
            assert provider.connections == 0

    run(story())


def test_what_may_not_be_called_is_not(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as provider, Pools() as pool:
            for what, answer in REFUSED.items():
                names = Names(answer)
                error = await failure(
                    fetch(pool, Origin(NAME, provider.port, certificates.client(), guard=guard(names)))
                )
                assert isinstance(error, UpstreamUnreachable), what
                assert not error.sent
                assert NAME in str(error), what
                assert "8.8." not in str(error), "no answer is told: it may be of somebody's inside"
                assert len(names.asked) == 1
            assert provider.connections == 0

    run(story())


@pytest.mark.parametrize("host", [HERE, "::1", "169.254.169.254", "::ffff:127.0.0.1", "10.0.0.1"])
def test_an_address_is_looked_at_like_a_name(certificates: Certificates, host: str) -> None:
    async def story() -> None:
        names = Names(["8.8.8.8"])
        async with upstream(always(OK), tls=certificates.server(HERE)) as provider, Pools() as pool:
            error = await failure(fetch(pool, Origin(host, provider.port, certificates.client(), guard=guard(names))))
            assert isinstance(error, UpstreamUnreachable)
            assert (names.asked, provider.connections) == ([], 0)
            allowed = Origin(HERE, provider.port, certificates.client(), guard=guard(names, HERE))
            assert (await fetch(pool, allowed)).text == b"fine"

    run(story())


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1"])
def test_what_this_machines_resolver_makes_an_address_of_is_looked_at(certificates: Certificates, host: str) -> None:
    async def story() -> None:
        assert HERE in await resolve(host, 443)
        async with upstream(always(OK), tls=certificates.server(HERE)) as provider, Pools() as pool:
            origin = Origin(host, provider.port, certificates.client(), guard=AddressGuard())
            error = await failure(fetch(pool, origin))
            assert "this machine itself" in str(error)
            assert provider.connections == 0

    run(story())


def test_the_next_address_is_tried_when_one_does_not_answer(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as provider, Pools() as pool:
            names = Names(["127.0.0.9", "::1", HERE])
            origin = Origin(NAME, provider.port, certificates.client(), guard=guard(names, "127.0.0.0/8", "::1"))
            assert (await fetch(pool, origin)).text == b"fine"

    run(story())


def test_the_certificate_is_the_names(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(HERE, "other.example")) as provider, Pools() as pool:
            origin = Origin(NAME, provider.port, certificates.client(), guard=guard(Names([HERE, HERE]), HERE))
            error = await failure(fetch(pool, origin))
            assert isinstance(error, UpstreamUnreachable)
            assert "mismatch" in str(error).lower()
            assert provider.requests == []

    run(story())


def test_nothing_goes_there_in_the_clear() -> None:
    async def story() -> None:
        async with upstream(always(OK)) as provider, Pools() as pool:
            error = await failure(fetch(pool, Origin(NAME, provider.port, guard=guard(Names([HERE]), HERE))))
            assert isinstance(error, UpstreamUnreachable)
            assert provider.connections == 0

    run(story())


def test_a_resolver_that_hangs_is_within_the_time_for_connecting(certificates: Certificates) -> None:
    async def hangs(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def story() -> None:
        async with Pools(connect_timeout_s=0.3) as pool:
            error = await failure(fetch(pool, Origin(NAME, 443, certificates.client(), guard=guard(hangs))))
            assert isinstance(error, UpstreamTimeout)
            assert (error.phase, error.sent) == ("connect", False)

    run(story())


def test_names_that_are_never_answered_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a machine has threads to share, and more: a thread is there for whoever needs one."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(WAIT_S) and [])

    async def story() -> None:
        asked = [asyncio.create_task(resolve(f"{number}.silent.example", 443)) for number in range(100)]
        try:
            await asyncio.sleep(0)  # all of them have begun
            async with asyncio.timeout(WAIT_S / 2):
                assert await asyncio.to_thread(lambda: "done") == "done"
        finally:
            answered.set()
            await asyncio.gather(*asked)

    run(story())


def test_a_proxy_is_asked_for_the_address_and_resolves_nothing(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server(NAME)) as provider, Pools() as pool:
            tunnels = Tunnels(provider)
            async with upstream(tunnels) as through:
                proxy = Proxy(HERE, through.port)
                origin = Origin(NAME, provider.port, certificates.client(), proxy, guard=guard(Names([HERE]), HERE))
                assert (await fetch(pool, origin)).text == b"fine"
                (asked,) = tunnels.asked
                assert asked.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % provider.port)
                assert NAME.encode() not in asked
                six = Origin(NAME, provider.port, certificates.client(), proxy, guard=guard(Names(["::1"]), "::1"))
                await fetch(pool, six)
                assert tunnels.asked[-1].startswith(b"CONNECT [::1]:%d HTTP/1.1\r\n" % provider.port)
                inside = Origin(NAME, provider.port, certificates.client(), proxy, guard=guard(Names(["10.0.0.1"])))
                assert isinstance(await failure(fetch(pool, inside)), UpstreamUnreachable)
                assert len(tunnels.asked) == 2

    run(story())


# httpx


def test_httpx_is_guarded_alike(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # which would lead past the guard

    async def story() -> None:
        greeted: list[str | None] = []
        tls = certificates.server(NAME)
        tls.sni_callback = lambda _, name, __: greeted.append(name)
        moved = reply(b"", 302, b"location: https://10.0.0.1/")
        names = Names([HERE], ["127.0.0.9", HERE], ["10.0.0.1"], [HERE, "10.0.0.1"], [])
        async with upstream(always(moved), tls=tls) as provider:
            url = f"https://{NAME}:{provider.port}/hook?x=1"
            async with guarded_client(guard(names, "127.0.0.0/8"), certificates.client(), timeout_s=20) as client:
                for _ in range(2):
                    answer = await client.post(url, content=b"{}")
                    assert (answer.status_code, str(answer.request.url)) == (302, url)
                for said in ("of a private network", "of a private network", "has 0 addresses"):
                    with pytest.raises(httpx.ConnectError, match=said):
                        await client.post(url, content=b"{}")
            assert (greeted, provider.connections) == ([NAME, NAME], 2)
            assert all(b"host: %b:%d" % (NAME.encode(), provider.port) in head.lower() for head, _ in provider.requests)
            assert [body for _, body in provider.requests] == [b"{}", b"{}"]

    run(story())


def test_httpx_takes_no_other_names_certificate(certificates: Certificates, tmp_path: Path) -> None:
    async def story() -> None:
        contexts: list[tuple[str, ssl.SSLContext]] = [
            ("other.example", certificates.client()),
            (NAME, Certificates(tmp_path).client()),
        ]
        for name, client_tls in contexts:
            async with upstream(always(OK), tls=certificates.server(name)) as provider:
                async with guarded_client(guard(Names([HERE]), HERE), client_tls, timeout_s=20) as client:
                    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                        await client.get(f"https://{NAME}:{provider.port}/")
                assert provider.requests == []

    run(story())

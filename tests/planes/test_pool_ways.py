"""The ways to a provider: TLS with certificates good and bad, an HTTP proxy for plain calls and for tunnels."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.planes.test_pool import REQUEST, Pools, at, failure, fetch, start
from tests.planes.wire import Peer, Upstream, always, chunk, reply, run, silent, upstream
from tollhouse.terms.errors import UpstreamTimeout, UpstreamUnreachable
from tollhouse.terms.names import Endpoint
from tollhouse.upstream.origin import Origin, Proxy
from tollhouse.upstream.providers import ProviderSpec, build_provider

OK = reply(b"fine")


class Certificates:
    """A CA of our own and servers' contexts under it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.ca = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *extensions: x509.ExtensionType,
        days: int = 1,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=days))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key, x509.SubjectAlternativeName(alternatives), days=days)
        path = self.directory / f"{names[0]}{days}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.ca.public_bytes(serialization.Encoding.PEM).decode())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_tls_with_a_good_certificate(certificates: Certificates) -> None:
    async def streaming(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(20):
                peer.send(chunk(b"z" * 100_000))
                await peer.drain()
            peer.send(b"0\r\n\r\n")

    async def story() -> None:
        for name in ("localhost", "127.0.0.1"):
            server = certificates.server(name)
            async with upstream(streaming, tls=server) as provider, Pools() as pool:
                origin = Origin(name, provider.port, tls=certificates.client())
                for _ in range(2):
                    call, heard = await start(pool, origin)
                    call.pause()
                    asyncio.get_running_loop().call_later(0.05, call.resume)
                    await call.done
                    assert len(heard.text) == 2_000_000
                assert provider.connections == 1

    run(story())


def test_tls_with_any_other_certificate(certificates: Certificates, tmp_path: Path) -> None:
    """Wrong name, unknown CA, expired, no TLS at all: nothing is ever sent, and the error says why."""
    trusting, strangers = certificates.client(), Certificates(tmp_path).client()

    async def story() -> None:
        for tls, client, says in (
            (certificates.server("api.example"), trusting, "mismatch"),
            (certificates.server("localhost"), strangers, "certificate"),
            (certificates.server("localhost", days=-1), trusting, "expired"),
            (None, trusting, ""),
        ):
            async with upstream(always(OK), tls=tls) as provider, Pools(connect_timeout_s=20.0 if tls else 0.5) as pool:
                error = await failure(fetch(pool, Origin("localhost", provider.port, tls=client)))
                assert isinstance(error, UpstreamUnreachable | UpstreamTimeout)
                assert not error.sent
                assert says in str(error).lower()
                assert provider.requests == []

    run(story())


def test_a_handshake_that_hangs(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(Peer.until_gone) as provider, Pools(connect_timeout_s=0.3) as pool:
            error = await failure(fetch(pool, Origin("localhost", provider.port, tls=certificates.client())))
            assert isinstance(error, UpstreamTimeout)
            assert (error.phase, error.sent) == ("connect", False)

    run(story())


# Proxies


class Tunnels:
    """A proxy: CONNECT opens a tunnel to `target`, anything else is answered by itself."""

    def __init__(self, target: Upstream, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.target = target
        self.answer = answer
        self.asked: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        head, _ = await peer.request()
        self.asked.append(head)
        if not head.startswith(b"CONNECT"):
            peer.send(OK)
            await peer.until_gone()
            return
        peer.send(self.answer)
        if b" 2" not in self.answer[:14]:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()

        both = [asyncio.ensure_future(copy(peer.reader, writer)), asyncio.ensure_future(copy(reader, peer.writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.transport.abort()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 204 Fine\r\nvia: x\r\n\r\n"])
def test_tls_through_a_proxy(certificates: Certificates, answer: bytes) -> None:
    async def story() -> None:
        async with upstream(always(OK), tls=certificates.server("localhost")) as provider:
            tunnels = Tunnels(provider, answer)
            async with upstream(tunnels) as through, Pools() as pool:
                proxy = Proxy("127.0.0.1", through.port, b"Basic dTpw")
                origin = Origin("localhost", provider.port, tls=certificates.client(), proxy=proxy)
                for _ in range(3):
                    assert (await fetch(pool, origin)).text == b"fine"
                (asked,) = tunnels.asked
                assert asked.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % provider.port)
                assert b"proxy-authorization: Basic dTpw" in asked
                assert all(b"proxy-authorization" not in head for head, _ in provider.requests)

    run(story())


def test_through_a_proxy_the_certificate_still_counts(certificates: Certificates) -> None:
    async def story() -> None:
        server = certificates.server("api.example")
        async with (
            upstream(always(OK), tls=server) as provider,
            upstream(Tunnels(provider)) as through,
            Pools() as pool,
        ):
            proxy = Proxy("127.0.0.1", through.port)
            origin = Origin("localhost", provider.port, tls=certificates.client(), proxy=proxy)
            error = await failure(fetch(pool, origin))
            assert isinstance(error, UpstreamUnreachable)
            assert "mismatch" in str(error).lower()
            assert provider.requests == []

    run(story())


REFUSING = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
    "403": b"HTTP/1.1 403 Forbidden\r\n\r\n",
    "not HTTP": b"220 mail.example ESMTP\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 4_000,
    "nothing": b"",
}


def test_a_proxy_that_refuses(certificates: Certificates) -> None:
    async def story() -> None:
        async with upstream(always(OK)) as provider, Pools(max_head_bytes=4_096) as pool:
            for name, answer in REFUSING.items():
                async with upstream(Tunnels(provider, answer)) as through:
                    proxy = Proxy("127.0.0.1", through.port)
                    error = await failure(fetch(pool, Origin("localhost", 443, certificates.client(), proxy)))
                    assert isinstance(error, UpstreamUnreachable), name
                    assert not error.sent
                    assert "proxy" in str(error)
            async with upstream(silent) as through, Pools(connect_timeout_s=0.3) as impatient:
                proxy = Proxy("127.0.0.1", through.port)
                error = await failure(fetch(impatient, Origin("localhost", 443, certificates.client(), proxy)))
                assert isinstance(error, UpstreamTimeout)
                through.stop_listening()
                error = await failure(fetch(pool, Origin("localhost", 443, certificates.client(), proxy)))
                assert isinstance(error, UpstreamUnreachable)
                assert "through the proxy 127.0.0.1" in str(error)

    run(story())


def test_plain_http_through_a_proxy() -> None:
    """In absolute form, with the proxy's credential, to the proxy's address."""

    async def story() -> None:
        async with upstream() as nobody:
            tunnels = Tunnels(nobody)
            async with upstream(tunnels) as through, Pools() as pool:
                proxy = Proxy("127.0.0.1", through.port, b"Basic dTpw")
                provider = build_provider(
                    ProviderSpec("far", "anthropic", "http://far.example/base", "secret", ("claude-*",)),
                    allow_plain_http=True,
                    tls=ssl.create_default_context(),
                    proxy_for=lambda scheme, host: proxy,
                )
                lane = provider.lanes[Endpoint.MESSAGES]
                message = b"POST %b HTTP/1.1\r\n%bcontent-length: 0\r\n\r\n" % (lane.path, lane.fixed_headers)
                assert (await fetch(pool, provider.origin, message)).text == b"fine"
                assert tunnels.asked[0].startswith(b"POST http://far.example/base/v1/messages HTTP/1.1\r\n")
                assert b"proxy-authorization: Basic dTpw" in tunnels.asked[0]
                assert nobody.connections == 0

    run(story())


def test_a_large_request_to_a_provider_that_reads_slowly() -> None:
    """Nothing is lost, and the call does not time out while its request is still being taken."""
    body = b"x" * 12_000_000
    message = REQUEST.replace(b"content-length: 2\r\n\r\n{}", b"content-length: %d\r\n\r\n" % len(body)) + body

    async def slow(peer: Peer) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head
        received = 0
        while received < len(body):
            received += len(await peer.reader.read(400_000))
            await asyncio.sleep(0.001)
        peer.send(OK)
        await peer.until_gone()

    async def story() -> None:
        async with upstream(slow) as provider, Pools() as pool:
            assert (await fetch(pool, at(provider.port), message)).text == b"fine"

    run(story())

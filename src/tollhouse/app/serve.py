"""Run the gateway: sockets, TLS, readiness, drain."""

import gc
import logging
import socket
from collections.abc import Awaitable, Callable

import uvicorn

from tollhouse.app.house import House
from tollhouse.app.store import Store
from tollhouse.dataplane.edge import protocol_class
from tollhouse.dataplane.server import Server
from tollhouse.logs import mask_records
from tollhouse.settings import Settings
from tollhouse.terms.errors import SettingsError
from tollhouse.upstream.providers import LOOPBACK

log = logging.getLogger("tollhouse")

BACKLOG = 2048
GC_THRESHOLDS = (20_000, 20, 50)
UVICORN_GRACE_S = 5
"""For management requests; data-plane exchanges have had their own drain by then."""


def check_exposure(settings: Settings) -> None:
    """Off loopback there is TLS, or the operator has said that plain HTTP is meant. Raises SettingsError."""
    listen = settings.listen
    if listen.host not in LOOPBACK and listen.tls_cert is None and not listen.allow_plain_http:
        raise SettingsError(
            f"listen.host {listen.host} is reachable from outside, and keys would travel in clear text. Set "
            "listen.tls_cert and listen.tls_key; behind a TLS proxy set listen.allow_plain_http: true; or listen on "
            "127.0.0.1."
        )


def bind(settings: Settings) -> socket.socket:
    """The listening socket, so that a taken port is an error before anything else is started."""
    listen = settings.listen
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        return socket.create_server((listen.host, listen.port), family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {listen.host}:{listen.port}: {error.strerror}. Is another gateway running? Set "
            "listen.port (TOLLHOUSE_LISTEN__PORT) to another one."
        ) from error


def base_url(settings: Settings, sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{'https' if settings.listen.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(settings: Settings, on_ready: Callable[[House, str], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT. `on_ready(house, base URL)` is called once everything listens. Raises
    TollhouseError.
    """
    mask_records()
    check_exposure(settings)
    store = Store(settings)
    await store.open()
    try:
        sock = bind(settings)
        house = House(settings, store)
        try:
            await house.start()
            settle_memory()
            await _run(settings, house, sock, on_ready)
        finally:
            sock.close()
            await house.stop()
    finally:
        store.close()


def settle_memory() -> None:
    """What is here now stays: the collector need not look at it again, nor run after every few hundred objects.

    A call frees its objects by reference count; with Python's own thresholds a tenth of its time went into looking for
    circles that are not there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _run(
    settings: Settings, house: House, sock: socket.socket, on_ready: Callable[[House, str], Awaitable[None]]
) -> None:
    listen = settings.listen
    url = base_url(settings, sock)
    config = uvicorn.Config(
        house.build_api(),
        http=protocol_class(house.gate),  # type: ignore[arg-type]
        ws="none",
        loop="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=bool(listen.trusted_proxies),
        forwarded_allow_ips=list(listen.trusted_proxies),
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=UVICORN_GRACE_S,
        ssl_certfile=listen.tls_cert,
        ssl_keyfile=listen.tls_key,
    )
    server = Server(
        config,
        house.gate,
        admin_socket=house.store.home.socket_path(),
        drain_s=listen.drain_s,
        on_ready=lambda: on_ready(house, url),
    )
    house.base_url = url
    house.request_stop = server.ask_to_stop
    for warning in house.warnings:
        log.warning("%s", warning)
    await server.serve(sockets=[sock])

"""nginx before the gateway, as many will run it: a plain reverse proxy that keeps its connections to the gateway.

Two of it: one that collects a request's body first (nginx's default), one that passes on as much as it can as it
comes, also header fields that it would rather drop.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 30.0


class Proxy:
    """`ports` by name: `collecting` and `passing`."""

    def __init__(self, process: subprocess.Popen[bytes], **ports: int) -> None:
        self.process = process
        self.ports = ports


@contextlib.contextmanager
def nginx(place: Path, gateway_port: int) -> Iterator[Proxy]:
    """A running nginx whose files lie in `place`. That there is none fails the test: `make test` provides it."""
    collecting, passing = free_port(), free_port()
    with serving(place, _config(place, gateway_port, collecting, passing), (collecting, passing)) as process:
        yield Proxy(process, collecting=collecting, passing=passing)


@contextlib.contextmanager
def serving(place: Path, configuration: str, ports: tuple[int, ...]) -> "Iterator[subprocess.Popen[bytes]]":
    """nginx with this configuration, from the moment it listens on these ports."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    assert program is not None, "nginx is missing: `make setup` provides it, or install the package nginx-light"
    config = place / "nginx.conf"
    config.write_text(configuration)
    log = place / "nginx.log"
    with log.open("wb") as said:
        process = subprocess.Popen([program, "-p", f"{place}/", "-e", "stderr", "-c", str(config)], stderr=said)
    try:
        for port in ports:
            _await(port, process, log)
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, f"nginx did not start: {log.read_text()}"
        assert time.monotonic() < until, f"nginx does not listen: {log.read_text()}"
        time.sleep(0.01)


def _config(place: Path, gateway_port: int, collecting: int, passing: int) -> str:
    return f"""
{beginning(place)}
    client_max_body_size 0;
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 1s;
    lingering_timeout 1s;
    lingering_time 1s;
    upstream gateway {{ server 127.0.0.1:{gateway_port}; keepalive 8; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_read_timeout 4s;
    server {{
        listen 127.0.0.1:{collecting};
        location / {{ proxy_pass http://gateway; }}
    }}
    server {{
        listen 127.0.0.1:{passing};
        ignore_invalid_headers off;
        underscores_in_headers on;
        merge_slashes off;
        large_client_header_buffers 8 128k;
        location / {{
            proxy_pass http://gateway;
            proxy_request_buffering off;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


def beginning(place: Path) -> str:
    """Up to and into its `http` block: one worker, whose files lie in `place`."""
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not write into `place`
    return f"""
daemon off;
{user}
worker_processes 1;
pid {place}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
"""

"""What is compared. A gateway here is a recipe: given a directory and an upstream, how is it configured and started?

A further one (a peer from PyPI or npm) is one class more and one line in `known()`.
"""

import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.calls import Endpoint
from bench.problem import BenchProblem


@dataclass(frozen=True)
class Upstream:
    """The mock provider on 127.0.0.1, and the authority that signed its certificate (for `localhost` too)."""

    port: int
    tls_port: int
    authority: Path


@dataclass(frozen=True)
class Launch:
    """How to start a gateway and where it will be found. An empty command: there is nothing to start."""

    endpoint: Endpoint
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    not_counted: tuple[str, ...] = ()  # words in the command lines of child processes whose CPU is not the gateway's


class Gateway(Protocol):
    """A recipe."""

    @property
    def name(self) -> str:
        """One word for tables and JSON."""

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """Write what it needs into `place`, an empty directory of its own; `tls` asks for the upstream's TLS port."""


class Direct:
    """No gateway at all: the load meets the upstream. What remains is the kit's own cost."""

    name = "direct"

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """The upstream's own address."""
        return Launch(Endpoint(upstream.port, "none", "/v1/models"))


class Nginx:
    """nginx as a plain reverse proxy: the cheapest thing that can stand between a client and a provider."""

    name = "nginx"

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """Its configuration and temporary directories, all inside `place`."""
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise BenchProblem("nginx is missing: install Debian's package nginx-light (apt-get install nginx-light)")
        port = free_port()
        config = place / "nginx.conf"
        config.write_text(_nginx_config(place, port, upstream, tls))
        command = (program, "-p", f"{place}/", "-e", "stderr", "-c", str(config))
        return Launch(Endpoint(port, "none", "/v1/models"), command)


class Tollhouse:
    """The product as it is run: journal, request log and metrics on, a user's key with limits and four budgets."""

    name = "tollhouse"

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """A fresh TOLLHOUSE_HOME with the mock as its one provider, and a key made by the command line."""
        program = Path(sys.executable).with_name("tollhouse")
        if not program.exists():
            raise BenchProblem(f"{program} does not exist: start the benchmark by `make bench`, which installs it")
        raise BenchProblem("the product's entry is not written yet; use --gateways nginx")


def known() -> tuple[Gateway, ...]:
    """Every recipe, in the order of measuring. The first is the yardstick of the ratios' denominators."""
    return (Nginx(), Tollhouse())


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _nginx_config(place: Path, port: int, upstream: Upstream, tls: bool) -> str:
    """A plain proxy for LLM calls: answers are not buffered (they may be streams), connections are kept on both sides,
    a request body of 128 KB stays in memory, nothing is logged."""
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not write into our temporary directory
    scheme, upstream_port = ("https", upstream.tls_port) if tls else ("http", upstream.port)
    trust = f"""
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {upstream.authority};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_session_reuse on;"""
    return f"""
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {place}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    client_body_buffer_size 128k;
    client_max_body_size 64m;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    upstream provider {{
        server 127.0.0.1:{upstream_port};
        keepalive 512;
        keepalive_timeout 600s;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass {scheme}://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;{trust if tls else ""}
        }}
    }}
}}
"""

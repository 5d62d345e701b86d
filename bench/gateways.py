"""What is compared. A gateway here is a recipe: given a directory and an upstream, how is it configured and started?

The peers, which are installed on request, stand in bench/peers.py; `known()` in bench/__main__.py lists all.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.calls import Endpoint
from bench.canned import MODEL
from bench.problem import BenchProblem

COMMAND_LIMIT_S = 60.0

_TOLLHOUSE = (sys.executable, "-c", "import sys; from tollhouse.cli import main; sys.exit(main())")
_PLENTY = "100000000"  # every limit is checked, none refuses
_FOREIGN = re.compile(r"^TOLLHOUSE_|^LITELLM_|_API_KEY$|_BASE_URL$|_proxy$", re.IGNORECASE)


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

    @property
    def is_peer(self) -> bool:
        """Whether the run goes on without it where it fails."""

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """Write what it needs into `place`, an empty directory of its own; `tls` asks for the upstream's TLS port."""


class Direct:
    """No gateway at all: the load meets the upstream. What remains is the kit's own cost."""

    name = "direct"
    is_peer = False

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """The upstream's own address."""
        return Launch(Endpoint(upstream.port, "none", "/v1/models"))


class Nginx:
    """nginx as a plain reverse proxy: the cheapest thing that can stand between a client and a provider."""

    name = "nginx"
    is_peer = False

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


MOST_STREAMS = 2_000
"""Open at once to the mock upstream: more than any figure asks for."""


class Tollhouse:
    """The product as it is run: journal, request log and metrics on, a user's key with limits and four budgets.
    `own_keys`: a provider key of the user's own, stored in the vault, pays for the calls and counts toward budgets.
    """

    name = "tollhouse"
    is_peer = False

    def __init__(self, *, own_keys: bool = False) -> None:
        self.own_keys = own_keys
        # By whether the upstream is asked by TLS, for an own key is bound to its address: a home with user, key and
        # budgets, and the key.
        self._furnished: dict[bool, tuple[Path, str]] = {}

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """A fresh TOLLHOUSE_HOME with the mock as its one provider, and a key made by the command line."""
        if importlib.util.find_spec("tollhouse") is None:
            raise BenchProblem(
                f"{sys.executable} has no tollhouse: start the benchmark by `make bench`, which installs it"
            )
        port, config, home = free_port(), place / "tollhouse.yaml", place / "home"
        config.write_text(_tollhouse_config(port, upstream, tls))
        if tls not in self._furnished:
            self._furnished[tls] = _furnish(place, own_keys=self.own_keys)
        furnished, key = self._furnished[tls]
        shutil.copytree(furnished, home)
        command = (*_TOLLHOUSE, "serve", "--config", str(config))
        return Launch(Endpoint(port, key, "/readyz"), command, {"TOLLHOUSE_HOME": str(home)})


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


def _tollhouse_config(port: int, upstream: Upstream, tls: bool) -> str:
    base_url = f"https://localhost:{upstream.tls_port}" if tls else f"http://127.0.0.1:{upstream.port}"
    settings: dict[str, object] = {
        "listen": {"port": port},
        "local": {"enabled": False},
        "providers": [
            {
                "name": "mock",
                "kind": "anthropic",
                "base_url": base_url,
                "models": ["claude-*"],
                "list_models": [MODEL],
            }
        ],
    }
    connections = {"max_connections_per_origin": MOST_STREAMS}  # nginx has no such bound
    settings["upstream"] = connections | ({"ca_file": str(upstream.authority)} if tls else {})
    return json.dumps(settings, indent=2)  # YAML reads JSON


def _furnish(place: Path, *, own_keys: bool) -> tuple[Path, str]:
    """Make the home from which every start is copied, by the commands an operator would type; also the key.

    `doctor` leaves the prices compiled there, as a first start would: once per release of the price data, about 0.8 s.
    """
    home = place / "furnished"
    environment, user = {"TOLLHOUSE_HOME": str(home)}, ["--user", "bench"]
    limits = ["--rpm", _PLENTY, "--tpm", _PLENTY, "--parallel", "100000", "--budget", f"{_PLENTY}/month"]
    created = _tollhouse_says(place, environment, "keys", "create", *user, *limits)
    for cap, scope in (("day", ["--key", created["key_id"]]), ("month", user), ("month", ["--organisation"])):
        _tollhouse_says(place, environment, "budgets", "set", f"{_PLENTY}/{cap}", *scope)
    if own_keys:
        _tollhouse_says(place, environment, "vault", "init")
        _tollhouse_says(place, environment, "plans", "create", "own", "--own-key", "own_first", "--count-own-key")
        _tollhouse_says(place, environment, "users", "edit", "bench", "--plan", "own")
        _tollhouse_says(place, environment, "credentials", "add", "mock", *user, piped="sk-ant-api03-of-the-bench")
    _tollhouse_says(place, environment, "doctor")
    return home, created["key"]


def _tollhouse_says(place: Path, environment: Mapping[str, str], *arguments: str, piped: str = "") -> dict[str, str]:
    """One command of the product's command line; what it prints as JSON."""
    done = subprocess.run(
        (*_TOLLHOUSE, *arguments, "--config", str(place / "tollhouse.yaml"), "--json"),
        env=surroundings(environment),
        cwd=place,
        input=piped.encode(),
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace")[-1000:]
        raise BenchProblem(f"`tollhouse {' '.join(arguments)}` failed with code {done.returncode}: {words}")
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def surroundings(more: Mapping[str, str]) -> dict[str, str]:
    """The environment for what is measured: ours, without provider keys, settings and proxies that would change it."""
    ours = {name: value for name, value in os.environ.items() if not _FOREIGN.search(name)}
    ours["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path != "")
    return ours | dict(more)

"""Other gateways, installed on request: `--gateways nginx,tollhouse,smg,litellm,portkey`.

Each is configured as a plain pass to one provider, which is the least it can do: no budgets, no ledger, LiteLLM with a
master key as its only check. Each stands in a folder of its own below .cache/bench, which `make clean` removes. What is
installed is somebody else's code: it runs with the rights of whoever asked for it.

A peer that cannot do what a figure asks (1,000 calls a second, say) is named there with the reason; the run goes on.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.calls import Endpoint
from bench.canned import MODEL
from bench.gateways import Launch, Upstream, free_port
from bench.problem import BenchProblem

HOUSE = Path(__file__).resolve().parent.parent / ".cache" / "bench"
INSTALL_LIMIT_S = 1_200.0

SMG = "smg==1.13.0"
LITELLM = "litellm[proxy]==1.106.0"
PORTKEY = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # The newest of these hands out headers that nobody may change, and Portkey then fails on every stream.
    "overrides": {"@hono/node-server": "1.13.8"},
}
_MASTER_KEY = "sk-bench"
_OWN_PACKAGES = {"PYTHONPATH": ""}  # not those of the environment that runs the benchmark


class Smg:
    """Shepherd Model Gateway (Rust), speaking Anthropic's Messages on both sides."""

    name = "smg"
    is_peer = True

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """One worker, no health checks, no history."""
        python = _python_with(self.name, SMG)
        port = free_port()
        command = [str(python), "-m", "smg", "launch", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend", "anthropic", "--worker-urls", _origin(upstream, tls)]
        command += ["--policy", "round_robin", "--disable-health-check", "--disable-load-monitoring"]
        command += ["--disable-tokenizer-autoload", "--history-backend", "none", "--log-level", "error"]
        command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        if tls:
            command += ["--ca-cert-paths", str(upstream.authority)]
        return Launch(Endpoint(port, "none", "/readiness"), tuple(command), _OWN_PACKAGES)


class LiteLLM:
    """LiteLLM's proxy (Python): a master key, one model, one worker, no database."""

    name = "litellm"
    is_peer = True

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """Its settings in `place`; prices from its own package instead of the network."""
        python = _python_with(self.name, LITELLM)
        port, config = free_port(), place / "litellm.yaml"
        model = {"model": f"anthropic/{MODEL}", "api_base": _origin(upstream, tls), "api_key": "none"}
        settings = {
            "model_list": [{"model_name": MODEL, "litellm_params": model}],
            "general_settings": {"master_key": _MASTER_KEY},
        }
        config.write_text(json.dumps(settings))  # YAML reads JSON
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
        environment |= _OWN_PACKAGES
        if tls:
            environment["SSL_CERT_FILE"] = str(upstream.authority)
        command = [str(python.parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
        return Launch(Endpoint(port, _MASTER_KEY, "/health/liveliness"), tuple(command), environment)


class Portkey:
    """Portkey's gateway (Node), told by headers where to go."""

    name = "portkey"
    is_peer = True

    def prepare(self, place: Path, upstream: Upstream, tls: bool) -> Launch:
        """No configuration; each call carries its own."""
        folder = _node_modules(self.name, PORTKEY)
        port = free_port()
        program = folder / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        headers = (("x-portkey-provider", "anthropic"), ("x-portkey-custom-host", f"{_origin(upstream, tls)}/v1"))
        environment = {"NODE_ENV": "production"}
        if tls:
            environment["NODE_EXTRA_CA_CERTS"] = str(upstream.authority)
        command = (_program("node"), str(program), f"--port={port}", "--headless")
        return Launch(Endpoint(port, "none", "/", headers), command, environment)


def peers() -> tuple[Smg | LiteLLM | Portkey, ...]:
    """Every peer, the quickest first."""
    return (Smg(), Portkey(), LiteLLM())


def _origin(upstream: Upstream, tls: bool) -> str:
    return f"https://localhost:{upstream.tls_port}" if tls else f"http://127.0.0.1:{upstream.port}"


def _python_with(name: str, requirement: str) -> Path:
    """The interpreter of an environment that has the package (wheels only: nothing is built or run at installation)."""

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        _run(name, [sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
        _run(name, [*pip, "--disable-pip-version-check", "--only-binary=:all:", requirement], folder.parent)

    return installed(name, f"{requirement} {sys.version}", install) / "bin" / "python"


def _node_modules(name: str, package: dict[str, object]) -> Path:
    """The folder node_modules of an installation (no script of any package is run)."""

    def install(folder: Path) -> None:
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps(package))
        npm = [_program("npm"), "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
        _run(name, npm, folder)

    return installed(name, json.dumps(package), install) / "node_modules"


def installed(name: str, recipe: str, install: Callable[[Path], None]) -> Path:
    """The folder of a peer; installed anew where its recipe has changed or an earlier installation did not end."""
    HOUSE.mkdir(parents=True, exist_ok=True)
    folder, done = HOUSE / name, HOUSE / f"{name}.installed"
    with (HOUSE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != recipe:
            done.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.write(f"{name}: installing {recipe} into {folder} (once)\n")
            install(folder)
            done.write_text(recipe)
    return folder


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchProblem(f"{name} is missing: install Debian's packages nodejs and npm")
    return found


def _run(name: str, command: Sequence[str], folder: Path) -> None:
    environment = dict(os.environ) | _OWN_PACKAGES  # else pip would find there what it should install
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=INSTALL_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BenchProblem(f"{name} was not installed within {INSTALL_LIMIT_S:.0f} s") from None
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace")[-1500:]
        raise BenchProblem(f"{name} cannot be installed: `{' '.join(command)}` said: {words}")

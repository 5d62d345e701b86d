"""The back end of `examples/web-app` as people run it: a process of its own, on a free port."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.journeys.calls import MODEL
from tests.scripted import ScriptedUpstream
from tests.serving import START_S, STOP_S, Gateway, database_at, environment, eventually

HERE = Path(__file__).resolve().parents[2] / "examples" / "web-app"
PROVIDER_KEY = "sk-ant-api03-the-operators-own-key"
MASTER_KEY = "the-master-key-of-this-house-0123456789"
RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")


class WebApp:
    """Use as a context manager. `url` is its origin, `log` what it said.

    tollhouse_url   the gateway; without one, `start.py` starts its own
    """

    def __init__(self, directory: Path, tollhouse_url: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = directory / "web-app.log"
        self.url = ""
        if tollhouse_url:
            words = ["app.py", "--tollhouse", tollhouse_url, "--flows", str(directory / "flows.db")]
        else:
            words = ["start.py", "--home", str(directory), "--gateway-port", "0"]
        self._command = [sys.executable, str(HERE / words[0]), *words[1:], "--port", "0"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "WebApp":
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=environment(self.directory), stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.url = eventually(self._told_url, START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _told_url(self) -> str:
        said = self.log.read_text()
        assert self._process is not None
        assert self._process.poll() is None, f"the back end did not come up:\n{said}"
        found = RUNNING.search(said)
        return found[1] if found else ""

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def client(self) -> httpx.Client:
        """A browser without a page: it keeps cookies and says where it comes from."""
        return httpx.Client(base_url=self.url, headers={"origin": self.url}, timeout=30, trust_env=False)


@contextmanager
def example_gateway(directory: Path, provider: ScriptedUpstream, location: str = "") -> Iterator[Gateway]:
    """The example's Tollhouse with its plans and a master key, before the scripted provider.

    location   of its database; a file of its home when there is none
    """
    settings: dict[str, Any] = yaml.safe_load((HERE / "tollhouse.yaml").read_text())
    mock = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK_KEY"}
    settings["providers"] = [{**mock, "models": ["claude-*"]}]
    settings["local"] = {"enabled": False}
    settings["chat"]["model"] = MODEL
    settings["listen"].pop("port")
    env = {"MOCK_KEY": PROVIDER_KEY, "TOLLHOUSE_MASTER_KEY": MASTER_KEY, **database_at(location)}
    running = Gateway(directory, settings, **env)
    try:
        running.start()
        for words in (("vault", "init"), ("apply", "-f", str(HERE.parent / "plans.yaml"), "--yes")):
            done = running.type(*words)
            assert done.returncode == 0, done.stderr
        yield running
    finally:
        running.close()

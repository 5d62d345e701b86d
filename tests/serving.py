"""`tollhouse serve` as people run it: a process of its own, a home of its own, a free port. Its provider may be a
`tests.scripted.ScriptedUpstream`.
"""

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

import tollhouse
from tests.canary import confidential, files, sightings

SOURCE = Path(tollhouse.__file__).parents[1]
COMMAND = (sys.executable, "-c", "import sys; from tollhouse.cli import main; sys.exit(main())")
START_S = 60.0
STOP_S = 60.0
MAX_CONFIDED = 20
"""Secrets of one gateway that are looked for when it is closed: they are all made in the same way."""
NOT_INHERITED = ("TOLLHOUSE_", "LITELLM_", "ANTHROPIC_", "OPENAI_")


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything that would steer a gateway or a client."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_INHERITED) and not name.lower().endswith("_proxy")
    }
    return {**kept, "TOLLHOUSE_HOME": str(home), "PYTHONPATH": str(SOURCE), "TZ": "UTC", **more}


def database_at(location: str) -> dict[str, str]:
    """The variable that has a gateway use this database; none for a file, as it has one in its home."""
    return {"TOLLHOUSE_STORAGE__DATABASE_URL": location} if location.startswith("postgresql:") else {}


class Gateway:
    """One gateway. `start` may be called again after `stop` or `kill`: same home, another port."""

    def __init__(self, directory: Path, settings: dict[str, Any] | str, **env: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.home = directory / "home"
        self.config = directory / "tollhouse.yaml"
        text = textwrap.dedent(settings) if isinstance(settings, str) else yaml.safe_dump(settings)
        self.config.write_text(text)
        self.env = environment(self.home, **env)
        self.log = directory / "serve.log"
        self.url = ""
        self.setup_url = ""
        """Where the first owner is made, while there is none."""
        self.process: subprocess.Popen[bytes] | None = None
        self.said = b""
        """What else it wrote to its standard output, up to its end."""
        self.confided = confidential(env)
        """Secrets it was given or made, by what they are: they may be written down nowhere (see `tests.canary`)."""

    # --- the process

    def start(self) -> "Gateway":
        with self.log.open("ab") as log:
            words = ("serve", "--config", str(self.config), "--port", "0", "--json")
            self.process = subprocess.Popen([*COMMAND, *words], env=self.env, stdout=subprocess.PIPE, stderr=log)
        told = json.loads(self._line())
        self.url, self.setup_url = told["url"], told.get("setup_url", "")
        return self

    def _line(self) -> bytes:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_S)
        line: bytes = process.stdout.readline() if readable else b""
        if not line:
            self.kill()
            raise AssertionError(f"serve did not come up:\n{self.log.read_text()}")
        return line

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Its exit code."""
        process = self.process
        assert process is not None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if process.stdout is not None:
            self.said += process.stdout.read()
            process.stdout.close()
        self.process = None
        return code

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: as a power cut, except that the kernel keeps what was written."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def close(self) -> None:
        """The end of the test, whatever state this is in."""
        if self.process is not None:
            self.kill() if self.process.poll() is None else self.wait()
        written = [("its standard output", self.said), *files(self.home)]
        if self.log.exists():
            written.append(("its log", self.log.read_bytes()))
        assert list(sightings(self.confided, written)) == []

    # --- its owner

    def owner(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The management API over the owner's socket; the decoded answer, which must be a success."""
        transport = httpx.HTTPTransport(uds=str(self.home / "admin.sock"))
        with httpx.Client(transport=transport, base_url="http://tollhouse", timeout=30, trust_env=False) as http:
            answer = http.request(method, f"/api/v1{path}", json=body, params=query)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def new_key(self, user: str, **body: Any) -> dict[str, Any]:
        """A new key of this user; `key` is its secret."""
        made: dict[str, Any] = self.owner("POST", "/keys", {"user_id": user, **body})
        if len(self.confided) < MAX_CONFIDED:
            self.confided[f"key {made['key_id']}"] = made["key"]
        return made

    def key(self, user: str, **body: Any) -> str:
        """The secret of a new key of this user."""
        secret: str = self.new_key(user, **body)["key"]
        return secret

    def entries(self, user: str) -> list[dict[str, Any]]:
        """The request log of a user, oldest first."""
        rows: list[dict[str, Any]] = self.owner("GET", "/requests", user=user, limit=500)["items"]
        return rows[::-1]

    def usage(self, user: str) -> dict[str, Any]:
        """The ledger's sums of a user."""
        total: dict[str, Any] = self.owner("GET", "/usage", user=user)["total"]
        return total

    def budgets(self, scope: str, scope_id: str | None = None) -> list[dict[str, Any]]:
        """Budgets with what is posted and held."""
        query = {"scope": scope} | ({"scope_id": scope_id} if scope_id else {})
        rows: list[dict[str, Any]] = self.owner("GET", "/budgets", **query)["items"]
        return rows

    # --- a key's holder

    def me(self, key: str) -> dict[str, Any]:
        """What the holder of a key is told: user, key, and every budget that applies."""
        answer = httpx.get(f"{self.url}/api/v1/me", headers={"x-api-key": key}, timeout=30, trust_env=False)
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()
        return told

    # --- its commands

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command as typed in this home."""
        return subprocess.run(
            [*COMMAND, *words], env=self.env, capture_output=True, text=True, timeout=START_S, check=False
        )


def eventually(holds: Any, timeout_s: float = 30.0) -> Any:
    """The first true value of `holds()`, which must come within the time."""
    until = time.monotonic() + timeout_s
    while not (value := holds()):
        assert time.monotonic() < until, "it did not come to hold in time"
        time.sleep(0.01)
    return value

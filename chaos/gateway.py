"""The gateways of these rounds: as `tests.serving` has them, but from the nursery."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from chaos.nursery import Child, Nursery, set_clock
from tests.serving import Gateway

OWNER_S = 30.0


class Held(Gateway):
    """With a clock that can be set, and held before it begins."""

    def __init__(self, directory: Path, settings: dict[str, Any], nursery: Nursery, **env: str) -> None:
        super().__init__(directory, settings, **env)
        self._nursery = nursery
        self._clock = directory / "clock"
        self.set_clock(0)

    def set_clock(self, offset_s: float) -> None:
        """Its wall clock, against the system's."""
        set_clock(self._clock, int(offset_s * 1e9))

    def start(self) -> "Held":
        code = self.begin()
        assert code is None, f"serve ended with {code}:\n{self.log.read_text()}"
        return self

    def begin(self, when_held: Callable[[int], object] = lambda _pid: None) -> int | None:
        """Start it and call `when_held` with its pid before it has begun. Its exit code if it did not come up."""
        child = self._held()
        self.process = child  # type: ignore[assignment]  # it has all of Popen that is used
        when_held(child.pid)
        child.go()
        if line := child.stdout.readline():
            self.url = json.loads(line)["url"]
            return None
        return self.wait()

    def begin_and_die(self, after_s: float) -> None:
        """Start it and kill it before it answers, perhaps while it recovers."""
        child = self._held()
        try:
            child.go()
            time.sleep(after_s)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def _held(self) -> Child:
        words = ("serve", "--config", str(self.config), "--port", "0", "--json")
        with self.log.open("ab") as log:
            return self._nursery.start(words, self.env, self._clock, log.fileno())

    def owner(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """As above it, without the tables for TLS that a client makes each time: rounds ask often."""
        transport = httpx.HTTPTransport(uds=str(self.home / "admin.sock"), verify=False)
        with httpx.Client(transport=transport, base_url="http://tollhouse", timeout=OWNER_S, trust_env=False) as http:
            answer = http.request(method, f"/api/v1{path}", json=body, params=query)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

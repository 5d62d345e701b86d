"""Providers' credentials are rotated under a running gateway: from a file, by a helper, in a Vault. No call fails."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hashicorp import TOKEN, FakeVault
from tests.journeys.calls import answer, body, end_events, post, start_event, streamed, text_event
from tests.scripted import Gate, Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway, eventually

CALLERS = 4
KEYS = [f"sk-ant-api03-number-{number}-0123456789-{number * 1111:04d}" for number in range(10)]
LATE = "claude-late"
LOGIN = "sk-ant-oat01-the-login-of-a-subscription"


class Provider:
    """Takes what is in `good`, and nothing else. Streams wait at `held` for the test, and at `late` what is refused
    only then.
    """

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.held, self.late = Gate(), Gate()
        self.used: list[str] = []
        self.connections: set[int] = set()

    def answer(self, received: Received) -> list[Step]:
        key = received.header("x-api-key") or ""
        self.used.append(key)
        self.connections.add(received.connection)
        error = {"type": "authentication_error", "message": "invalid x-api-key"}
        refusal = reply(401, json.dumps({"type": "error", "error": error}).encode())
        if received.json["model"] == LATE:
            return [self.late, refusal]
        if key not in self.good:
            return [refusal]
        if received.json.get("stream"):
            return streamed(start_event(), text_event("Hel"), self.held, text_event("lo"), end_events())
        return [answer()]


class World:
    """A gateway with three providers, whose credentials come from a file, a helper and a Vault."""

    def __init__(self, directory: Path, upstream: ScriptedUpstream, server: ScriptedUpstream) -> None:
        self.provider = Provider()
        upstream.script = self.provider.answer
        self.vault = FakeVault()
        server.script = self.vault.answer
        self.file = directory / "anthropic-key"
        self.printed = directory / "printed"
        helper = directory / "helper"
        helper.write_text(f'#!/bin/sh\nexec cat "{self.printed}"\n')
        helper.chmod(0o700)

        def row(name: str, api_key: str, model: str) -> dict[str, Any]:
            return {"name": name, "kind": "anthropic", "base_url": upstream.url, "api_key": api_key, "models": [model]}

        settings = {
            "local": {"enabled": False},
            "providers": [
                row("filed", f"file:{self.file}", "claude-*"),
                row("helped", f"cmd:{helper} --with secret-argument", "helped-*"),
                row("vaulted", "vault:kv/llm/anthropic#api_key", "vaulted-*"),
            ],
            "key_sources": {
                "retry_s": 0.05,
                "longest_retry_s": 0.1,
                "refused_refresh_s": 0.05,
                "file": {"poll_s": 0.05, "settle_s": 0.02},
                "hashicorp": {"address": server.url, "ttl_s": 3600},
            },
        }
        self.gateway = Gateway(directory, settings, VAULT_TOKEN=TOKEN)

    def credential(self, name: str) -> dict[str, Any]:
        """What is told of a provider's credential, and its last four characters."""
        rows = self.gateway.owner("GET", "/providers")["items"]
        (row,) = (row for row in rows if row["name"] == name)
        return {**row["credential"], "hint": row["credential_hint"], "api_key": row["api_key"]}

    def told(self) -> str:
        """Everything that anybody is told."""
        rows = self.gateway.owner("GET", "/providers"), self.gateway.owner("GET", "/status")
        doctor = self.gateway.type("doctor", "--json", "--config", str(self.gateway.config))
        return json.dumps(rows) + doctor.stdout + doctor.stderr + self.gateway.log.read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """It starts while the Vault is sealed."""
    with ScriptedUpstream() as upstream, ScriptedUpstream() as server:
        made = World(tmp_path_factory.mktemp("rotation"), upstream, server)
        made.file.write_text(KEYS[0])
        made.printed.write_text(KEYS[1])
        made.vault.write("kv/llm/anthropic", {"api_key": KEYS[2]})
        made.vault.sealed = True
        made.provider.good = set(KEYS[:3])
        try:
            made.gateway.start()
            yield made
        finally:
            made.gateway.close()


def rotate(path: Path, text: str) -> None:
    beside = path.with_name("next")
    beside.write_text(text + "\n")
    beside.rename(path)


def test_under_load_no_call_fails(world: World, user: str) -> None:
    gateway, provider = world.gateway, world.provider
    key = gateway.key(user)
    over = threading.Event()
    statuses: list[list[int]] = [[] for _ in range(CALLERS)]

    def call(mine: list[int]) -> None:
        while not over.is_set():
            mine.append(post(gateway, key, body()).status_code)

    def wait_for_all() -> None:
        """Whatever is being asked now is answered, and something more."""
        done = [len(mine) for mine in statuses]
        eventually(lambda: all(len(mine) > before + 1 for mine, before in zip(statuses, done, strict=True)))

    streams: list[bytes] = []
    callers = [threading.Thread(target=call, args=(mine,)) for mine in statuses]
    callers.append(threading.Thread(target=lambda: streams.append(post(gateway, key, body(stream=True)).content)))
    for caller in callers:
        caller.start()
    try:
        assert provider.held.reached.wait(30)
        before = KEYS[0]
        for after in (KEYS[3], KEYS[4], KEYS[5]):
            provider.good.add(after)
            rotate(world.file, after)
            eventually(lambda after=after: world.credential("filed")["hint"] == after[-4:])
            wait_for_all()
            provider.good.discard(before)  # revoked
            wait_for_all()
            before = after
        provider.held.open()
    finally:
        over.set()
        provider.held.open()
        for caller in callers:
            caller.join(30)
    assert {status for mine in statuses for status in mine} == {200}
    assert streams[0].endswith(end_events()), "a stream that was begun with the first key is done"
    assert provider.used[-1] == KEYS[5]
    assert len(provider.connections) <= CALLERS + 1, "connections outlive the credential they were opened for"
    facts = world.credential("filed")
    assert (facts["failure"], facts["kind"], facts["older_serves"]) == ("", "anthropic_api", False)
    assert facts["overlap_until"] is not None


def test_a_file_that_goes_and_comes_again(world: World, user: str) -> None:
    gateway = world.gateway
    key = gateway.key(user)
    text = world.file.read_text()
    world.file.unlink()
    eventually(lambda: world.credential("filed")["failure"])
    assert post(gateway, key, body()).status_code == 200
    assert any("the one read before serves on" in one for one in gateway.owner("GET", "/status")["warnings"])
    told = json.loads(gateway.type("doctor", "--json", "--config", str(gateway.config)).stdout)["findings"]
    (finding,) = (one for one in told if one["check"] == "credential of filed")
    assert finding["level"] == "warning"
    assert "No such file" in finding["detail"]
    assert 'tollhouse_credential_failing{provider="filed"} 1.0' in metrics(gateway)
    world.file.write_text(text)
    eventually(lambda: not world.credential("filed")["failure"])
    assert 'tollhouse_credential_failing{provider="filed"} 0.0' in metrics(gateway)


def metrics(gateway: Gateway) -> str:
    transport = httpx.HTTPTransport(uds=str(gateway.home / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://tollhouse", trust_env=False) as http:
        return http.get("/metrics").text


def test_the_provider_refuses_the_new_one(world: World, user: str) -> None:
    """Rotated too early, or wrongly: one call is refused, then the one before serves on."""
    gateway, provider = world.gateway, world.provider
    key = gateway.key(user)
    rotate(world.file, KEYS[6])
    eventually(lambda: world.credential("filed")["hint"] == KEYS[6][-4:])
    assert post(gateway, key, body()).status_code == 401
    assert post(gateway, key, body()).status_code == 200
    facts = world.credential("filed")
    assert (facts["older_serves"], facts["hint"]) == (True, KEYS[5][-4:])
    rotate(world.file, KEYS[7])
    provider.good.add(KEYS[7])
    eventually(lambda: world.credential("filed")["hint"] == KEYS[7][-4:])
    assert post(gateway, key, body()).status_code == 200
    assert not world.credential("filed")["older_serves"]


def test_a_late_refusal_says_nothing_of_the_new_one(world: World, user: str) -> None:
    """The call was sent with the key before."""
    gateway, provider = world.gateway, world.provider
    key = gateway.key(user)
    late: list[int] = []
    caller = threading.Thread(target=lambda: late.append(post(gateway, key, body(model=LATE)).status_code))
    caller.start()
    try:
        assert provider.late.reached.wait(30)
        provider.good.add(KEYS[6])
        rotate(world.file, KEYS[6])
        eventually(lambda: world.credential("filed")["hint"] == KEYS[6][-4:])
    finally:
        provider.late.open()
        caller.join(30)
    assert late == [401]
    facts = world.credential("filed")
    assert (facts["hint"], facts["older_serves"], facts["refused_status"]) == (KEYS[6][-4:], False, None)


def test_a_helper_is_looked_at_each_time(world: World, user: str) -> None:
    gateway, provider = world.gateway, world.provider
    key = gateway.key(user)
    helped = body(model="helped-1")
    assert post(gateway, key, helped).status_code == 200
    for garbage, why in ((LOGIN, "subscription"), ("two words", "white space"), ("", "printed nothing")):
        world.printed.write_text(garbage)
        assert why in gateway.owner("POST", "/providers/helped/refresh")["failure"]
        assert post(gateway, key, helped).status_code == 200
    assert gateway.type("providers", "refresh", "helped", "--config", str(gateway.config)).returncode == 1
    provider.good.add(KEYS[8])
    world.printed.write_text(KEYS[8])
    typed = gateway.type("providers", "refresh", "helped", "--config", str(gateway.config))
    assert (typed.returncode, "good" in typed.stdout) == (0, True), typed.stdout + typed.stderr
    assert post(gateway, key, helped).status_code == 200
    assert provider.used[-1] == KEYS[8]
    facts = world.credential("helped")
    assert facts["api_key"] == facts["source"]
    assert facts["source"].endswith("/helper …")
    listed = gateway.type("providers", "list", "--config", str(gateway.config)).stdout
    assert "filed" in listed
    assert "…8888" in listed


def test_a_vault_that_is_sealed_at_the_start(world: World, user: str) -> None:
    gateway, provider = world.gateway, world.provider
    key = gateway.key(user)
    vaulted = body(model="vaulted-1")
    refused = post(gateway, key, vaulted)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "credential_unavailable")
    assert refused.headers["retry-after"] == "15"
    assert "sealed" in world.credential("vaulted")["failure"]
    world.vault.sealed = False
    eventually(lambda: not world.credential("vaulted")["failure"])
    assert post(gateway, key, vaulted).status_code == 200
    # revoked long before it is due: the first refusal has it read again
    provider.good.discard(KEYS[2])
    provider.good.add(KEYS[9])
    world.vault.write("kv/llm/anthropic", {"api_key": KEYS[9]})
    assert post(gateway, key, vaulted).status_code == 401
    eventually(lambda: world.credential("vaulted")["hint"] == KEYS[9][-4:])
    assert post(gateway, key, vaulted).status_code == 200


def test_nobody_is_told_a_secret(world: World) -> None:
    told = world.told()
    for secret in (*KEYS, LOGIN, TOKEN, "secret-argument"):
        assert secret not in told
    assert "credential_expires_seconds" in metrics(world.gateway)

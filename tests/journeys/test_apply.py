"""`tollhouse apply -f` as an operator types it, against a running gateway, its providers included."""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest
import yaml

from tests.journeys.calls import MODEL, QUESTION, answer, end_events, start_event, streamed, text_event
from tests.journeys.conftest import Claude
from tests.scripted import Gate, ScriptedUpstream
from tests.serving import Gateway
from tollhouse.cli import main
from tollhouse.rules.keys import is_well_formed

EXAMPLE = Path(__file__).parents[2] / "examples" / "plans.yaml"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose settings name no provider."""
    price = {"input_usd_per_mtok": 3, "output_usd_per_mtok": 15}
    settings = {
        "local": {"enabled": False},
        "prices": {MODEL: price},
        "upstream": {"declared_secrets": ["env:*_KEY"]},
    }
    gateway = Gateway(tmp_path_factory.mktemp("apply"), settings, MOCK_KEY="first-key", OTHER_KEY="second-key")
    try:
        yield gateway.start()
    finally:
        gateway.close()


@dataclass
class Typed:
    code: int
    out: str
    err: str


Type = Callable[..., Typed]


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """A command as it is typed where this gateway's home is."""

    def run(gateway: Gateway, *words: str) -> Typed:
        for name in [name for name in os.environ if name.startswith("TOLLHOUSE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("TOLLHOUSE_HOME", str(gateway.home))
        code = main((*words, "--config", str(gateway.config)))
        printed = capsys.readouterr()
        return Typed(code, printed.out, printed.err)

    return run


Apply = Callable[..., Any]


@pytest.fixture
def applied(type_: Type) -> Apply:
    """What `apply --yes --json` answers, which must be a success."""

    def run(gateway: Gateway, path: Path, *words: str) -> Any:
        done = type_(gateway, "apply", "-f", str(path), "--yes", "--json", *words)
        assert done.code == 0, done.err
        return json.loads(done.out)

    return run


def ask(client: anthropic.Anthropic) -> str:
    return client.with_options(max_retries=0).messages.create(model=MODEL, max_tokens=100, messages=QUESTION).id


def stated(upstream: ScriptedUpstream, key: str = "MOCK_KEY") -> str:
    """A file with one provider."""
    row = {"name": "mock", "kind": "anthropic", "base_url": upstream.url, "api_key": f"env:{key}"}
    return yaml.safe_dump({"providers": [{**row, "models": ["claude-*"]}]})


def test_a_provider_comes_changes_and_goes_while_calls_are_under_way(
    bare: Gateway, upstream: ScriptedUpstream, claude: Claude, tmp_path: Path, user: str, applied: Apply
) -> None:
    path = tmp_path / f"{user[:40]}.yaml"
    client = claude(bare.url, bare.key(user))
    with pytest.raises(anthropic.BadRequestError, match="Unknown model"):
        ask(client)
    path.write_text(stated(upstream))
    applied(bare, path)
    upstream.script = lambda received: [answer()]
    ask(client)
    assert upstream.last.header("x-api-key") == "first-key"
    assert "claude-sonnet-4-6" in [model.id for model in client.models.list()]

    gate = Gate()
    upstream.script = lambda received: streamed(start_event(), gate, text_event("late"), end_events())
    texts: list[str] = []

    def stream() -> None:
        with client.messages.stream(model=MODEL, max_tokens=100, messages=QUESTION) as events:
            texts.append("".join(events.text_stream))

    under_way = threading.Thread(target=stream)
    under_way.start()
    assert gate.reached.wait(30)
    path.write_text(stated(upstream, "OTHER_KEY"))
    applied(bare, path)
    upstream.script = lambda received: [answer()]
    ask(client)
    assert upstream.last.header("x-api-key") == "second-key"
    path.write_text("{}")
    applied(bare, path, "--prune")
    with pytest.raises(anthropic.BadRequestError, match="Unknown model"):
        ask(client)
    gate.open()
    under_way.join(30)
    assert texts == ["late"]  # finished on the provider it began with
    assert bare.owner("GET", "/providers")["items"] == []


def test_declared_providers_are_there_after_a_restart_and_a_missing_key_is_a_warning(
    upstream: ScriptedUpstream, claude: Claude, tmp_path: Path, applied: Apply
) -> None:
    path = tmp_path / "providers.yaml"
    row = "{name: %s, kind: anthropic, base_url: '%s', api_key: env:%s, models: ['claude-*']}"
    path.write_text(f"providers: [{row % ('gone', upstream.url, 'A')}, {row % ('mock', upstream.url, 'B')}]")
    gateway = Gateway(tmp_path / "gateway", {"local": {"enabled": False}}, A="a-key", B="b-key")
    try:
        gateway.start()
        key = gateway.key("alice")
        applied(gateway, path)
        gateway.stop()
        del gateway.env["A"]
        gateway.start()
        upstream.script = lambda received: [answer()]
        ask(claude(gateway.url, key))
        assert upstream.last.header("x-api-key") == "b-key"
        [warning] = gateway.owner("GET", "/status")["warnings"]
        assert "gone of providers.yaml is not used" in warning
        told = gateway.owner("GET", "/providers")["items"]
        assert [(one["name"], one["api_key"], one["owned_by"]) for one in told] == [("mock", "env:B", "providers.yaml")]
        assert "b-key" not in json.dumps(told)
        path.write_text(f"providers: [{row % ('mock', upstream.url, 'B')}]")
        applied(gateway, path, "--prune")
        assert gateway.owner("GET", "/status")["warnings"] == []
    finally:
        gateway.close()


def test_a_file_names_no_secret_that_is_not_its_to_use(
    bare: Gateway, upstream: ScriptedUpstream, tmp_path: Path, type_: Type
) -> None:
    path = tmp_path / "thief.yaml"
    own = (
        "env:TOLLHOUSE_MASTER_KEY",
        "env:litellm_master_key",
        f"file:{bare.home}/server-secret",
        "file:/etc/hostname",
    )
    for reference in own:
        row = {"name": "thief", "kind": "openai", "base_url": upstream.url, "api_key": reference, "models": ["x"]}
        path.write_text(yaml.safe_dump({"providers": [row]}))
        done = type_(bare, "apply", "-f", str(path), "--dry-run")
        assert done.code == 2, reference
        assert "upstream.declared_secrets" in done.err


def test_the_seeds_plans_and_a_key_that_holds_one(bare: Gateway, tmp_path: Path, type_: Type, applied: Apply) -> None:
    assert applied(bare, EXAMPLE)["summary"]["create"] == 2
    path, secrets = tmp_path / "people.yaml", tmp_path / "keys.json"
    path.write_text(
        "users: [{user_id: seed-alice, plan_id: free}]\n"
        "keys: [{name: page, user_id: seed-alice, expires: 2040-01-01}]\n"
    )
    done = applied(bare, path, "--keys-to", str(secrets))
    assert "key" not in done["keys"][0]
    [kept] = json.loads(secrets.read_text())
    assert is_well_formed(kept["key"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    again = tmp_path / "again.json"
    assert applied(bare, path, "--keys-to", str(again))["summary"]["create"] == 0
    assert not again.exists()
    refused = type_(bare, "apply", "-f", str(path), "--yes", "--json", "--keys-to", str(secrets))
    assert refused.code == 2
    assert [kept] == json.loads(secrets.read_text())


def test_the_seeds_plans_hold_by_name(
    bare: Gateway, upstream: ScriptedUpstream, claude: Claude, tmp_path: Path, applied: Apply
) -> None:
    """Ten a minute and answers of a thousand tokens; premium without a key of one's own is no more than free."""
    applied(bare, EXAMPLE)
    path = tmp_path / "seed.yaml"
    row = {"name": "seed", "kind": "anthropic", "base_url": upstream.url, "api_key": "env:MOCK_KEY"}
    people = [{"user_id": f"seed-{plan}", "plan_id": plan} for plan in ("free", "premium")]
    keys = [{"user_id": one["user_id"], "name": "page"} for one in people]
    path.write_text(yaml.safe_dump({"providers": [{**row, "models": ["claude-*"]}], "users": people, "keys": keys}))
    upstream.script = lambda received: [answer()]
    for made in applied(bare, path)["keys"]:
        client = claude(bare.url, made["key"]).with_options(max_retries=0)
        for _ in range(10):
            client.messages.create(model=MODEL, max_tokens=5_000, messages=QUESTION)
            assert upstream.last.json["max_tokens"] == 1_000
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(model=MODEL, max_tokens=5_000, messages=QUESTION)
        assert "10 requests" in str(refused.value), refused.value
    path.write_text("{}")
    applied(bare, path, "--prune")


def test_what_is_wrong_is_said_with_its_line_and_column(bare: Gateway, tmp_path: Path, type_: Type) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "users:\n  - user_id: wrong-alice\n    plan_id: nowhere\n  - {user_id: wrong-bob,\n     team_id: nowhere}\n"
    )
    done = type_(bare, "apply", "-f", str(path), "--yes")
    assert done.code == 2
    assert f"{path}:3:5: users.0.plan_id: there is no plan 'nowhere'" in done.err
    assert f"{path}:5:6: users.1.team_id: there is no team 'nowhere'" in done.err
    for text, place, said in (
        ("users:\n - {user_id: a}\nusers: []\n", "3:1", "written twice"),
        ("users: [\n", "2:1", "not YAML"),
        ("- users\n", "1:1", "is a mapping"),
        ("users:\n  - {user_id: a, plam: b}\n", "2:18", "no such field"),
        ("a: &x {b: 1}\nusers: [{<<: *x}]\n", "2:10", "not merged"),
    ):
        path.write_text(text)
        done = type_(bare, "apply", "-f", str(path), "--dry-run", "--json")
        error = json.loads(done.err)["error"]
        assert error["message"].startswith(f"{path}:{place}: "), error
        assert said in error["message"]


def test_nothing_is_done_without_a_yes(bare: Gateway, tmp_path: Path, type_: Type) -> None:
    path = tmp_path / "asks.yaml"
    path.write_text("users: [{user_id: asked-alice, limits: {requests_per_minute: 7}}]")
    done = type_(bare, "apply", "-f", str(path))
    assert done.code == 2
    assert "+ user asked-alice" in done.out
    assert "limits.requests_per_minute: 7" in done.out
    assert "--yes" in done.err
    assert type_(bare, "apply", "-f", str(path), "--json").code == 2
    for looked in (("--dry-run",), ("--dry-run", "--yes")):
        plan = json.loads(type_(bare, "apply", "-f", str(path), "--json", *looked).out)
        assert (plan["dry_run"], plan["summary"]["create"]) == (True, 1)
    assert type_(bare, "users", "show", "asked-alice").code == 1
    assert type_(bare, "apply", "-f", str(path), "--yes").out.endswith("1 created, 0 changed, 0 ended.\n")
    assert "0 to create, 0 to change" in type_(bare, "apply", "-f", str(path)).out  # nothing to ask about

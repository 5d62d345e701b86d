"""Commands as people and scripts type them: over the network, over the Unix socket, and with nothing running."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import tollhouse
from tests.planes.control import MASTER_KEY, Desk, open_desk, settled
from tollhouse.cli import COMMANDS, main
from tollhouse.rules.keys import hint, is_well_formed
from tollhouse.storage.home import Home
from tollhouse.storage.ledger import ship
from tollhouse.terms.events import SettleKind

OURS = ("TOLLHOUSE_URL", "TOLLHOUSE_CONFIG", "LITELLM_MASTER_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "NO_COLOR")


@dataclass
class Typed:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


Type = Callable[..., Typed]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("TOLLHOUSE_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "home"
    monkeypatch.setenv("TOLLHOUSE_HOME", str(path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return path


@pytest.fixture
def type_(home: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    def run(*words: str) -> Typed:
        code = main(words)
        printed = capsys.readouterr()
        return Typed(code, printed.out, printed.err)

    return run


@contextlib.contextmanager
def served(desk: Desk, **where: Any) -> Iterator[uvicorn.Server]:
    """The desk's API behind a real server, in a thread of its own."""
    config = uvicorn.Config(desk.api, ws="none", lifespan="off", log_config=None, access_log=False, **where)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path)
    yield opened
    opened.deps.database.close()


@pytest.fixture
def socket_desk(home: Path, desk: Desk) -> Iterator[Desk]:
    """A gateway of this home, reached by its Unix socket; no master key exists."""
    home.mkdir(mode=0o700)
    closed = desk.with_deps(master_key=None)
    with served(closed, uds=str(home / "admin.sock")):
        yield closed


# The three ways to the server


def test_with_nothing_running_the_home_answers(type_: Type, home: Path) -> None:
    made = type_("keys", "create", "--name", "ci", "--user", "alice", "--budget", "20/month", "--rpm", "60", "--json")
    assert made.code == 0, made.err
    key = made.json
    assert is_well_formed(key["key"])
    assert key["base_url"] == "http://127.0.0.1:4000"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not (home / "admin.sock").exists()
    shown = type_("keys", "show", "ci", "--json").json
    assert (shown["user_id"], shown["limits"]["requests_per_minute"]) == ("alice", 60)
    assert shown["budgets"][0]["limit"] == "20"
    assert type_("doctor", "--json").json["problems"] == 0


def test_a_home_in_use_by_somebody_silent_is_said_so(type_: Type, home: Path) -> None:
    other = Home(home)
    other.open()
    try:
        failed = type_("keys", "list", "--json")
    finally:
        other.close()
    assert failed.code == 1
    assert failed.out == ""
    assert failed.error["code"] == "settings"
    assert str(os.getpid()) in failed.error["message"]


def test_over_the_unix_socket(type_: Type, socket_desk: Desk) -> None:
    assert type_("users", "create", "alice", "--json").code == 0
    assert socket_desk.plane.told == ["alice"]  # the running gateway heard of it


def test_a_socket_nobody_listens_on_does_not_count(type_: Type, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "admin.sock").touch()
    assert type_("users", "list", "--json").json == {"items": []}


def test_over_the_network_with_the_master_key(type_: Type, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(desk, host="127.0.0.1", port=0) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        missing = type_("keys", "list", "--url", url, "--json")
        assert (missing.code, missing.error["code"]) == (1, "missing_credentials")
        assert "TOLLHOUSE_MASTER_KEY" in missing.error["message"]
        monkeypatch.setenv("TOLLHOUSE_MASTER_KEY", "wrong")
        wrong = type_("keys", "list", "--url", url, "--json")
        assert (wrong.code, wrong.error["code"]) == (1, "invalid_credentials")
        monkeypatch.setenv("TOLLHOUSE_MASTER_KEY", MASTER_KEY)
        made = type_("keys", "create", "--user", "alice", "--url", f"{url}/v1/", "--json")  # an SDK's base URL
        assert made.code == 0, made.err
        monkeypatch.setenv("TOLLHOUSE_URL", url)
        assert len(type_("keys", "list", "--json").json["items"]) == 1
        assert {one["check"] for one in type_("doctor", "--json").json["findings"]} >= {"gateway", "providers"}


@pytest.mark.parametrize(
    ("url", "code", "exit_code"),
    [
        ("http://127.0.0.1:9", "unreachable", 1),
        ("http://gateway.example.org", "insecure", 1),
        ("gateway", "usage", 2),
        ("ftp://x", "usage", 2),
    ],
)
def test_a_wrong_url_is_explained(
    type_: Type, monkeypatch: pytest.MonkeyPatch, url: str, code: str, exit_code: int
) -> None:
    monkeypatch.setenv("TOLLHOUSE_MASTER_KEY", MASTER_KEY)
    failed = type_("keys", "list", "--url", url, "--json")
    assert (failed.code, failed.error["code"], failed.out) == (exit_code, code, "")
    assert MASTER_KEY not in failed.err


# Keys, users, budgets


def test_the_life_of_a_key(type_: Type, socket_desk: Desk) -> None:
    made = type_(
        *("keys", "create", "--name", "ci", "--user", "alice", "--tpm", "100k", "--parallel", "4"),
        *("--models", "claude-*,gpt-5", "--models", "local/*", "--expires", "30d", "--metadata", "team=core", "--json"),
    ).json
    assert made["models"] == ["claude-*", "gpt-5", "local/*"]
    assert (made["limits"]["tokens_per_minute"], made["metadata"]) == (100_000, {"team": "core"})
    assert socket_desk.plane.own_key(made["key"])
    edited = type_("keys", "edit", "ci", "--tpm", "none", "--rpm", "7", "--expires", "never", "--json").json
    assert (edited["limits"]["tokens_per_minute"], edited["limits"]["requests_per_minute"]) == (None, 7)
    assert edited["expires_at"] is None
    rotated = type_("keys", "rotate", "ci", "--grace", "1h", "--json").json
    assert socket_desk.plane.own_key(made["key"])
    assert socket_desk.plane.own_key(rotated["key"])
    assert type_("keys", "revoke", made["key_id"], "--json").json["status"] == "revoked"
    assert not socket_desk.plane.own_key(rotated["key"])


def test_a_new_key_is_printed_once_with_the_lines_to_try(type_: Type, socket_desk: Desk) -> None:
    made = type_("keys", "create", "--name", "ci", "--budget", "0.000042/day")
    assert made.code == 0, made.err
    secret = made.out.split()[0]
    assert is_well_formed(secret)
    for line in (
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:4000\n",
        f"export ANTHROPIC_AUTH_TOKEN={secret}\n",
        "export OPENAI_BASE_URL=http://127.0.0.1:4000/v1\n",
        f"export OPENAI_API_KEY={secret}\n",
    ):
        assert line in made.out
    assert "$0.000042 per day" in made.out  # never rounded to nothing
    assert "user     ci" in made.out
    for printed in (type_("keys", "list"), type_("keys", "show", "ci"), type_("keys", "show", "ci", "--json")):
        assert secret not in printed.out
        assert hint(secret) in printed.out
    rotated = type_("keys", "rotate", "ci", "--grace", "1h").out
    assert is_well_formed(rotated.split()[0])
    assert f"The old one (…{hint(secret)}) works until" in rotated


def test_a_name_that_several_keys_have_asks_which(type_: Type, socket_desk: Desk) -> None:
    ids = [
        type_("keys", "create", "--name", "ci", "--user", user, "--json").json["key_id"] for user in ("alice", "bob")
    ]
    failed = type_("keys", "revoke", "ci", "--json")
    assert (failed.code, failed.error["code"]) == (1, "ambiguous")
    assert all(key_id in failed.error["message"] for key_id in ids)
    type_("keys", "revoke", ids[0])
    assert type_("keys", "show", "ci", "--json").json["key_id"] == ids[1]  # the one that still works
    assert type_("keys", "show", "nothing", "--json").error["code"] == "not_found"
    secret = "sk-th-" + "0" * 49
    pasted = type_("keys", "show", secret)
    assert pasted.code == 1
    assert secret not in pasted.err


def test_users_are_managed(type_: Type, socket_desk: Desk) -> None:
    made = type_(
        "users", "create", "team/ä", "--name", "The Ä team", "--budget", "5/day", "--rpd", "100", "--json"
    ).json
    assert made["budgets"][0]["window"] == "day"
    assert type_("users", "block", "team/ä", "--json").json["status"] == "blocked"
    assert type_("users", "unblock", "team/ä", "--json").json["status"] == "active"
    edited = type_("users", "edit", "team/ä", "--rpd", "none", "--email", "a@example.org", "--json").json
    assert (edited["limits"]["requests_per_day"], edited["name"]) == (None, "The Ä team")
    assert "The Ä team" in type_("users", "list").out
    shown = type_("users", "show", "team/ä").out
    assert "left $5.00" in shown
    assert type_("users", "show", "nobody").code == 1


def test_setting_a_budget_twice_changes_it(type_: Type, socket_desk: Desk) -> None:
    type_("users", "create", "alice")
    type_("keys", "create", "--name", "ci", "--user", "alice")
    first = type_("budgets", "set", "20/month", "--user", "alice", "--json").json
    again = type_("budgets", "set", "30/month", "--user", "alice", "--edge", "refuse", "--json").json
    assert again["budget_id"] == first["budget_id"]
    assert (again["limit"], again["edge"]) == ("30", "refuse")
    of_key = type_("budgets", "set", "1M tokens/day", "--key", "ci", "--json").json
    everyone = type_("budgets", "set", "100/month", "--organisation", "--timezone", "Europe/Berlin", "--json").json
    assert (everyone["scope"], everyone["timezone"]) == ("organisation", "Europe/Berlin")
    moved = type_("budgets", "set", "100/month", "--organisation", "--timezone", "UTC", "--json")
    assert (moved.code, moved.error["code"]) == (1, "budget_exists")
    assert type_("budgets", "edit", of_key["budget_id"], "--amount", "2M", "--json").json["limit"] == "2000000"
    listed = type_("budgets", "list").out
    for text in ("user alice", "key ci", "organisation", "$30.00", "2,000,000 tokens", "░"):
        assert text in listed
    assert len(type_("budgets", "list", "--user", "alice", "--json").json["items"]) == 1
    assert type_("budgets", "remove", of_key["budget_id"]).out == "Removed 2,000,000 tokens (day) of key ci.\n"
    assert type_("budgets", "set", "20/month").code == 2
    assert type_("budgets", "set", "20/month", "--user", "alice", "--organisation").code == 2
    nobody = type_("budgets", "set", "20/month", "--user", "nobody", "--json")
    assert (nobody.code, nobody.error["code"]) == (1, "not_found")


# Usage


def test_usage_shows_bars_and_a_total(type_: Type, socket_desk: Desk) -> None:
    alice, bob = (type_("keys", "create", "--user", user, "--json").json for user in ("alice", "bob"))
    calls = [
        settled("req_1", alice, amount_nusd=4_000_000_000),
        settled("req_2", bob, amount_nusd=1_000_000_000, kind=SettleKind.UPPER),
        settled("req_3", bob, amount_nusd=42_000, client="\x1b[2Jevil"),
    ]
    socket_desk.deps.database.run_sync(lambda connection: ship(connection, calls))
    printed = type_("usage", "--by", "user").out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["User", "alice", "bob", "all"]
    assert lines[1].count("█") == 24
    assert lines[2].count("█") == 6
    assert "$1.01" in lines[2]  # rounded up, never to nothing
    assert "Not exact" in printed
    assert "\x1b" not in type_("usage", "--by", "client").out
    assert type_("usage", "--user", "bob", "--json").json["total"]["amount_usd"] == "1.000042"
    assert type_("usage", "--by", "day", "--json").json["rows"][0]["group"] == "2026-11-18"
    empty = type_("usage", "--user", "nobody")
    assert empty.out.startswith("No calls since")
    assert type_("usage", "--by", "planet").code == 2
    wrong = type_("usage", "--since", "yesterday", "--json")
    assert (wrong.code, wrong.error["code"], wrong.error["field"]) == (2, "invalid_request", "since")


# Doctor


def findings(typed: Typed) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in typed.json["findings"]:
        found.setdefault(one["check"], []).append(one["level"])
    return found


def test_doctor_makes_nothing_in_an_empty_place(type_: Type, home: Path) -> None:
    seen = type_("doctor", "--json")
    assert findings(seen)["home"] == ["warning"]
    assert not home.exists()


def test_doctor_finds_what_is_insecure(type_: Type, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_("users", "list")
    (home / "server-secret").chmod(0o644)
    monkeypatch.setenv("TOLLHOUSE_MASTER_KEY", "sk-1234")
    monkeypatch.setenv("TOLLHOUSE_LISTEN__HOST", "0.0.0.0")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-oat01-somebodys-login-token")
    seen = type_("doctor", "--json")
    assert seen.code == 1
    found = findings(seen)
    for check in ("home", "master key", "listener", "provider anthropic"):
        assert found[check] == ["problem"], check
    assert "somebodys" not in seen.out
    printed = type_("doctor").out
    assert f"chmod go= '{home / 'server-secret'}'" in printed


def test_doctor_misses_the_secret(type_: Type, home: Path) -> None:
    type_("users", "list")
    (home / "server-secret").rename(home / "gone")
    seen = type_("doctor", "--json")
    assert seen.code == 1
    assert findings(seen)["server secret"] == ["problem"]


def test_doctor_reads_the_settings(type_: Type, tmp_path: Path) -> None:
    config = tmp_path / "tollhouse.yaml"
    config.write_text("listen: {prot: 1}\n")
    seen = type_("doctor", "--config", str(config), "--json")
    assert (seen.code, findings(seen)) == (1, {"settings": ["problem"]})
    assert "listen.prot" in seen.json["findings"][0]["detail"]


@pytest.mark.parametrize(
    "base_url", ["https://ChatGPT.com/backend-api/codex", "https://llm.example?key=hunter2hunter2"]
)
def test_doctor_finds_where_no_provider_can_be(
    type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    monkeypatch.setenv("ROW_KEY", "sk-proj-0123456789")
    config = tmp_path / "tollhouse.yaml"
    row = f"{{name: x, kind: openai, base_url: '{base_url}', api_key: 'env:ROW_KEY', models: ['gpt-*']}}"
    config.write_text(f"providers: [{row}]\nvault: {{own_base_urls: true, allowed_networks: ['10.0.0.0/8']}}\n")
    seen = type_("doctor", "--config", str(config), "--json")
    assert (seen.code, findings(seen)["provider x"], findings(seen)["own endpoints"]) == (1, ["problem"], ["warning"])
    assert "hunter2hunter2" not in seen.out


def test_doctor_asks_the_running_gateway(type_: Type, home: Path, desk: Desk) -> None:
    async def probe() -> dict[str, Any]:
        return {"down": {"reachable": False, "detail": "refused"}, "up": {"reachable": True, "duration_ms": 3.2}}

    rows = [{"name": name, "base": f"https://{name}", "credential": "…wxyz"} for name in ("up", "down")]
    status = {"providers": rows, "journal": {"healthy": False}}
    models = [{"id": "m1", "priced": True}, {"id": "m2", "priced": False}, {"id": "m-*", "priced": False}]
    home.mkdir(mode=0o700)
    watched = desk.with_deps(probe=probe, status=lambda: status, models=lambda: models)
    with served(watched, uds=str(home / "admin.sock")):
        seen = type_("doctor", "--json")
    assert seen.code == 1
    found = findings(seen)
    assert found["provider up"] == ["ok"]
    assert found["provider down"] == ["problem"]
    assert found["journal"] == ["problem"]
    assert found["prices"] == ["warning"]
    details = {one["check"]: one["detail"] for one in seen.json["findings"]}
    assert details["prices"] == "1 of 2 models have no price: m2."
    assert "…wxyz" in details["provider up"]


# The command line itself


def test_wrong_usage_exits_with_2(type_: Type, home: Path) -> None:
    for words in (
        ("nonsense",),
        ("keys", "creat"),
        ("keys", "create"),
        ("keys", "create", "--name", "a", "--rpm", "x"),
        ("keys", "edit", "ci"),
        ("keys", "list", "--limit", "0"),
        ("users", "create"),
        ("keys", "create", "--name", "a", "--metadata", "no-equals"),
    ):
        failed = type_(*words)
        assert failed.code == 2, words
        assert failed.out == ""
        assert failed.err.startswith("tollhouse: "), words
        as_json = type_(*words, "--json")
        assert (as_json.code, as_json.error["code"]) == (2, "usage"), words
        assert as_json.out == ""
    assert not home.exists()


def test_an_answered_400_is_wrong_usage_too(type_: Type, socket_desk: Desk) -> None:
    failed = type_("keys", "create", "--name", "a", "--budget", "20/fortnight")
    assert failed.code == 2
    assert "fortnight" in failed.err
    assert type_("keys", "list", "--json").json == {"items": []}


def test_help_loads_no_command(home: Path) -> None:
    watch = (
        "import sys; from tollhouse.cli import main; main(['--help']); print(sorted(set(sys.modules) & set(sys.argv)))"
    )
    heavy = ["httpx", "fastapi", "pydantic", "sqlalchemy", "uvicorn", "tollhouse.cli.keys", "tollhouse.settings"]
    environment = os.environ | {"PYTHONPATH": str(Path(tollhouse.__file__).parent.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", watch, *heavy], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"
    assert all(name in ran.stdout for name in COMMANDS)


@pytest.mark.parametrize("noun", ["keys", "users", "budgets", "usage", "doctor"])
def test_every_command_has_help_and_json(type_: Type, noun: str) -> None:
    shown = type_(noun, "--help")
    assert shown.code == 0
    if noun in ("usage", "doctor"):
        assert "--json" in shown.out
        return
    for command in import_module(f"tollhouse.cli.{noun}").app.registered_commands:
        assert "--json" in type_(noun, command.name, "--help").out, command.name

"""Teams, plans, roles and minted keys as they are typed where nothing runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tollhouse.cli import main
from tollhouse.rules.keys import is_well_formed

Type = Callable[..., str]


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    for name in [name for name in os.environ if name.startswith(("TOLLHOUSE_", "LITELLM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))

    def run(*words: str, code: int = 0) -> str:
        ended = main(words)
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.err

    return run


def told(type_: Type, *words: str) -> Any:
    return json.loads(type_(*words, "--json"))


def test_plans_are_made_changed_given_and_removed(type_: Type) -> None:
    made = told(
        type_,
        *("plans", "create", "free", "--description", "For all", "--rpm", "10", "--rpd", "100"),
        *("--budget", "1M tokens/month", "--budget", "5/month", "--max-tokens", "1k", "--models", "claude-*,gpt-*"),
    )
    assert (made["limits"]["requests_per_minute"], made["max_output_tokens"]) == (10, 1_000)
    assert [(one["limit"], one["unit"]) for one in made["budgets"]] == [("1000000", "tokens"), ("5", "usd")]
    told(type_, "plans", "create", "premium", "--own-key", "own_only", "--without-own-key", "free", "--edge", "refuse")
    edited = told(type_, "plans", "edit", "premium", "--without-own-key", "none", "--max-tokens", "none", "--rpm", "7")
    assert (edited["without_own_key"], edited["max_output_tokens"], edited["edge"]) == (None, None, "refuse")
    assert told(type_, "plans", "edit", "free", "--budget", "none")["budgets"] == []
    assert told(type_, "users", "create", "alice", "--plan", "free", "--role", "viewer")["plan_id"] == "free"
    assert "user alice" in type_("plans", "remove", "free", code=1)
    assert told(type_, "users", "edit", "alice", "--plan", "none")["plan_id"] is None
    told(type_, "plans", "remove", "free")
    assert [plan["plan_id"] for plan in told(type_, "plans", "list")["items"]] == ["premium"]
    assert "requests/min" in type_("plans", "list")
    assert "own_only" in type_("plans", "show", "premium")
    type_("plans", "edit", "premium", code=2)
    type_("plans", "edit", "premium", "--max-tokens", "many", code=2)


def test_teams_their_members_keys_and_budgets(type_: Type) -> None:
    told(type_, "plans", "create", "free")
    made = told(
        type_, "teams", "create", "red", "--name", "Red", "--budget", "100/month", "--plan", "free", "--rpm", "9"
    )
    assert (made["plan_id"], made["budgets"][0]["limit"], made["limits"]["requests_per_minute"]) == ("free", "100", 9)
    told(type_, "users", "create", "alice", "--team", "red")
    told(type_, "users", "create", "bob")
    assert told(type_, "teams", "add", "red", "bob", "--role", "admin")["role"] == "admin"
    shown = told(type_, "teams", "show", "red")
    assert {one["user_id"]: one["role"] for one in shown["members"]} == {"alice": "member", "bob": "admin"}
    assert "bob (admin)" in type_("teams", "show", "red")
    key = told(type_, "keys", "create", "--name", "ci", "--user", "bob", "--team", "red", "--plan", "free")
    assert (key["team_id"], key["plan_id"]) == ("red", "free")
    assert told(type_, "keys", "edit", "ci", "--plan", "none", "--team", "none")["team_id"] is None
    told(type_, "keys", "edit", "ci", "--team", "red")
    assert told(type_, "teams", "remove", "red", "bob")["revoked_keys"] == [key["key_id"]]
    assert told(type_, "teams", "block", "red")["status"] == "blocked"
    assert told(type_, "teams", "unblock", "red")["status"] == "active"
    assert told(type_, "teams", "edit", "red", "--plan", "none")["plan_id"] is None
    told(type_, "budgets", "set", "1M tokens/day", "--team", "red")
    assert len(told(type_, "budgets", "list", "--team", "red")["items"]) == 2
    assert told(type_, "usage", "--by", "team", "--team", "red")["rows"] == []
    assert "Red" in type_("teams", "list")
    assert "red" in type_("users", "list")


def test_a_minted_key_stands_alone_on_stdout(type_: Type) -> None:
    printed = type_("keys", "mint", "--ttl", "1h", "--user", "alice", "--models", "claude-*")
    assert is_well_formed(printed.removesuffix("\n"))
    assert told(type_, "keys", "list", "--user", "alice")["items"][0]["models"] == ["claude-*"]
    assert "user_id" in type_("keys", "mint", code=2)

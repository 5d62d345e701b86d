"""The audit trail as it is typed where nothing runs: what commands did, and whether the record of it is whole."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tollhouse.cli import main

Type = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def type_(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    for name in [name for name in os.environ if name.startswith(("TOLLHOUSE_", "LITELLM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLHOUSE_HOME", str(home))

    def run(*words: str, code: int = 0) -> str:
        ended = main(words)
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.out + printed.err

    return run


@pytest.fixture
def typed(type_: Type) -> Type:
    type_("users", "create", "alice", "--email", "alice@example.org", "--budget", "20/month")
    type_("users", "edit", "alice", "--name", "Alice")
    type_("users", "block", "alice")
    return type_


def told(type_: Type, *words: str, code: int = 0) -> Any:
    return json.loads(type_(*words, "--json", code=code).partition("\ntollhouse:")[0])


def tamper(home: Path, *statements: str) -> None:
    """As who may write to the file, and has read our migrations."""
    with closing(sqlite3.connect(home / "tollhouse.db")) as database:
        for trigger in ("audit_stays", "audit_remains"):
            database.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_what_was_done_is_listed_and_exported(typed: Type) -> None:
    listed = typed("audit", "list")
    assert "alice" in listed
    assert "command" in listed
    assert "name  → Alice" in " ".join(listed.split(" "))
    newest = told(typed, "audit", "list", "--limit", "2")["items"]
    assert [one["seq"] for one in newest] == [4, 3]
    assert [one["kind"] for one in told(typed, "audit", "list", "--object", "alice")["items"]] == ["user"] * 3
    assert told(typed, "audit", "list", "--actor", "alice")["items"] == []
    lines = [json.loads(line) for line in typed("audit", "export").splitlines()]
    assert [(one["seq"], one["kind"], one["act"]) for one in lines] == [
        (1, "user", "created"),
        (2, "budget", "created"),
        (3, "user", "changed"),
        (4, "user", "changed"),
    ]
    assert {(one["actor_kind"], one["way"], one["action"]) for one in lines} == {("operator", "command", "users:write")}


def test_a_whole_trail_is_said_to_be_whole(typed: Type, home: Path) -> None:
    assert "The audit trail is whole." in typed("audit", "verify")
    found = told(typed, "audit", "verify")
    assert (found["intact"], found["records"], found["faults"]) == (True, 4, [])
    assert found["head"] == found["anchor"] == (home / "audit-head").read_text().strip()
    typed("users", "unblock", "alice")
    assert told(typed, "audit", "verify", "--head", found["head"])["intact"]  # it grew since
    assert told(typed, "audit", "verify", "--from", found["head"])["records"] == 1
    assert "SEQ:HASH" in typed("audit", "verify", "--head", "4", code=2)


@pytest.mark.parametrize(
    ("statement", "at"),
    [
        ("UPDATE audit SET act = 'read' WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 4", 4),
    ],
)
def test_a_broken_one_is_told_with_the_place(typed: Type, home: Path, statement: str, at: int) -> None:
    tamper(home, statement)
    said = typed("audit", "verify", code=1)
    assert f"at {at}: " in said
    assert "The audit trail is broken" in said
    found = told(typed, "audit", "verify", code=1)
    assert found["intact"] is False
    assert found["faults"][0]["seq"] == at

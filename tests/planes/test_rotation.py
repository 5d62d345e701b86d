"""Master keys change while the gateway serves: nothing is lost, whatever is broken off."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.planes.control import MASTER_KEYS, Desk, open_desk
from tollhouse.app.notices import binding as webhook_binding
from tollhouse.controlplane.access import Caller
from tollhouse.storage import credentials as stored
from tollhouse.storage.schema import metadata
from tollhouse.storage.sealed import SEALED
from tollhouse.terms.errors import SettingsError
from tollhouse.terms.people import Role
from tollhouse.vault import Binding, MasterKeys, Vault, binding_of_content

ROOT = Path(__file__).resolve().parents[2]
VAULT = "/api/v1/vault"
TWO = MasterKeys({1: MASTER_KEYS[1], 2: b"2" * 32})
ONLY_TWO = MasterKeys({2: TWO[2]})


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    """Six credentials under master key 1; the keys are read anew from `plane.keys`."""
    opened = open_desk(location)
    for number in range(6):
        opened.make("/api/v1/credentials", provider="anthropic", secret=f"sk-ant-api03-number-{number}")
    yield opened
    opened.deps.database.close()


def reading(desk: Desk, keys: MasterKeys | SettingsError) -> Desk:
    def read() -> MasterKeys:
        if isinstance(keys, SettingsError):
            raise keys
        return keys

    return desk.with_deps(master_keys=read)


def secrets(desk: Desk) -> list[bytes]:
    """By the image that the data plane has."""
    return sorted(
        desk.deps.vault.unseal(one.sealed, Binding(one.org_id, one.credential_id, one.provider, one.host))
        for one in desk.plane.image.credentials
    )


def rewrap(desk: Desk, limit: int) -> list[Any]:
    answers, after = [], ""
    while after is not None:
        answers.append(desk.make(f"{VAULT}/rewrap", limit=limit, after=after))
        after = answers[-1]["after"]
    return answers


def test_all_comes_to_lie_under_the_newest_key_batch_by_batch(desk: Desk) -> None:
    before = secrets(desk)
    assert desk.get(VAULT) == {
        "ready": True,
        "current": 1,
        "versions": [{"version": 1, "configured": True, "records": 6, "opens": True}],
        "records": 6,
        "unopened": 0,
        "older": 0,
    }
    found = reading(desk, TWO).make(f"{VAULT}/reload")
    assert (found["current"], found["older"], found["unopened"]) == (2, 6, 0)
    answers = rewrap(desk, 4)
    assert [one["rewrapped"] for one in answers] == [4, 2, 0, 0]
    assert secrets(desk) == before
    found = reading(desk, ONLY_TWO).make(f"{VAULT}/reload")  # the old one may go now
    assert found["versions"] == [{"version": 2, "configured": True, "records": 6, "opens": True}]
    assert secrets(desk) == before
    assert sum(one["rewrapped"] for one in rewrap(desk, 100)) == 0


def test_a_key_in_use_is_not_taken_away_nor_exchanged(desk: Desk) -> None:
    before = secrets(desk)
    for keys, words in ((ONLY_TWO, "is not there any more"), (MasterKeys({1: b"x" * 32}), "is another key now")):
        problem = reading(desk, keys).problem(409, "POST", f"{VAULT}/reload")
        assert problem["code"] == "master_key_in_use"
        assert words in problem["detail"]
        assert "6 stored secrets" in problem["detail"]
    unreadable = reading(desk, SettingsError("vault.master_keys: cannot read /x"))
    assert unreadable.problem(409, "POST", f"{VAULT}/reload")["code"] == "master_keys_unreadable"
    assert secrets(desk) == before
    assert desk.get(VAULT)["current"] == 1


def test_what_does_not_open_is_counted_and_named(desk: Desk) -> None:
    lost = desk.with_deps(vault=Vault(ONLY_TWO))
    found = lost.get(VAULT)
    assert (found["unopened"], found["older"]) == (6, 0)
    assert found["versions"][0] == {"version": 1, "configured": False, "records": 6, "opens": False}
    (first, *_) = rewrap(lost, 10)
    assert (first["rewrapped"], len(first["not_opened"])) == (0, 6)
    assert "master key 1, which is not configured" in first["not_opened"][0]["reason"]
    another = desk.with_deps(vault=Vault(MasterKeys({1: b"x" * 32})))
    assert another.get(VAULT)["unopened"] == 6  # the number alone does not make it the key
    bare = desk.with_deps(vault=Vault())
    assert bare.get(VAULT)["current"] is None
    assert bare.problem(409, "POST", f"{VAULT}/rewrap")["code"] == "no_master_key"


def test_one_that_changes_meanwhile_is_not_put_back(desk: Desk) -> None:
    table = SEALED[0]

    def change(connection: Any) -> bool:
        row, *_ = table.some(connection, version=1, limit=1)
        stored.reseal(connection, row.row_id, b"replaced by its user", sealed_under=1)
        return table.reseal(connection, row, b"wrapped anew", sealed_under=2)

    assert desk.deps.database.run_sync(change) is False


def test_only_an_owner_rotates(desk: Desk) -> None:
    for role, status in ((Role.ADMIN, 403), (Role.MEMBER, 403), (Role.OWNER, 200)):
        caller = Caller(role, "somebody")
        assert desk.ask("POST", f"{VAULT}/reload", caller=caller).status_code == status
        assert desk.ask("POST", f"{VAULT}/rewrap", {}, caller=caller).status_code == status
    assert desk.problem(400, "POST", f"{VAULT}/rewrap", {"after": "nothing"})["field"] == "after"


def test_every_table_of_envelopes_is_wrapped_anew() -> None:
    """A new table with the columns must be in the registry, or its secrets would be lost with the old key."""
    holding = {name for name, table in metadata.tables.items() if "sealed_under" in table.columns}
    assert holding == {table.name for table in SEALED}
    assert all("sealed" in metadata.tables[name].columns for name in holding)


def test_envelopes_are_bound_to_what_their_makers_say() -> None:
    told = {table.noun: table for table in SEALED}
    row = SimpleNamespace(org_id="org", request_id="req_1", webhook_id="hook_1")
    assert Binding(*told["content"].bound(row)) == binding_of_content("org", "req_1")
    assert Binding(*told["webhook"].bound(row)) == webhook_binding("hook_1")


def test_kills_in_the_middle_lose_nothing() -> None:
    """The whole of it with 10,000 keys: `python -m tests.planes.rotation`."""
    command = [
        sys.executable,
        "-m",
        "tests.planes.rotation",
        "--keys",
        "200",
        "--batch",
        "5",
        "--caught",
        "3",
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["unreadable"], figures["troubles"]) == (0, 0)
    assert figures["caught"] >= 2

"""The audit trail against who may write into the database: whatever they change is found, and where."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from tests.planes.control import SECRET, START_NS, Desk, open_desk
from tollhouse.rules import audit as rules
from tollhouse.rules.audit import GENESIS, chain_key, in_ranges, parse_head, ranges_text
from tollhouse.storage import directory
from tollhouse.storage.acting import acting
from tollhouse.storage.anchor import Anchor
from tollhouse.storage.audit import head_fault, list_records, verify_part
from tollhouse.storage.audit_tables import TRIGGERS, audit, audit_subjects
from tollhouse.storage.database import Database
from tollhouse.storage.trail import Trail, event, forget_subject
from tollhouse.storage.watch import Event
from tollhouse.terms.audit import AuditFault, Author, Head
from tollhouse.terms.errors import StorageError
from tollhouse.terms.people import User

KEY = chain_key(SECRET)
BOSS = Author("user", "boss", "session", "192.0.2.7", "Firefox", "users:write", "mgmt_1")


class Undone(Exception):
    """Ends a transaction that is to leave nothing."""


def faults(connection: Connection, *, after: Head = GENESIS, head: Head | None = None, limit: int = 6) -> list[Any]:
    """All of them, in small parts."""
    found: list[AuditFault] = []
    where: Head | None = after
    while where is not None:
        part = verify_part(connection, KEY, where, limit)
        found += part.faults
        where = part.next
    missing = None if head is None else head_fault(connection, head, "the anchor")
    return [*found, *([missing] if missing else [])]


def fill(desk: Desk) -> None:
    """Some twenty records of some people, one of whom is erased; one act without a change, one by nobody."""
    run = desk.deps.database.run_sync
    with acting(BOSS):
        desk.make("/api/v1/plans", plan_id="free", budgets=["1M tokens/month"])
        for name in ("ann", "bob", "carl"):
            desk.make("/api/v1/users", user_id=name, email=f"{name}@example.org", metadata={"of": name}, budget="5/day")
            key = desk.make("/api/v1/keys", user_id=name, name=f"{name}'s laptop")
        desk.ask("PATCH", "/api/v1/users/bob", {"name": "Bob"})
        desk.ask("DELETE", f"/api/v1/keys/{key['key_id']}")
        run(lambda connection: forget_subject(connection, "ann"))
        desk.ask("PATCH", "/api/v1/users/bob", {"name": "Robert"})
    run(lambda connection: event(connection, Event("refused", "sign-in", "bob", {"because": "password"})))


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened
    opened.deps.database.close()


def without_triggers(connection: Connection) -> None:
    """As who owns the database may."""
    for table in ("audit", "audit_subjects"):
        for statement in TRIGGERS[connection.dialect.name][table]:
            words = statement.split()
            if words[1] == "TRIGGER":
                of = f" ON {table}" if connection.dialect.name == "postgresql" else ""
                connection.execute(text(f"DROP TRIGGER {words[2]}{of}"))


@pytest.fixture
def filled(desk: Desk) -> Iterator[Desk]:
    fill(desk)
    run = desk.deps.database.run_sync
    run(without_triggers)
    assert run(faults) == []
    yield desk
    made = [one for of in TRIGGERS[desk.deps.database.kind].values() for one in of if "CREATE TRIGGER" in one]
    run(lambda connection: [connection.execute(text(one)) for one in made] and None)  # others use this database


def rows(connection: Connection, table: Any, order: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(select(table).order_by(order))]


def other(value: Any, chance: Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, int):
        return value + chance.choice((1, -1, 1000))
    if isinstance(value, bytes | memoryview):
        return bytes(value)[:-1] + bytes([bytes(value)[-1] ^ 1]) if value else b"salt"
    if value is None:
        return b"x"
    return chance.choice([one for one in (value + "x", value[:-1], "", "=boss") if one != value])


RECORDS = ("edit", "remove", "swap", "insert", "renumber")
SUBJECTS = ("edit", "remove", "swap", "insert")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.integers().map(Random))
def test_any_change_of_a_record_is_found_and_located(filled: Desk, chance: Random) -> None:
    run, head = filled.deps.database.run_sync, filled.deps.trail.head if filled.deps.trail else GENESIS

    def tamper(connection: Connection) -> int:
        """The number at which it must be found."""
        there = rows(connection, audit, audit.c.seq)
        one = chance.choice(there)
        seq = one["seq"]
        of_one = audit.c.seq == seq
        match chance.choice(RECORDS):
            case "edit":
                name = chance.choice([name for name in one if name != "seq"])
                connection.execute(update(audit).where(of_one).values({name: other(one[name], chance)}))
            case "remove":
                connection.execute(delete(audit).where(of_one))
            case "swap":
                two = chance.choice([row for row in there if row["seq"] != seq])
                connection.execute(delete(audit).where(audit.c.seq.in_((seq, two["seq"]))))
                swapped = [{**one, "seq": two["seq"]}, {**two, "seq": seq}]
                connection.execute(insert(audit), swapped)
                return int(min(seq, two["seq"]))
            case "insert":
                place = chance.choice((len(there) + 1, 0, -5))
                connection.execute(insert(audit).values({**one, "seq": place}))
                return place
            case _:
                connection.execute(update(audit).where(of_one).values(seq=seq + 10_000))
        return int(seq)

    def act(connection: Connection) -> None:
        at = tamper(connection)
        found = faults(connection, head=head, limit=chance.randint(1, 40))
        assert found, f"not found: {at}"
        # Without the record that tells of an erasure, what was erased looks emptied by hand: that is told, too.
        of_records = [one.seq for one in found if not one.what.startswith("reference")]
        assert of_records[0] == at or (at == head.seq and of_records[0] == at - 1), (at, found)
        raise Undone

    with pytest.raises(Undone):
        run(act)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.integers().map(Random))
def test_any_change_beside_the_chain_is_found_and_located(filled: Desk, chance: Random) -> None:
    def tamper(connection: Connection) -> int:
        there = rows(connection, audit_subjects, audit_subjects.c.ref)
        one = chance.choice(there)
        of_one = audit_subjects.c.ref == one["ref"]
        match chance.choice(SUBJECTS):
            case "edit":
                name = chance.choice([name for name in one if name not in ("ref", "what")])
                connection.execute(update(audit_subjects).where(of_one).values({name: other(one[name], chance)}))
            case "remove":
                connection.execute(delete(audit_subjects).where(of_one))
            case "swap":
                two = chance.choice([row for row in there if row["ref"] != one["ref"] and row["salt"]])
                changed = {name: two[name] for name in two if name != "ref"}
                connection.execute(update(audit_subjects).where(of_one).values(changed))
            case _:
                ref = chance.choice((len(there) + 1, 0))
                connection.execute(insert(audit_subjects).values({**one, "ref": ref}))
                return int(ref)
        return int(one["ref"])

    def act(connection: Connection) -> None:
        ref = tamper(connection)
        found = faults(connection, limit=chance.randint(1, 40))
        assert found, f"not found: {ref}"
        assert all(f"reference {ref}" in one.what for one in found), (ref, found)
        raise Undone

    with pytest.raises(Undone):
        filled.deps.database.run_sync(act)


def test_emptying_somebody_without_a_record_is_found(filled: Desk) -> None:
    """By hand it looks like erasing, but for the record that says so."""

    def act(connection: Connection) -> None:
        empty = {"value": "", "salt": b"", "about": "", "lookup": None}
        erased = connection.execute(select(func.max(audit_subjects.c.erased))).scalar_one()
        for said in (0, 3, erased):
            of_bob = audit_subjects.c.about == "bob"
            refs = list(connection.scalars(select(audit_subjects.c.ref).where(of_bob)))
            before = rows(connection, audit_subjects, audit_subjects.c.ref)
            connection.execute(update(audit_subjects).where(of_bob).values({**empty, "erased": said}))
            assert {one.what.split()[1].rstrip(",") for one in faults(connection)} == set(map(str, refs))
            connection.execute(delete(audit_subjects))
            connection.execute(insert(audit_subjects), before)
        raise Undone

    with pytest.raises(Undone):
        filled.deps.database.run_sync(act)


def test_a_part_that_is_trusted_is_not_verified_again(filled: Desk) -> None:
    def act(connection: Connection) -> None:
        there = rows(connection, audit, audit.c.seq)
        fifth = Head(5, bytes(there[4]["hash"]))
        connection.execute(update(audit).where(audit.c.seq == 3).values(act="nothing"))
        assert [one.seq for one in faults(connection)] == [3]
        assert faults(connection, after=fifth) == []
        assert "is another one" in faults(connection, after=Head(5, bytes(32)))[0].what
        assert "is not there" in faults(connection, after=Head(5_000, bytes(32)))[0].what
        raise Undone

    with pytest.raises(Undone):
        filled.deps.database.run_sync(act)


def test_another_secret_makes_another_chain(filled: Desk) -> None:
    part = filled.deps.database.run_sync(lambda connection: verify_part(connection, b"another key", GENESIS, 1_000))
    assert len(part.faults) == part.records > 10


def test_the_database_itself_refuses(desk: Desk) -> None:
    fill(desk)
    for statement in (
        "UPDATE audit SET act = 'x' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 1",
        "DELETE FROM audit_subjects WHERE ref = 1",
        "UPDATE audit_subjects SET value = 'x' WHERE ref = 1",
        "UPDATE audit_subjects SET ref = 9999 WHERE ref = 1",
    ):
        with pytest.raises(IntegrityError, match="never changed"):
            desk.deps.database.run_sync(lambda connection, one=statement: connection.execute(text(one)).rowcount)
    assert desk.deps.database.run_sync(faults) == []


# Erasing


def everything(connection: Connection) -> str:
    """All that stands in both tables."""
    return str([rows(connection, audit, audit.c.seq), rows(connection, audit_subjects, audit_subjects.c.ref)])


def test_who_is_erased_is_nowhere_and_the_chain_is_whole(desk: Desk) -> None:
    run = desk.deps.database.run_sync
    eve = Author("user", "eve-the-user", "session", "198.51.100.77", "EveBrowser", "keys:write", "mgmt_2")
    desk.make("/api/v1/invitations", email="eve@example.org")  # of nobody yet
    desk.make("/api/v1/users", user_id="eve-the-user", email="eve@example.org", name="Eve X", metadata={"id": "123-45"})
    with acting(eve):
        run(lambda connection: directory.create_user(connection, User("made-by-eve")))
    words = ("eve-the-user", "eve@example.org", "Eve X", "123-45", "198.51.100.77", "EveBrowser")
    assert all(word in run(everything) for word in words)

    def erase(connection: Connection) -> None:
        user = directory.get_user(connection, "eve-the-user")
        assert user is not None
        forget_subject(connection, "eve-the-user")
        # What this very transaction changes is told without the old values too.
        directory.update_user(connection, msgspec.structs.replace(user, name="", email="", metadata={}))

    with acting(BOSS):
        run(erase)
    left = run(everything)
    assert [word for word in words if word in left] == []
    assert run(faults) == []
    assert "made-by-eve" in left
    assert "boss" in left
    told = desk.get("/api/v1/audit")["items"]
    assert [one["act"] for one in told[:2]] == ["changed", "erased"]
    assert told[0]["object"] == "(erased)"
    with acting(eve):  # who comes back is somebody else
        run(lambda connection: directory.create_user(connection, User("again")))
    assert run(faults) == []


def test_the_commitments_of_who_is_erased_say_nothing(desk: Desk) -> None:
    """With everything that is left, secret and all, a guess cannot be checked."""
    run = desk.deps.database.run_sync
    desk.make("/api/v1/users", user_id="ann")
    run(lambda connection: forget_subject(connection, "ann"))
    left = run(lambda connection: rows(connection, audit_subjects, audit_subjects.c.ref))
    committed = [at for record in run(_records) for _, at in rules.mentions(record)]
    salts, whose = (b"", SECRET, KEY), itertools.product(("user", "name"), ("", "ann"))
    guesses = [rules.commitment(salt, what, about, "ann") for what, about in whose for salt in salts]
    assert committed
    assert not set(guesses) & set(committed)
    assert all(not row["salt"] and row["lookup"] is None for row in left if row["erased"])


def _records(connection: Connection) -> Any:
    return list_records(connection, limit=1_000)


# The end of the trail


def trail_of(place: Path) -> tuple[Database, Trail]:
    database = Database.open(place / "x.db")
    trail = Trail(SECRET, Anchor(place / "audit-head"), lambda: START_NS, os.urandom)
    database.recorded_by(trail)
    database.run_sync(trail.open)
    return database, trail


def make_users(database: Database, *names: str) -> None:
    for name in names:
        database.run_sync(lambda connection, name=name: directory.create_user(connection, User(name)))


def test_the_head_is_left_beside_the_database(tmp_path: Path) -> None:
    database, trail = trail_of(tmp_path)
    path = tmp_path / "audit-head"
    assert parse_head(path.read_text()) == GENESIS
    make_users(database, "ann", "bob")
    assert parse_head(path.read_text()) == trail.head != GENESIS
    assert trail.head.seq == 2
    assert path.stat().st_mode & 0o777 == 0o600
    database.run_sync(lambda connection: connection.execute(text("SELECT 1")).all())  # what changes nothing
    assert trail.head.seq == 2
    database.close()


@pytest.mark.parametrize("behind", [0, 1, 3])
def test_a_head_that_is_behind_is_one_after_a_crash(tmp_path: Path, behind: int) -> None:
    database, trail = trail_of(tmp_path)
    heads = [GENESIS]
    for name in ("ann", "bob", "carl"):
        make_users(database, name)
        heads.append(trail.head)
    Anchor(tmp_path / "audit-head").write(heads[3 - behind])
    database.close()
    database, trail = trail_of(tmp_path)
    assert trail.trouble == ""
    assert trail.head.seq == 3
    assert database.run_sync(faults) == []
    database.close()


def cut(connection: Connection) -> None:
    without_triggers(connection)
    last = connection.execute(select(func.max(audit.c.seq))).scalar_one()
    connection.execute(delete(audit).where(audit.c.seq == last))


def anew(connection: Connection) -> None:
    without_triggers(connection)
    connection.execute(delete(audit))
    connection.execute(delete(audit_subjects))


@pytest.mark.parametrize("how", [cut, anew])
@pytest.mark.parametrize("running", [True, False])
def test_an_end_that_was_cut_off_is_told_for_ever(
    tmp_path: Path, how: Callable[[Connection], None], running: bool
) -> None:
    """While the gateway runs, and while it does not; also after records were added and the head was left anew."""
    database, _ = trail_of(tmp_path)
    make_users(database, "ann", "bob", "carl")
    database.run_sync(how)
    if not running:
        database.close()
        database, _ = trail_of(tmp_path)
    make_users(database, "dora", "emil")
    found = database.run_sync(faults)
    assert len(found) >= 1
    assert any("another end" in one.what for one in found)
    database.close()
    database, trail = trail_of(tmp_path)
    assert trail.trouble == ""  # said once
    assert any("another end" in one.what for one in database.run_sync(faults))
    database.close()


@pytest.mark.parametrize("left", [None, b"", b"7", b"1:zz\n"])
def test_a_head_that_is_lost_is_told(tmp_path: Path, left: bytes | None) -> None:
    database, _ = trail_of(tmp_path)
    make_users(database, "ann")
    database.close()
    path = tmp_path / "audit-head"
    path.unlink() if left is None else path.write_bytes(left)
    database, trail = trail_of(tmp_path)
    assert "does not end as it was left" in trail.trouble
    assert any("audit-head" in one.what for one in database.run_sync(faults))
    database.close()


KILLED = """
import sys
from pathlib import Path
from random import Random
from tests.planes.test_audit_chain import make_users, trail_of
from tollhouse.storage.anchor import Anchor

write = Anchor.write
def write_and_tell(self, head):
    if head.seq == 3:
        print("committed", flush=True)
        sys.stdin.read()
    write(self, head)
Anchor.write = write_and_tell
database, _ = trail_of(Path(sys.argv[1]))
make_users(database, "ann", "bob", "carl")
"""


def test_a_kill_between_commit_and_head_leaves_the_trail_whole(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"committed\n"
        os.kill(child.pid, signal.SIGKILL)
    left = Anchor(tmp_path / "audit-head").read()
    assert left is not None
    assert left.seq == 2
    database, trail = trail_of(tmp_path)
    assert (trail.head.seq, trail.trouble) == (3, "")
    assert database.run_sync(faults) == []
    make_users(database, "dora")
    assert parse_head((tmp_path / "audit-head").read_text()).seq == 4
    database.close()


# Writing


def test_a_change_and_its_record_are_both_there_or_neither(tmp_path: Path) -> None:
    database, trail = trail_of(tmp_path)

    def fails(connection: Connection) -> None:
        directory.create_user(connection, User("ann"))
        raise Undone

    with pytest.raises(Undone):
        database.run_sync(fails)
    assert trail.head == GENESIS
    stop = "CREATE TRIGGER stop BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END"
    database.run_sync(lambda connection: connection.execute(text(stop)).rowcount)
    with pytest.raises(IntegrityError, match="no room"):
        make_users(database, "ann")
    assert database.run_sync(lambda connection: directory.get_user(connection, "ann")) is None
    assert trail.head == GENESIS
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        lambda table: insert(table).from_select(["user_id"], select(table.c.user_id)),
        lambda table: update(table).where(table.c.user_id == text(":id")),
    ],
)
def test_a_statement_that_would_leave_no_record_is_refused(tmp_path: Path, statement: Any) -> None:
    database, _ = trail_of(tmp_path)
    table = directory.users
    with pytest.raises(StorageError, match="no record in the audit trail"):
        database.run_sync(lambda connection: connection.execute(statement(table), [{"id": "a"}, {"id": "b"}]).rowcount)
    database.close()


def test_changes_from_many_threads_make_one_chain(desk: Desk) -> None:
    database = desk.deps.database

    def work(name: str) -> None:
        with acting(Author("user", name, "session", "", "", "users:write", name)):
            make_users(database, *(f"{name}-{number}" for number in range(5)))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert database.run_sync(faults) == []
    told = desk.get("/api/v1/audit?limit=500&act=created")["items"]
    assert len(told) == 30
    assert all(one["object"].startswith(f"{one['actor']}-") for one in told)


@given(st.sets(st.integers(1, 60)))
def test_ranges_hold_exactly_their_numbers(refs: set[int]) -> None:
    said = ranges_text(refs)
    assert {ref for ref in range(70) if in_ranges(ref, said)} == refs


@pytest.mark.parametrize("wrong", ["", "1", "1:", "x:00", f"-1:{'0' * 64}", f"1:{'0' * 62}", "1:" + "z" * 64])
def test_what_is_no_head_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="SEQ:HASH"):
        parse_head(wrong)

"""Erasing a user: nothing personal is left, no sum changes, and it may be broken off anywhere."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, insert, inspect, select, text

from tests.planes.control import START_NS, Desk, open_desk, settled
from tests.planes.records import T0_NS, hold, settle
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.credential_terms import CredentialOptions
from tollhouse.rules.plans import budgets_of
from tollhouse.rules.thresholds import notice_of
from tollhouse.storage import captures, directory, erasing, passwords, sessions
from tollhouse.storage.captures import Capture
from tollhouse.storage.database import Database
from tollhouse.storage.invitations import Invitation, add_invitation
from tollhouse.storage.ledger import recount, ship, usage
from tollhouse.storage.notice_tables import notices
from tollhouse.storage.notices import record
from tollhouse.storage.passwords import Identity, Password
from tollhouse.storage.requests import list_requests
from tollhouse.storage.rows import encode
from tollhouse.storage.schema import metadata
from tollhouse.storage.tables import budget_windows
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow, KeySecret, Plan, PlanBudget, Role, User, VirtualKey
from tollhouse.terms.sessions import Session
from tollhouse.terms.webhooks import RecordedNotice

USERS = "/api/v1/users"
AWKWARD = ("MARK-alice", "MARK@user:bob", "MARK%_'\"é")
PLAN = Plan(
    "free",
    budgets=tuple(PlanBudget(10**12, unit, window) for unit in BudgetUnit for window in (BudgetWindow.DAY, "total")),
)


def everything(connection: Connection) -> str:
    """All rows of all tables."""
    names = inspect(connection).get_table_names()
    quoted = connection.dialect.identifier_preparer.quote
    rows = itertools.chain.from_iterable(connection.execute(text(f"SELECT * FROM {quoted(name)}")) for name in names)
    return "\n".join(repr(tuple(row)) for row in rows)


def sums(connection: Connection) -> dict[str, Any]:
    """All that may not change: by day, model and team, in all, and what is posted."""
    by = {name: usage(connection, name) for name in ("day", "model", "team")}  # type: ignore[arg-type]
    posted: Counter[Any] = Counter()
    for row in connection.execute(select(budget_windows)):
        posted[row.budget_id.partition("@")[0], row.window_start_s] += row.posted
    return {**by, "posted": posted}


def history(connection: Connection, dice: random.Random, user_id: str, other: str) -> None:
    """Calls of two users under a plan, a budget of their own and the organisation's; refused ones too."""
    directory.create_budget(connection, Budget("bud_org", ScopeKind.ORGANISATION, "default", 10**12))
    for one in (user_id, other):
        key_id = f"key_{'b' if one == other else 'a'}"
        directory.create_user(connection, User(one, name=f"name of {one}", plan_id="free", team_id="red"))
        directory.create_key(connection, VirtualKey(key_id, one, name="MARK"), KeySecret(one.encode(), key_id))
        directory.create_budget(connection, Budget(f"bud_{key_id}", ScopeKind.USER, one, 10**12))
    calls = []
    for number in range(1, 40):
        one = dice.choice((user_id, user_id, other))
        given = [budget.budget_id for budget in budgets_of(PLAN, ScopeKind.USER, one, "UTC")]
        key_id = f"key_{'b' if one == other else 'a'}"
        ids = ["bud_org", f"bud_{key_id}", *dice.sample(given, dice.randint(0, len(given)))]
        windows = tuple((budget_id, 60 * dice.randint(0, 2)) for budget_id in ids)
        held = hold(
            number,
            user_id=one,
            key_id=key_id,
            budgets=windows,
            session="MARK-session",
            end_user="MARK-end",
            client="MARK-client",
            team_id=dice.choice(("red", "")),
            upstream_model=dice.choice(("a", "b")),
            at_ns=T0_NS + dice.randint(0, 3) * 86_400 * 10**9,
        )
        kind = dice.choice((SettleKind.EXACT, SettleKind.UPPER, SettleKind.VOIDED))
        amount = 0 if kind is SettleKind.VOIDED else dice.randint(0, 10**9)
        calls.append(Settlement(held, settle(number, kind=kind, amount_nusd=amount, tokens=dice.randint(0, 999))))
    refused = [
        Refused(f"req_none_{number}", T0_NS, "default", user_id, "key_1", "messages", "m", 402, "no", 1, "MARK-client")
        for number in range(5)
    ]
    ship(connection, calls, refused)


@pytest.mark.parametrize("seed", range(3))
def test_no_sum_changes_wherever_it_is_broken_off(database: Database, seed: int) -> None:
    """At every commit what is posted is the sum of its entries; in the end the id is nowhere."""
    dice = random.Random(seed)
    user_id = AWKWARD[seed]
    database.run_sync(lambda connection: history(connection, dice, user_id, "somebody else"))
    before = database.run_sync(sums)
    assert before["posted"]
    user = database.run_sync(lambda connection: directory.get_user(connection, user_id))
    assert user is not None
    erasure = database.run_sync(lambda connection: erasing.begin(connection, user, "erased_1", T0_NS * 2))
    for _ in range(1_000):
        (erasure,) = database.run_sync(lambda connection: erasing.unfinished(connection, user_id))
        assert database.run_sync(sums) == before
        assert database.run_sync(recount) == 0
        size = dice.randint(1, 15)
        if not database.run_sync(partial(erasing.rename_some, erasure=erasure, limit=size)):
            break
    assert asyncio.run(erasing.complete_all(database)) == 1
    assert database.run_sync(sums) == before
    assert database.run_sync(recount) == 0
    assert database.run_sync(sums) == before
    left = database.run_sync(everything)
    assert user_id not in left
    assert repr(user_id)[1:-1] not in left
    assert left.count("MARK-session") == left.count("MARK-end") > 0  # the other's
    rows = database.run_sync(lambda connection: list_requests(connection, user_id="erased_1", limit=500))
    assert {(row.session, row.end_user, row.client) for row in rows} == {("", "", "")}
    assert asyncio.run(erasing.complete_all(database)) == 0


def test_whoever_comes_anew_under_the_id_keeps_their_own(database: Database) -> None:
    dice = random.Random(9)
    database.run_sync(lambda connection: history(connection, dice, "alice", "bob"))

    def act(connection: Connection) -> None:
        user = directory.get_user(connection, "alice")
        assert user is not None
        erasing.begin(connection, user, "erased_1", T0_NS * 2)
        directory.create_user(connection, User("alice", plan_id="free"))
        windows = (("plan:usd:day:free@user:alice", 60),)
        again = hold(999, at_ns=T0_NS * 2 + 1, budgets=windows, session="new")
        ship(connection, [Settlement(again, settle(999, amount_nusd=77))])

    database.run_sync(act)
    asyncio.run(erasing.complete_all(database))
    (row,) = database.run_sync(lambda connection: list_requests(connection, user_id="alice"))
    assert (row.session, row.amount_nusd) == ("new", 77)
    assert database.run_sync(recount) == 0


# Over the management API


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened
    opened.deps.database.close()


ALICE = "MARK-alice/é"
PATH = f"{USERS}/MARK-alice%2F%C3%A9"


def furnish(desk: Desk) -> dict[str, Any]:
    """A user of whom there is something in every table that can hold it; a key of theirs."""
    desk.make("/api/v1/teams", team_id="red")
    desk.make("/api/v1/plans", plan_id="free", budgets=["1M tokens/month"])
    email = "MARK@example.org"
    made = {"name": "MARK", "email": email, "metadata": {"a": "MARK"}, "team_id": "red", "plan_id": "free"}
    desk.make(USERS, user_id=ALICE, budget="5/day", **made)
    key = desk.make("/api/v1/keys", user_id=ALICE, name="MARK", metadata={"a": "MARK"})
    window = (f"plan:tokens:month:free@user:{ALICE}", 60)
    call = settled("req_1", key, budgets=(window,), team_id="red", client="MARK")
    call = msgspec.structs.replace(call, hold=msgspec.structs.replace(call.hold, session="MARK", end_user="MARK"))

    def write(connection: Connection) -> None:
        ship(connection, [call])
        passwords.put_password(connection, Password(email.lower(), ALICE, "hash MARK", True, 1))
        passwords.put_identity(connection, Identity("https://idp", "MARK", ALICE, email, 1, 1))
        session = Session("ses_1", ALICE, "", 1, 1, START_NS * 2, START_NS * 2, "MARK", "MARK")
        sessions.add_session(connection, b"digest", session)
        for number, (to, by) in enumerate(((email, ""), ("bob@example.org", ALICE))):
            digest, name = b"%d" % number, f"inv_{number}"
            add_invitation(connection, Invitation(name, digest, to, Role.MEMBER, by, 1, START_NS * 2))
        row = Capture("req_1", "default", ALICE, key["key_id"], 1, START_NS * 2, 1, False, 1, False, b"MARK", 1)
        captures.keep(connection, [row])
        told = {"subject": f"user {ALICE}", "text": f"MARK of {ALICE}", "data": encode({"user_id": ALICE})}
        connection.execute(insert(notices).values(notice_id="n1", kind="test", once=f"x@{ALICE}", at_ns=1, **told))
        of_key = {"subject": f"key {key['key_id']}", "text": "MARK", "data": "{}"}
        connection.execute(insert(notices).values(notice_id="n2", kind="test", at_ns=1, **of_key))
        budget = Budget("bud_1", ScopeKind.KEY, key["key_id"], 10**9, scope_name="MARK's laptop")
        spent = notice_of(budget, 0, None, 10**9, 80)
        assert "MARK's laptop" in spent.text
        record(connection, [RecordedNotice("n3", spent)], (), max_pending=1)

    desk.deps.database.run_sync(write)
    return dict(key)


def test_nothing_personal_is_left(desk: Desk) -> None:
    key = furnish(desk)
    database = desk.deps.database
    usual = database.run_sync(everything)
    assert usual.count("MARK") > 15
    before = desk.get("/api/v1/usage?by=model")
    erased = desk.make(f"{PATH}/erase")
    assert erased["user_id"].startswith("erased_")
    assert (erased["status"], erased["name"], erased["email"], erased["metadata"]) == ("erased", "", "", {})
    assert [one["team_id"] for one in erased["teams"]] == ["red"]
    assert [one["limit"] for one in erased["budgets"]] == ["5.00"] or erased["budgets"][0]["limit"].startswith("5")
    left = database.run_sync(everything)
    assert "MARK" not in left.replace("bob@", "")
    assert desk.get("/api/v1/usage?by=model") == before
    assert desk.get("/api/v1/usage")["rows"][0]["group"] == erased["user_id"]
    assert database.run_sync(recount) == 0
    desk.problem(401, "GET", "/api/v1/me", bearer=key["key"])
    assert desk.get(f"/api/v1/keys/{key['key_id']}")["status"] == "revoked"
    desk.problem(404, "GET", PATH)
    desk.problem(404, "POST", f"{PATH}/erase")
    nobody = f"{USERS}/{erased['user_id']}"
    for verb in ("unblock", "block", "erase"):
        assert desk.problem(409, "POST", f"{nobody}/{verb}")["code"] == "user_erased"
    assert desk.problem(409, "PATCH", nobody, {"name": "x"})["code"] == "user_erased"
    anew = desk.make(USERS, user_id=ALICE)
    assert (anew["name"], anew["budgets"], desk.get(f"/api/v1/usage?user={PATH.rpartition('/')[2]}")["rows"]) == (
        "",
        [],
        [],
    )


def test_only_owners_erase_and_never_the_last_one(desk: Desk) -> None:
    desk.make(USERS, user_id="alice")
    desk.make(USERS, user_id="own", role="owner")
    path = f"{USERS}/alice/erase"
    for role in (Role.ADMIN, Role.MEMBER, Role.VIEWER):
        desk.problem(403, "POST", path, caller=Caller(role, "alice"))
    assert desk.problem(409, "POST", f"{USERS}/own/erase")["code"] == "last_owner"
    stale = desk.problem(412, "POST", path, headers={"if-match": '"another"'})
    assert stale["code"] == "changed_meanwhile"
    tag = desk.ask("GET", f"{USERS}/alice").headers["etag"]
    assert desk.ask("POST", path, headers={"if-match": tag}).status_code == 200


def test_what_cannot_be_completed_now_is_when_it_is_asked_again(desk: Desk) -> None:
    furnish(desk)
    asked: list[tuple[str, int]] = []

    async def busy(user_id: str, before_ns: int) -> bool:
        asked.append((user_id, before_ns))
        return len(asked) > 1

    desk = desk.with_deps(quiet=busy)
    refused = desk.problem(503, "POST", f"{PATH}/erase")
    assert refused["code"] == "erasure_unfinished"
    assert "calls of theirs" in refused["detail"]
    desk.problem(404, "GET", PATH)  # who they were is gone already
    assert "MARK" in desk.deps.database.run_sync(everything)
    assert desk.make(f"{PATH}/erase")["status"] == "erased"
    assert "MARK" not in desk.deps.database.run_sync(everything).replace("bob@", "")
    assert asked == [(ALICE, START_NS)] * 2


def test_the_file_does_not_hold_the_id_either(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    furnish(desk)
    assert b"MARK" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    desk.make(f"{PATH}/erase")
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    desk.deps.database.close()
    assert b"MARK" not in raw
    assert b"bob@example.org" in raw


def test_every_column_that_names_users_is_known_here() -> None:
    """Who adds one says in `storage.erasing` what becomes of it, then here."""
    named = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.endswith(("user_id", "_by", "scope_id", "subject", "about", "email", "user"))
    }
    assert named == {
        *("users.user_id", "users.email", "virtual_keys.user_id", "memberships.user_id", "budgets.scope_id"),
        *("passwords.user_id", "passwords.email", "identities.user_id", "identities.email", "identities.subject"),
        *("provisions.user_id", "sessions.user_id", "invitations.user_id", "invitations.email"),
        *("invitations.invited_by", "credentials.user_id", "credentials.created_by", "credential_users.user_id"),
        *("webhooks.created_by", "notices.subject", "captures.user_id", "erasures.user_id"),
        *("ledger.user_id", "ledger.end_user", "requests.user_id", "requests.end_user"),
        "audit_subjects.about",  # `trail.forget_subject`
        "sign_in_failures.subject",  # a keyed hash of what was typed, soon forgotten
        # Names of files:
        *(f"{table}.owned_by" for table in ("plans", "teams", "users", "virtual_keys", "budgets", "providers")),
    }


def test_what_was_stored_of_their_own_key_is_not_left_in_the_trail(desk: Desk) -> None:
    """Where their endpoint is, and what would show that somebody who comes later has the same key."""
    desk = desk.with_deps(credentials=CredentialOptions(own_base_urls=True))
    desk.make(USERS, user_id="alice")
    body = {"provider": "anthropic", "user_id": "alice", "secret": "sk-ant-api03-0123456789-MARK", "name": "MARK"}
    made = desk.make("/api/v1/credentials", **body, base_url="https://MARK-home.example:8443/MARK")
    assert made["hint"] == "MARK"
    secret = {"secret": "sk-ant-api03-9876543210-MARK"}
    assert desk.ask("PUT", f"/api/v1/credentials/{made['credential_id']}/secret", secret).status_code == 200
    again = desk.get(f"/api/v1/credentials/{made['credential_id']}")
    told = desk.deps.database.run_sync(everything).lower()
    assert "mark-home.example" in told
    desk.make(f"{USERS}/alice/erase")
    left = desk.deps.database.run_sync(everything).lower()
    for telling in ("mark", made["fingerprint"], again["fingerprint"]):
        assert telling not in left

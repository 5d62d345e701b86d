"""Users, keys, budgets in a real database."""

from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import Connection, insert

from tests.planes.records import settlement
from tollhouse.storage import directory, tables
from tollhouse.storage.database import Database
from tollhouse.storage.image import load_image
from tollhouse.storage.ledger import ship
from tollhouse.storage.plans import create_plan
from tollhouse.storage.teams import _team_row
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import (
    Budget,
    BudgetEdge,
    BudgetUnit,
    BudgetWindow,
    KeySecret,
    Limits,
    Plan,
    PlanBudget,
    Team,
    User,
    VirtualKey,
)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """For plain functions: the same engine, in this thread."""
    with database._engines.writer.begin() as opened:
        yield opened


ALICE = User(
    "alice",
    name="Alice",
    email="a@example.org",
    limits=Limits(requests_per_minute=3),
    metadata={"team": ["x"]},
    created_at_ns=5,
)
KEY = VirtualKey(
    "key_1",
    "alice",
    name="ci",
    hint="abcd",
    models=("claude-*",),
    limits=Limits(parallel_requests=2),
    metadata={"a": 1},
    created_at_ns=7,
)
SECRET = KeySecret(b"digest-1", "key_1", hint="abcd", created_at_ns=7)
BUDGET = Budget(
    "bud_1",
    ScopeKind.USER,
    "alice",
    20_000,
    unit=BudgetUnit.TOKENS,
    window=BudgetWindow.MONTH,
    timezone="Europe/Berlin",
    edge=BudgetEdge.REFUSE,
    created_at_ns=9,
)


def test_a_user_is_stored_whole(connection: Connection) -> None:
    assert directory.create_user(connection, ALICE)
    assert directory.get_user(connection, "alice") == ALICE
    assert not directory.create_user(connection, User("alice", name="other"))
    blocked = msgspec.structs.replace(ALICE, blocked_at_ns=11, metadata={})
    assert directory.update_user(connection, blocked)
    assert directory.get_user(connection, "alice") == blocked
    assert not directory.update_user(connection, User("nobody"))


def test_a_key_creates_its_user_at_first_mention(connection: Connection) -> None:
    directory.create_key(connection, KEY, SECRET)
    assert directory.get_key(connection, "key_1") == KEY
    assert directory.get_user(connection, "alice") == User("alice", created_at_ns=7)
    directory.create_key(connection, VirtualKey("key_2", "alice", created_at_ns=8), KeySecret(b"digest-2", "key_2"))
    assert directory.get_user(connection, "alice") == User("alice", created_at_ns=7)
    assert directory.get_key(connection, "key_2") == VirtualKey("key_2", "alice", created_at_ns=8)


def test_a_key_stays_its_users(connection: Connection) -> None:
    directory.create_key(connection, KEY, SECRET)
    with pytest.raises(ValueError, match="belongs to alice"):
        directory.update_key(connection, msgspec.structs.replace(KEY, user_id="bob"))
    edited = msgspec.structs.replace(KEY, models=None, expires_at_ns=99)
    assert directory.update_key(connection, edited)
    assert directory.get_key(connection, "key_1") == edited


def test_rotation_ends_the_other_secrets_and_never_prolongs_one(connection: Connection) -> None:
    directory.create_key(connection, KEY, SECRET)
    second = KeySecret(b"digest-2", "key_1", hint="efgh", created_at_ns=20)
    third = KeySecret(b"digest-3", "key_1", hint="ijkl", created_at_ns=30)
    assert directory.add_secret(connection, second, others_expire_at_ns=100)
    assert directory.add_secret(connection, third, others_expire_at_ns=200)
    assert directory.list_secrets(connection, "key_1") == (
        msgspec.structs.replace(SECRET, expires_at_ns=100),
        msgspec.structs.replace(second, expires_at_ns=200),
        third,
    )
    key = directory.get_key(connection, "key_1")
    assert key is not None
    assert key.hint == "ijkl"
    assert not directory.add_secret(connection, KeySecret(b"x", "key_9"), others_expire_at_ns=1)


def test_a_revocation_keeps_its_first_time(connection: Connection) -> None:
    directory.create_key(connection, KEY, SECRET)
    directory.revoke_key(connection, "key_1", 50)
    revoked = directory.revoke_key(connection, "key_1", 60)
    assert revoked is not None
    assert revoked.revoked_at_ns == 50
    assert directory.revoke_key(connection, "key_9", 60) is None


def test_a_budget_is_stored_whole_and_only_its_limit_and_edge_change(connection: Connection) -> None:
    assert directory.create_budget(connection, BUDGET)
    assert not directory.create_budget(connection, BUDGET)
    ship(connection, [settlement(1, budgets=(("bud_1", 60),))])
    edited = msgspec.structs.replace(BUDGET, limit=1, edge=BudgetEdge.CLAMP)
    assert directory.update_budget(connection, edited)
    assert directory.get_budget(connection, "bud_1") == edited
    assert directory.posted_windows(connection, "bud_1") == {60: 15}
    with pytest.raises(ValueError, match="only the limit"):
        directory.update_budget(connection, msgspec.structs.replace(edited, unit=BudgetUnit.USD))
    assert directory.delete_budget(connection, "bud_1")
    assert directory.posted_windows(connection, "bud_1") == {}
    assert not directory.delete_budget(connection, "bud_1")


def test_lists_go_on_after_the_cursor(connection: Connection) -> None:
    for number in range(5):
        directory.create_key(
            connection, VirtualKey(f"key_{number}", f"user_{number % 2}"), KeySecret(bytes([number]), f"key_{number}")
        )
    first = directory.list_keys(connection, limit=3)
    rest = directory.list_keys(connection, cursor=first[-1].key_id, limit=3)
    assert [key.key_id for key in first + rest] == [f"key_{number}" for number in range(5)]
    assert [key.key_id for key in directory.list_keys(connection, user_id="user_1")] == ["key_1", "key_3"]
    assert [user.user_id for user in directory.list_users(connection, cursor="user_0")] == ["user_1"]
    directory.create_budget(connection, BUDGET)
    assert directory.list_budgets(connection, scope=ScopeKind.KEY) == ()
    assert directory.list_budgets(connection, scope=ScopeKind.USER, scope_id="alice") == (BUDGET,)


def test_the_image_holds_everything_or_one_users_part(connection: Connection) -> None:
    bob = VirtualKey("key_bob", "bob", created_at_ns=7)
    directory.create_user(connection, ALICE)
    directory.create_key(connection, KEY, SECRET)
    directory.create_key(connection, bob, KeySecret(b"digest-b", "key_bob"))
    budgets = (
        Budget("bud_1", ScopeKind.USER, "alice", 1),
        Budget("bud_2", ScopeKind.KEY, "key_1", 2),
        Budget("bud_3", ScopeKind.ORGANISATION, "default", 3),
        Budget("bud_4", ScopeKind.USER, "bob", 4),
        Budget("bud_5", ScopeKind.KEY, "key_bob", 5),
    )
    for budget in budgets:
        directory.create_budget(connection, budget)
    windows = (("bud_1", 10), ("bud_1", 20), ("bud_3", 0), ("bud_5", 7))
    for number, window in enumerate(windows):
        ship(connection, [settlement(number, budgets=(window,), amount_nusd=number + 1)])

    whole = load_image(connection, now_s=25)
    assert whole.users == (ALICE, User("bob", created_at_ns=7))
    assert whole.keys == (KEY, bob)
    assert {secret.digest for secret in whole.secrets} == {b"digest-1", b"digest-b"}
    named = {"key_1": KEY.name, "key_bob": bob.name}
    assert whole.budgets == tuple(
        msgspec.structs.replace(budget, scope_name=named.get(budget.scope_id, "")) for budget in budgets
    )
    assert whole.posted == {("bud_1", 20): 2, ("bud_3", 0): 3, ("bud_5", 7): 4}
    earlier = load_image(connection, now_s=15)  # the clock was ahead when the last window was opened
    assert earlier.posted == {("bud_1", 10): 1, ("bud_1", 20): 2, ("bud_3", 0): 3, ("bud_5", 7): 4}
    assert earlier.read_at_s == 15

    part = load_image(connection, "alice", now_s=25)
    assert (part.users, part.keys, part.secrets) == ((ALICE,), (KEY,), (SECRET,))
    assert {budget.budget_id for budget in part.budgets} == {"bud_1", "bud_2", "bud_3"}
    assert part.posted == {("bud_1", 20): 2, ("bud_3", 0): 3}
    assert load_image(connection, "nobody", now_s=25).users == ()


def test_one_users_part_is_found_among_very_many_teams(connection: Connection) -> None:
    """Whose budgets by a plan are all in it: more than one statement takes values, of PostgreSQL at least."""
    plan = Plan("team", budgets=tuple(PlanBudget(9, unit, BudgetWindow.TOTAL) for unit in BudgetUnit))
    connection.execute(
        insert(tables.teams), [_team_row(Team(f"team_{number:05}", plan_id="team")) for number in range(22_000)]
    )
    create_plan(connection, plan)
    directory.create_user(connection, ALICE)
    last = f"plan:usd:total:team@team:team_{21_999:05}"
    ship(connection, [settlement(1, budgets=((last, 0),), amount_nusd=5)])
    part = load_image(connection, "alice", now_s=25)
    assert len(part.budgets) == 66_000
    assert part.posted == {(last, 0): 5}

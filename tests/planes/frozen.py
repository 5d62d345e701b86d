"""Databases as releases left them: `schemas/REVISION.ENGINE.sql`, a dump with some rows of every table.

A chapter says what one revision brought: rows written when it was the newest, and how they are read today, whatever
the tables look like by now. A dump of a revision has the rows of all chapters up to it. A chapter of a released
revision never changes; the revision after it gets its own.

    python -m tests.planes.frozen       writes the dumps of the newest revision, when it is released
"""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
from sqlalchemy import Connection

from tests.planes.records import T0_NS, hold, settle
from tests.postgres import Postgres
from tollhouse.storage import directory, ledger, migrations, requests
from tollhouse.storage.database import Database
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import (
    Budget,
    BudgetEdge,
    BudgetUnit,
    BudgetWindow,
    KeySecret,
    Limits,
    User,
    VirtualKey,
)
from tollhouse.terms.usage import Usage

SCHEMAS = Path(__file__).with_name("schemas")


class Chapter(NamedTuple):
    write: Callable[[Connection], None]
    check: Callable[[Connection], None]


# 0001: users, keys, budgets, ledger, request log

_ALICE = User(
    "alice",
    name="Alice Müller",
    email="alice@example.org",
    limits=Limits(requests_per_minute=10, requests_per_day=100),
    metadata={"plan": "free", "tags": ["a", "ä"]},
    created_at_ns=T0_NS,
)
_BOB = User("bob@example.org", created_at_ns=T0_NS + 1, blocked_at_ns=T0_NS + 5)
_KEY = VirtualKey(
    "key_alice",
    "alice",
    name="laptop",
    hint="wxyz",
    models=("claude-*", "gpt-?"),
    limits=Limits(parallel_requests=2, tokens_per_minute=1_000),
    metadata={"n": 1},
    created_at_ns=T0_NS + 2,
    expires_at_ns=T0_NS + 10**18,
)
_REVOKED = VirtualKey("key_bob", _BOB.user_id, created_at_ns=T0_NS + 3, revoked_at_ns=T0_NS + 4)
_SECRETS = (
    KeySecret(b"\x00first digest\xff", "key_alice", hint="abcd", created_at_ns=T0_NS, expires_at_ns=T0_NS + 9),
    KeySecret(b"\x01second digest", "key_alice", hint="wxyz", created_at_ns=T0_NS + 8),
)
_BUDGETS = (
    Budget(
        "bud_alice",
        ScopeKind.USER,
        "alice",
        1_000_000,
        unit=BudgetUnit.TOKENS,
        window=BudgetWindow.MONTH,
        timezone="Europe/Berlin",
        edge=BudgetEdge.REFUSE,
        created_at_ns=T0_NS,
    ),
    Budget("bud_org", ScopeKind.ORGANISATION, "default", 5 * 10**9, created_at_ns=T0_NS),
)
_WINDOWS = (("bud_org", 0), ("bud_alice", 1_790_000_000))
_USED = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, variant="priority")


def _call(number: int, attempt: int = 1, **settled: object) -> Settlement:
    attempt_id = f"{hold(number).request_id}-{attempt}"
    held = hold(number, attempt_id=attempt_id, key_id="key_alice", budgets=_WINDOWS)
    return Settlement(held, settle(number, attempt_id=attempt_id, **settled))


_CALLS = (
    _call(1, usage=_USED, amount_nusd=2**40, tokens=45),
    _call(2, kind=SettleKind.UPPER, code="crashed", status=0, amount_nusd=1_000_000, tokens=9_000),
    _call(3, kind=SettleKind.ESTIMATED, code="upstream_timeout", amount_nusd=700),
    _call(3, attempt=2, amount_nusd=7),
    _call(4, kind=SettleKind.VOIDED, code="upstream_429", status=429, amount_nusd=0, tokens=0),
)
_REFUSED = Refused(
    "req_refused", T0_NS + 9, "default", "alice", "key_alice", "messages", "gpt-9", 402, "budget_exhausted", 80
)


def _write_0001(connection: Connection) -> None:
    for user in (_ALICE, _BOB):
        directory.create_user(connection, user)
    directory.create_key(connection, _KEY, _SECRETS[0])
    directory.add_secret(connection, _SECRETS[1], others_expire_at_ns=T0_NS + 9)
    directory.create_key(connection, _REVOKED, KeySecret(b"\x02", "key_bob"))
    for budget in _BUDGETS:
        directory.create_budget(connection, budget)
    ledger.ship(connection, _CALLS, (_REFUSED,))


def _check_0001(connection: Connection) -> None:
    assert directory.get_user(connection, "alice") == _ALICE
    assert directory.get_user(connection, _BOB.user_id) == _BOB
    assert directory.get_key(connection, "key_alice") == _KEY
    assert directory.get_key(connection, "key_bob") == _REVOKED
    assert directory.list_secrets(connection, "key_alice") == _SECRETS
    for budget in _BUDGETS:
        assert directory.get_budget(connection, budget.budget_id) == budget
    amount_nusd = 2**40 + 1_000_000 + 700 + 7
    assert directory.posted_windows(connection, "bud_org") == {0: amount_nusd}
    assert directory.posted_windows(connection, "bud_alice") == {1_790_000_000: 45 + 9_000 + 15 + 15}
    (spent,) = ledger.usage(connection, "user")
    assert (spent.group, spent.label, spent.calls, spent.amount_nusd) == ("alice", "Alice Müller", 4, amount_nusd)
    rows = requests.list_requests(connection, user_id="alice")
    assert [(row.at_ns - T0_NS, row.attempts, row.kind, row.code, row.status) for row in rows] == [
        (9, 0, "", "budget_exhausted", 402),
        (4, 1, "voided", "upstream_429", 429),
        (3, 2, "exact", "", 200),
        (2, 1, "upper", "crashed", 0),
        (1, 1, "exact", "", 200),
    ]
    assert (rows[2].amount_nusd, rows[4].usage, rows[4].streamed) == (707, _USED, True)
    # It goes on where it stopped: what is known is known, what is new is added.
    assert ledger.ship(connection, _CALLS, (_REFUSED,)) == 0
    assert ledger.ship(connection, [_call(5, amount_nusd=1)]) == 1
    assert directory.posted_windows(connection, "bud_org") == {0: amount_nusd + 1}
    assert ledger.recount(connection) == 0


CHAPTERS = {"0001": Chapter(_write_0001, _check_0001)}


def chapters(revision: str) -> list[Chapter]:
    """What a dump of this revision holds."""
    return [CHAPTERS[each] for each in migrations.REVISIONS if each <= revision and each in CHAPTERS]


def dump_of(revision: str, engine: str) -> Path:
    return SCHEMAS / f"{revision}.{engine}.sql"


def freeze() -> None:
    """Write the dumps of the newest revision."""
    with tempfile.TemporaryDirectory() as directory_name, Postgres() as server:
        path, url = Path(directory_name) / "x.db", server.fresh_database()
        for location in (path, url):
            with closing(Database.open(location)) as database:
                for chapter in chapters(migrations.HEAD):
                    database.run_sync(chapter.write)
        for engine, text in (("sqlite", _sqlite_text(path)), ("postgresql", server.dump(url))):
            dump_of(migrations.HEAD, engine).write_text(text, "utf-8")


def load(location: str, text: str) -> None:
    """Make the empty database at this location what the dump says."""
    if location.startswith("postgresql:"):
        with psycopg.connect(location) as server:
            server.execute(text.encode())
    else:
        with closing(sqlite3.connect(location)) as file:
            file.executescript(text)


def _sqlite_text(path: Path) -> str:
    with closing(sqlite3.connect(path)) as file:
        return "\n".join((*file.iterdump(), ""))


if __name__ == "__main__":
    freeze()

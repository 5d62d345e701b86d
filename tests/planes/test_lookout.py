"""The lookout and the census over a real ledger: what is usual is known after a restart, and nobody is paused twice for
one thing.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.planes.control import refused, settled
from tollhouse.rules.anomalies import AnomalyRules, Watch
from tollhouse.storage.database import Database
from tollhouse.storage.habits import hours_of_keys
from tollhouse.storage.ledger import ship
from tollhouse.storage.notices import record
from tollhouse.terms.events import SettleKind, Settlement
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.webhooks import RecordedNotice
from tollhouse.workers import Census, Lookout
from tollhouse.workers.census import MAX_OTHERS
from tollhouse.workers.lookout import batches
from tollhouse.workers.tallies import tallied

KEY = {"user_id": "ann", "key_id": "key_1"}
HOUR_S = 3_600
RULES = AnomalyRules(spend_floor_nusd=10**6, addresses=3)
WAIT_S = 20.0


def call(number: int, at_s: int, nusd: int = 10**6, **fields: Any) -> Settlement:
    one = settled(f"req_{number:09d}", {**KEY, **fields.pop("key", {})}, amount_nusd=nusd, at_ns=at_s * 10**9)
    return Settlement(msgspec.structs.replace(one.hold, **fields), one.settle)


def test_the_hours_of_keys(database: Database) -> None:
    calls = [call(number, 1_000 * HOUR_S + number * 600, client="curl") for number in range(12)]
    calls.append(call(99, 900 * HOUR_S))
    database.run_sync(lambda connection: ship(connection, calls))
    found = database.run_sync(lambda connection: hours_of_keys(connection, since_s=1_000 * HOUR_S, latest=100))
    assert found == [("key_1", "ann", hour, 6 * 10**6, "curl", 6) for hour in (1_000, 1_001)]
    latest = database.run_sync(lambda connection: hours_of_keys(connection, since_s=0, latest=3))
    assert latest == [("key_1", "ann", 1_001, 3 * 10**6, "curl", 3)]


class Post:
    """A lookout on a database, what it told and whom it paused."""

    def __init__(self, database: Database, pauses: tuple[str, ...] = ()) -> None:
        self.told: list[Notice] = []
        self.paused: list[tuple[str, str]] = []

        async def pause(key_id: str, reason: str) -> None:
            self.paused.append((key_id, reason))

        self.lookout = Lookout(
            Watch(RULES, lambda key_id: "laptop"),
            database,
            self.told.append,
            pause,
            pauses,
            history_days=7,
            history_rows=1_000,
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                await asyncio.sleep(0.005)


def test_after_a_restart_it_knows_what_is_usual_and_pauses_once(database: Database) -> None:
    now_s = int(time.time())
    usual = [call(hours, now_s - hours * HOUR_S, client="claude-cli") for hours in range(2, 12)]
    database.run_sync(lambda connection: ship(connection, usual))

    async def go() -> None:
        for restart in range(2):
            post = Post(database, ("spend",))
            dear = [call(100 + restart, now_s - HOUR_S, 50 * 10**6, client="claude-cli")]
            post.lookout.shipped(tallied(dear), ())  # before the history is read
            post.lookout.start()
            if restart == 0:
                await post.until(lambda post=post: bool(post.told))  # type: ignore[misc]
                (notice,) = post.told
                assert notice.kind is NoticeKind.ANOMALY
                assert notice.text.startswith(
                    "The key laptop of user ann spent $0.05 this hour; the usual hour is $0.001"
                )
                assert post.paused == [("key_1", notice.text)]
                some = [RecordedNotice("ntc_1", msgspec.structs.replace(notice, at_ns=1))]
                await database.run(partial(record, found=some, declared=(), max_pending=1))
            else:  # told by the last process: somebody may have taken the key up again
                await post.until(lambda post=post: post.lookout._early is None)  # type: ignore[misc]
                for number in range(3):
                    post.lookout.seen("key_2", "ann", f"net{number}")
                await post.until(lambda post=post: bool(post.told))  # type: ignore[misc]
                assert [one.data["rule"] for one in post.told] == ["addresses"]
                await post.until(lambda post=post: not post.lookout._to_pause)  # type: ignore[misc]
                assert post.paused == []
            await post.lookout.stop()

    asyncio.run(go())


def test_calls_are_taken_together_by_key() -> None:
    some = [call(1, 10), call(2, 10, client="curl"), call(3, 10, key={"key_id": "session"})]
    found = batches(tallied(some), [refused("req_4", KEY), refused("req_5", {"user_id": "", "key_id": ""})])
    assert {name: (one.user_id, one.calls, one.nusd) for name, one in found.items()} == {
        "key_1": ("ann", 3, 2 * 10**6),
        " ann": ("ann", 1, 10**6),
    }


def test_what_the_caller_cannot_help_is_not_held_against_the_key() -> None:
    """Somebody has a secret that was rotated away; a provider refuses the operator's key."""
    rotated = [msgspec.structs.replace(refused(f"req_{n}", KEY), status=401, code="key_expired") for n in range(100)]
    assert batches([], rotated) == {}
    found = {}
    for credential_id in ("", "cred_1", "own_1"):
        some = [call(1, 10, credential_id=credential_id)]
        some = [Settlement(one.hold, msgspec.structs.replace(one.settle, status=401)) for one in some]
        found[credential_id] = batches(tallied(some), [])["key_1"].refused
    assert found == {"": 0, "cred_1": 0, "own_1": 1}


@pytest.mark.parametrize("erased", [False, True])
def test_who_comes_anew_under_an_erased_id_is_no_one_known(database: Database, erased: bool) -> None:
    post = Post(database)
    post.lookout._early = None  # what the ledger says was read

    def spends(hours: int, nusd: int) -> None:
        post.lookout.shipped(tallied([call(hours, (1_000 + hours) * HOUR_S, nusd, key={"key_id": "session"})]), ())

    for hours in range(10):
        spends(hours, 10**6)
    if erased:
        post.lookout.forget("ann")
    spends(11, 50 * 10**6)
    assert [one.subject for one in post.told] == ([] if erased else ["user ann"])


def test_calls_of_one_kind_are_counted_together() -> None:
    some = [call(1, 10), call(2, 20), call(3, 30, client="opencode"), call(4, 40), call(5, 50, session="s1")]
    voided = [Settlement(one.hold, msgspec.structs.replace(one.settle, kind=SettleKind.VOIDED)) for one in some[3:4]]
    turned_away = [Settlement(one.hold, msgspec.structs.replace(one.settle, status=400)) for one in some[:1]]
    found = tallied([*some, *voided, *turned_away])
    usual, status = some[0].hold.client, some[0].settle.status
    assert [(one.hold.client, one.hold.session, one.status, one.calls, one.nusd) for one in found] == [
        (usual, "", status, 4, 3 * 10**6),
        ("opencode", "", status, 1, 10**6),
        (usual, "s1", status, 1, 10**6),
        (usual, "", 400, 1, 10**6),
    ]
    assert [one.at_ns for one in found] == [some[place].settle.at_ns for place in (3, 2, 4, 0)]


def test_labels_of_tools_are_few_and_name_nobody() -> None:
    census = Census()
    names = [*(f"tool{number}" for number in range(100)), "claude-cli", "", "a b", "x" * 64, 'evil"} 1\n']
    census.take(tallied([call(number, 10, client=name, session=name) for number, name in enumerate(names)]))
    assert len(census.clients) == MAX_OTHERS + 3
    assert census.clients["claude-cli"] == [1, 10**6]
    assert census.clients["none"] == [1, 10**6]
    assert sum(calls for calls, _ in census.clients.values()) == len(names)
    again = [call(200 + number, 5_000, session="s1", end_user=f"u{number % 2}") for number in range(9)]
    census.take(tallied(again))
    assert (census.sessions.count(5_000), census.end_users.count(5_000)) == (1, 2)
    assert (census.sessions.count(6_000), census.end_users.count(6_000)) == (0, 0)

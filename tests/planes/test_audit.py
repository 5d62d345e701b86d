"""The audit trail of the management API: everything that changes something says who did it, and no secret."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.planes.browsing import Browser
from tests.planes.control import START_NS, Desk, open_desk
from tests.planes.plays import BOSS, PASSWORD, PLAYS, world_of
from tests.planes.test_audit_chain import faults
from tests.planes.test_sign_in import OPEN
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.attributed import family
from tollhouse.controlplane.permissions import PERMISSIONS, action_of
from tollhouse.controlplane.shapes import cursor_text
from tollhouse.rules.roles import Action
from tollhouse.storage.audit_tables import audit, audit_subjects
from tollhouse.storage.audited import AUDITED
from tollhouse.storage.schema import metadata
from tollhouse.terms.people import Role

CHANGING = [row for row in PERMISSIONS if row[0] != "GET"]
NO_CHANGE = {
    ("POST", "/api/v1/me/credentials/{provider}/test"),
    ("POST", "/api/v1/credentials/{credential_id}/test"),
    ("POST", "/api/v1/webhooks/{webhook_id}/test"),
}
"""They ask somebody else something, and change nothing of ours."""


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location, OPEN)
    yield opened
    opened.deps.database.close()


Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def dump(desk: Desk) -> Rows:
    """All audited rows, without what only notes use."""

    def read(connection: Connection) -> Rows:
        found: Rows = {}
        for name, told in AUDITED.items():
            table = metadata.tables[name]
            names = [column.name for column in table.primary_key.columns]
            rows = [dict(row._mapping) for row in connection.execute(select(table))]
            kept = [{column: row[column] for column in row if column not in told.untold} for row in rows]
            found[name] = {tuple(row[one] for one in names): row for row in kept}
        return found

    return desk.deps.database.run_sync(read)


def changed(before: Rows, after: Rows) -> set[tuple[str, str]]:
    """Kind and name of each row that differs."""
    found = set()
    for name, told in AUDITED.items():
        old, new = before[name], after[name]
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                row = new.get(key) or old[key]
                found.add((told.kind, str(row[told.name])))
    return found


def records(desk: Desk, *, after: int = 0, **query: Any) -> list[dict[str, Any]]:
    """Oldest first; those after a number."""
    more = {"cursor": cursor_text(str(after))} if after else {}
    answer = desk.get("/api/v1/audit", params={"limit": 500, "order": "oldest", **more, **query})
    found: list[dict[str, Any]] = answer["items"]
    return found


def last_seq(desk: Desk) -> int:
    assert desk.deps.trail is not None
    return desk.deps.trail.head.seq


def trail_text(desk: Desk) -> str:
    def read(connection: Connection) -> str:
        tables = (audit, audit_subjects)
        return "\n".join(str(tuple(row)) for table in tables for row in connection.execute(select(table)))

    return desk.deps.database.run_sync(read)


def test_every_route_that_changes_something_has_a_play() -> None:
    assert list(PLAYS.keys() ^ set(CHANGING)) == [], "play it in tests/planes/plays.py"


def test_everything_that_is_changed_is_recorded_and_no_secret_is(desk: Desk) -> None:
    """Row by row, by a look at the database before and after; of what is prepared for a play, too."""
    world = world_of(desk)
    before, seen = dump(world.desk), last_seq(desk)
    for (method, path), play in PLAYS.items():
        answer, where = play(world), f"{method} {path}"
        after, told = dump(world.desk), records(desk, after=seen)
        found = {(one["kind"], one["object"]) for one in told}
        assert {row for row in changed(before, after) if (row[0], "(erased)") not in found} <= found, where
        mine = [one for one in told if one["request_id"] == answer.headers["x-tollhouse-request-id"]]
        before, seen = after, last_seq(desk)
        if (method, path) in NO_CHANGE:
            assert mine == [], where
            continue
        assert answer.status_code < 400, (where, answer.status_code, answer.text)
        assert mine, f"{where} left no record"
        permission = PERMISSIONS[method, path]
        assert {one["action"] for one in mine} == {permission.value if isinstance(permission, Action) else where}
        assert {one["actor_kind"] for one in mine} <= {"user", "operator"}, (where, mine)
    text = trail_text(desk)
    assert [secret for secret in world.secrets if secret in text] == []
    assert desk.deps.database.run_sync(faults) == []


VIEWER = Caller(Role.VIEWER, "bob")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_is_refused_changes_nothing(desk: Desk) -> None:
    world = world_of(desk)
    before, seen = dump(world.desk), last_seq(desk)
    for method, path in CHANGING:
        there = path.replace("{user_id:path}", "ann").replace("{team_id}", "red").replace("{plan_id}", "free")
        there = there.replace("{", "").replace("}", "")
        for how in ({"bearer": None}, {"bearer": None, "caller": VIEWER}, {"bearer": None, "caller": BOSS}):
            answer = world.desk.ask(method, there, {"nonsense": 1}, **how)
            if answer.status_code >= 400:
                assert changed(before, dump(world.desk)) == set(), (method, path, how)
                continue
            before = dump(world.desk)  # what takes no body
    told = records(desk, after=seen)
    assert {one["actor"] for one in told} <= {"boss", "bob"}


def test_who_from_where_what_and_how_it_was_before(desk: Desk) -> None:
    browser = Browser(desk)
    mia = browser.done(
        "POST",
        "/api/v1/sign-up",
        {"email": "mia@example.org", "password": PASSWORD},
        headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
    )["user"]["user_id"]
    agent = {"user-agent": "curl/8.5"}
    desk.ask("PATCH", f"/api/v1/users/{mia}", {"name": "Mia", "limits": {"requests_per_minute": 5}}, headers=agent)
    made, first, *_, last = records(desk)
    assert (made["kind"], made["act"], made["actor"], made["way"], made["client"]) == (
        "user",
        "created",
        mia,
        "sign-in",
        "Firefox",
    )
    assert (first["kind"], first["act"], first["object"]) == ("password", "set", mia)
    assert "set" in {one["act"] for one in records(desk, actor=mia)}
    assert last == {
        "seq": last["seq"],
        "at": last["at"],
        "actor_kind": "operator",
        "actor": "",
        "way": "master key",
        "address": "127.0.0.1",
        "client": "curl",
        "action": "users:write",
        "act": "changed",
        "kind": "user",
        "object": mia,
        "changes": [
            {"field": "user_id", "before": mia, "after": mia},
            {"field": "name", "before": "", "after": "Mia"},
            {"field": "limits", "before": {}, "after": {"requests_per_minute": 5}},
        ],
        "request_id": last["request_id"],
        "hash": last["hash"],
    }
    hints = [one["changes"] for one in records(desk, kind="session")]
    assert {"field": "digest", "before": None, "after": "(secret)"} in hints[0]


def test_signing_in_and_out(desk: Desk) -> None:
    browser = Browser(desk)
    mia = browser.sign_up("mia@example.org", PASSWORD)["user"]["user_id"]
    browser.done("POST", "/api/v1/sign-out")
    Browser(desk).problem(401, "POST", "/api/v1/sign-in", {"email": "mia@example.org", "password": "wrong canary"})
    Browser(desk).problem(401, "POST", "/api/v1/sign-in", {"email": "nobody@example.org", "password": "wrong canary"})
    browser.sign_in("mia@example.org", PASSWORD)
    told = [(one["kind"], one["act"], one["actor_kind"], one["object"]) for one in records(desk)]
    session = [one["object"] for one in records(desk, kind="session")]
    assert told == [
        ("user", "created", "user", mia),
        ("password", "set", "user", mia),
        ("session", "signed in", "user", session[0]),
        ("session", "signed out", "user", session[0]),
        ("sign-in", "refused", "nobody", mia),
        ("sign-in", "refused", "nobody", ""),
        ("session", "signed in", "user", session[2]),
    ]
    text = trail_text(desk)
    assert "wrong canary" not in text
    assert "nobody@example.org" not in text  # what a stranger typed may be anything


def test_a_flood_of_tries_is_counted_and_fills_nothing(desk: Desk) -> None:
    keeper = desk.deps.doorkeeper
    assert keeper is not None

    async def tries(number: int) -> None:
        for _ in range(number):
            await keeper.refusals.put("refused", "password")

    asyncio.run(tries(500))
    asyncio.run(keeper.refusals.put("refused", "issuer"))  # another reason is not lost in it
    assert len(records(desk, act="refused")) == 21
    asyncio.run(keeper.tidy())
    assert records(desk, act="refused")[-1]["changes"] == [
        {"field": "because", "before": None, "after": "password"},
        {"field": "more", "before": None, "after": 480},
    ]
    desk.plane.now_ns += 60 * 10**9
    asyncio.run(tries(500))
    assert len(records(desk, act="refused")) == 22 + 20


def test_a_lock_out_is_told(desk: Desk) -> None:
    Browser(desk).sign_up("mia@example.org", PASSWORD)
    body = {"email": "mia@example.org", "password": "wrong password here"}
    while Browser(desk).ask("POST", "/api/v1/sign-in", body).status_code == 401:
        pass
    assert [one["act"] for one in records(desk, kind="sign-in")] == ["refused"] * 5 + ["locked out"]


def test_lists_are_narrowed_and_paged(desk: Desk) -> None:
    desk.make_as(BOSS, "/api/v1/users", user_id="ann")
    desk.make("/api/v1/users", user_id="bob")
    desk.plane.now_ns = START_NS + 3_600 * 10**9
    desk.make_as(BOSS, "/api/v1/teams", team_id="ann")
    told = records(desk)
    assert [one["object"] for one in records(desk, actor="boss")] == ["ann", "ann"]
    assert [one["object"] for one in records(desk, actor="operator")] == ["bob"]
    assert [one["kind"] for one in records(desk, object="ann")] == ["user", "team"]
    assert [one["kind"] for one in records(desk, object="ann", kind="team")] == ["team"]
    assert [one["object"] for one in records(desk, action="teams:write")] == ["ann"]
    assert [one["object"] for one in records(desk, since="30m")] == ["ann"]
    assert len(records(desk, until="30m")) == 2
    assert records(desk, actor="ann") == records(desk, object="zoe") == []
    for order, wanted in (("oldest", told), ("newest", told[::-1])):
        found: list[Any] = []
        cursor = None
        while True:
            page = desk.get(
                "/api/v1/audit", params={"limit": 2, "order": order, **({"cursor": cursor} if cursor else {})}
            )
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == wanted
    desk.problem(400, "GET", "/api/v1/audit?cursor=eA")
    desk.problem(400, "GET", "/api/v1/audit?since=yesterday-ish")
    desk.problem(403, "GET", "/api/v1/audit", caller=VIEWER, bearer=None)
    assert desk.ask("GET", "/api/v1/audit", caller=Caller(Role.ADMIN, "adm"), bearer=None).status_code == 200


def test_it_is_verified_in_parts_over_the_api(desk: Desk) -> None:
    for number in range(7):
        desk.make("/api/v1/users", user_id=f"u{number}")
    assert desk.deps.trail is not None
    head, after, checked = str(desk.deps.trail.head), None, 0
    while True:
        query = {"limit": 3, "head": head} | ({"after": after} if after else {})
        part = desk.get("/api/v1/audit/verification", params=query)
        assert part["faults"] == []
        checked += part["records"]
        after = part["next"]
        if after is None:
            break
    assert (checked, part["head"]) == (7, head)
    assert desk.get("/api/v1/audit/verification", params={"head": f"9:{'0' * 64}"})["faults"] == [
        {"seq": 7, "what": "the head that was given says that there is a record 9; the trail ends with 7: cut off"}
    ]
    assert desk.get("/api/v1/audit/verification", params={"head": f"5:{'0' * 64}"})["faults"][0]["seq"] == 5
    desk.problem(400, "GET", "/api/v1/audit/verification?head=5")
    desk.problem(400, "GET", "/api/v1/audit/verification?after=x:y")


def test_a_request_that_is_asked_again_is_recorded_once(desk: Desk) -> None:
    for _ in range(2):
        answer = desk.ask("POST", "/api/v1/users", {"user_id": "ann"}, headers={"idempotency-key": "one-and-only"})
        assert answer.status_code == 201
    assert len(records(desk)) == 1


def test_a_dry_run_leaves_nothing(desk: Desk) -> None:
    body = {"owner": "it.yaml", "dry_run": True, "resources": {"users": [{"user_id": "ann"}]}}
    assert desk.ask("POST", "/api/v1/declarations", body).status_code == 200
    assert records(desk) == []
    desk.ask("POST", "/api/v1/declarations", body | {"dry_run": False})
    assert [(one["kind"], one["object"]) for one in records(desk)] == [("user", "ann")]
    desk.ask("POST", "/api/v1/declarations", body | {"dry_run": False})
    assert len(records(desk)) == 1  # the same file again changes nothing


def test_what_follows_from_an_act_is_the_same_ones(desk: Desk) -> None:
    """A blocked user's sessions end by who blocked them."""
    mia = Browser(desk).sign_up("mia@example.org", PASSWORD)["user"]["user_id"]
    answer = desk.ask("POST", f"/api/v1/users/{mia}/block", caller=BOSS, bearer=None)
    told = [(one["kind"], one["act"], one["actor"]) for one in records(desk)[-2:]]
    assert told == [("user", "changed", "boss"), ("session", "signed out", "boss")]
    assert {one["request_id"] for one in records(desk)[-2:]} == {answer.headers["x-tollhouse-request-id"]}


def test_use_is_no_act(desk: Desk) -> None:
    browser = Browser(desk)
    browser.sign_up("mia@example.org", PASSWORD)
    keeper = desk.deps.doorkeeper
    assert keeper is not None
    seen = len(records(desk))
    desk.plane.now_ns += 120 * 10**9
    browser.done("GET", "/api/v1/session")
    asyncio.run(keeper.tidy())
    desk.plane.now_ns += 24 * 3_600 * 10**9
    asyncio.run(keeper.tidy())
    assert dump(desk)["sessions"] == {}
    assert len(records(desk)) == seen


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("", ""),
        ("curl/8.5.0", "curl"),
        ("claude-cli/2.0 (external)", "claude-cli"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36", "Chrome"),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge"),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1 (KHTML, like Gecko) Version/18.0 Safari/605.1", "Safari"),
        ("x" * 500, "x" * 64),
        ("a\x00b\x1b[31mc", "ab[31mc"),
    ],
)
def test_a_client_is_its_family(agent: str, name: str) -> None:
    assert family(agent) == name


def test_no_token_of_a_path_is_an_action() -> None:
    assert action_of("POST", "/invitation/secret-token") == "POST /invitation/{token}"
    assert action_of("POST", "/api/v1/users/a/b/block") == "users:write"
    assert action_of("POST", "/nowhere") == ""

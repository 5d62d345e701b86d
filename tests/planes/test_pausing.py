"""Paused keys and lock-outs: who is refused, who may change that, and what is told of it."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import Desk, open_desk
from tests.planes.plane import KEY, SECRET, T0_NS, image
from tests.planes.test_sign_in import MIA, OPEN
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.dataplane.head import read_head
from tollhouse.dataplane.identify import Unwelcome, VirtualKeyScheme
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.rules.networks import network_of
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.people import Role

KEYS = "/api/v1/keys"


@pytest.fixture
def told() -> list[Notice]:
    return []


@pytest.fixture
def desk(location: str, told: list[Notice]) -> Iterator[Desk]:
    opened = open_desk(location, OPEN)
    deps = opened.deps
    keeper = Doorkeeper(
        deps.database,
        deps.server_secret,
        OPEN,
        changed=deps.changed,
        random_bytes=deps.random_bytes,
        now_ns=deps.now_ns,
        notify=told.append,
    )
    yield opened.with_deps(notify=told.append, doorkeeper=keeper)
    deps.database.close()


def test_a_key_is_paused_and_resumed(desk: Desk, told: list[Notice]) -> None:
    made = desk.make(KEYS, user_id="ann", name="laptop", limits={"requests_per_minute": 5})
    path = f"{KEYS}/{made['key_id']}"
    paused = desk.make(f"{path}/pause", reason="it spent 34 times its usual hour")
    assert (paused["status"], paused["pause_reason"]) == ("paused", "it spent 34 times its usual hour")
    assert paused["limits"]["requests_per_minute"] == 5
    again = desk.make(f"{path}/pause", reason="another")
    assert (again["paused_at"], again["pause_reason"]) == (paused["paused_at"], paused["pause_reason"])
    assert desk.ask("PATCH", path, {"name": "desk"}).json()["status"] == "paused"
    assert desk.make(f"{path}/rotate")["status"] == "paused"
    (notice,) = told
    assert notice.kind is NoticeKind.KEY_PAUSED
    assert notice.text == "The key laptop of user ann was paused: it spent 34 times its usual hour"
    resumed = desk.make(f"{path}/resume")
    assert (resumed["status"], resumed["paused_at"], resumed["pause_reason"]) == ("active", None, "")
    desk.ask("DELETE", path)
    assert desk.problem(409, "POST", f"{path}/pause")["code"] == "key_revoked"
    desk.problem(404, "POST", f"{KEYS}/key_x/pause")


def test_its_user_may_pause_it_and_not_take_it_up_again(desk: Desk) -> None:
    desk.make("/api/v1/teams", team_id="red")
    desk.make("/api/v1/users", user_id="ann", team_id="red")
    path = f"{KEYS}/{desk.make(KEYS, user_id='ann', team_id='red')['key_id']}"
    ann, lead = Caller(Role.MEMBER, "ann"), Caller(Role.MEMBER, "bob", {"red": Role.ADMIN})
    assert desk.ask("POST", f"{path}/pause", {}, caller=ann).status_code == 200
    assert desk.problem(403, "POST", f"{path}/resume", caller=ann)["field"] == "paused"
    assert desk.ask("POST", f"{path}/resume", caller=lead).status_code == 200
    desk.problem(404, "POST", f"{path}/pause", caller=Caller(Role.MEMBER, "eve"))


def test_a_paused_key_is_refused_in_words() -> None:
    snapshot = Snapshot()
    known = image()
    (key,) = known.keys
    scheme = VirtualKeyScheme(snapshot, SECRET, lambda: T0_NS)

    def adopt(**changes: Any) -> None:

        snapshot.replace(replace(known, keys=(replace(key, **changes),)), None)

    adopt()
    assert scheme.principal_of(KEY).key == key
    adopt(name="laptop", paused_at_ns=T0_NS, pause_reason="it spent too much.")
    with pytest.raises(Unwelcome) as refusal:
        scheme.principal_of(KEY)
    assert (refusal.value.status, refusal.value.code, refusal.value.should_retry) == (401, "key_paused", False)
    assert refusal.value.message == (
        "The key laptop is paused (it spent too much). Ask the operator of this gateway to resume it."
    )


def test_a_key_is_noted_when_a_connection_shows_it_first() -> None:
    snapshot = Snapshot()
    snapshot.replace(image(), None)
    scheme = VirtualKeyScheme(snapshot, SECRET, lambda: T0_NS)
    seen: list[tuple[str, str]] = []
    scheme.seen = lambda principal, head: seen.append((principal.key.key_id, head.peer))
    lines = [(b"host", b"a"), (b"x-api-key", KEY), (b"x-forwarded-for", b"192.0.2.1")]
    head = read_head(b"POST", b"/v1/messages", lines, "1.1", True, 999)
    head.peer = "127.0.0.1"
    for _ in range(3):
        scheme.identify(head)
    assert seen == [("key_1", "127.0.0.1")]
    assert head.read[b"x-forwarded-for"] == b"192.0.2.1"
    assert b"192.0.2.1" not in head.forwarded


def test_a_lock_out_is_told_of_once_each_lock(desk: Desk, told: list[Notice]) -> None:
    user_id = Browser(desk).sign_up(MIA)["user"]["user_id"]
    for email, whom in ((MIA, f"user {user_id}"), ("nobody@acme.example", "account unknown")):
        told.clear()
        wrong = {"email": email, "password": "not the password, " + GOOD}
        for _ in range(OPEN.by_account.free):
            Browser(desk).problem(401, "POST", "/api/v1/sign-in", wrong)
        assert told == []  # nobody is locked out who does not try
        for _ in range(3):
            Browser(desk).problem(429, "POST", "/api/v1/sign-in", wrong)
        (notice,) = told
        assert (notice.kind, notice.subject) == (NoticeKind.LOCKED_OUT, whom)
        assert f"for {notice.data['wait_s']} s" in notice.text
        assert email not in notice.text
        desk.plane.now_ns += 31 * 10**9
        Browser(desk).problem(401, "POST", "/api/v1/sign-in", wrong)
        Browser(desk).problem(429, "POST", "/api/v1/sign-in", wrong)
        assert len(told) == 2


@given(st.ip_addresses())
def test_a_network_holds_its_address_and_is_of_its_size(address: ipaddress.IPv4Address) -> None:
    network = ipaddress.ip_network(network_of(str(address)))
    mapped = getattr(address, "ipv4_mapped", None)
    assert (mapped or address) in network
    assert network.prefixlen == (24 if network.version == 4 else 48)


def test_what_is_no_address_is_its_own_network() -> None:
    assert [network_of(text) for text in ("", "unix:", "fe80::1%eth0")] == ["", "unix:", "fe80::/48"]

"""Signing in at an issuer, and issuers and travellers that lie."""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Connection

from tests import tokens
from tests.planes.browsing import GOOD, Browser
from tests.planes.control import SECRET, Desk, open_desk
from tests.planes.issuer import CLIENT_ID, CLIENT_SECRET, FakeIssuer, fake_issuer
from tests.planes.test_sign_in import MIA, NS, OPEN, make, set_user
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.fetching import Reach
from tollhouse.controlplane.sign_in.issuers import GitHub, IssuerOptions, OpenIdProvider
from tollhouse.controlplane.sign_in.trips import TRIP_COOKIE
from tollhouse.rules.claims import Claimed, ClaimRules
from tollhouse.storage import teams
from tollhouse.storage.plans import create_plan
from tollhouse.storage.provision import provision
from tollhouse.terms.people import Plan, Role, Team
from tollhouse.terms.sessions import SESSION_COOKIE


@cache
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@dataclass
class Place:
    """A gateway and an issuer, twice: `acme`, and `other`, of the same server but with another client."""

    desk: Desk
    issuer: FakeIssuer

    def browser(self) -> Browser:
        return Browser(self.desk)

    def set_up(self, rules: ClaimRules | None = None, timeout_s: float = 10.0, **changes: Any) -> None:
        plane, deps, url = self.desk.plane, self.desk.deps, self.issuer.url
        options = IssuerOptions(
            name="acme",
            issuer=url,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            scopes="openid email profile",
            algorithms=frozenset(("ES256", "RS256", "EdDSA")),
            rules=rules or ClaimRules(source="oidc:acme", user_claim=""),
            **changes,
        )
        reach = Reach(timeout_s=timeout_s, tls=tls(), max_bytes=64 * 1024, min_refetch_s=0)
        clock: Callable[[], float] = lambda: plane.now_ns / NS  # noqa: E731
        keeper = Doorkeeper(
            deps.database,
            SECRET,
            msgspec.structs.replace(OPEN, ways=(("acme", "ACME"), ("other", "Other"))),
            changed=plane.changed,
            random_bytes=deps.random_bytes,
            now_ns=deps.now_ns,
            issuers=[
                OpenIdProvider(options, reach, clock),
                OpenIdProvider(msgspec.structs.replace(options, name="other"), reach, clock),
                GitHub(msgspec.structs.replace(options, name="hub", scopes="user:email read:org"), reach, url, url),
            ],
        )
        plane.doorkeeper = keeper
        self.desk = self.desk.with_deps(doorkeeper=keeper)

    def refused(self, answer: httpx.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        lines = answer.headers.get_list("set-cookie")
        assert not any(line.startswith(f"{SESSION_COOKIE}=") for line in lines)
        assert answer.headers["content-type"].startswith("text/html")

    def user(self, browser: Browser) -> dict[str, Any]:
        found: dict[str, Any] = browser.done("GET", "/api/v1/session")["user"]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    desk = open_desk(tmp_path, OPEN)
    with fake_issuer(lambda: desk.plane.now_ns / NS) as issuer:
        made = Place(desk, issuer)
        made.set_up()
        yield made
    desk.deps.database.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    desk = open_desk(tmp_path_factory.mktemp("lasting"), OPEN)
    with fake_issuer(lambda: desk.plane.now_ns / NS) as issuer:
        yield Place(desk, issuer)
    desk.deps.database.close()


@pytest.fixture
def liar(lasting: Place) -> Place:
    """For tests in which nobody gets in."""
    lasting.issuer.reset()
    lasting.set_up()
    return lasting


# --- the way there and back


def test_a_new_person_signs_in_and_is_the_same_next_time(place: Place) -> None:
    browser = place.browser()
    out = place.issuer.set_out(browser)
    sent = place.issuer.sent
    assert out.headers["location"].startswith(f"{place.issuer.url}/authorize?")
    assert (sent["response_type"], sent["code_challenge_method"], sent["scope"]) == (
        "code",
        "S256",
        "openid email profile",
    )
    assert sent["redirect_uri"] == "http://tollhouse:4000/api/v1/sign-in/oidc/acme/callback"
    assert "; SameSite=Lax" in out.headers["set-cookie"]
    assert "HttpOnly" in out.headers["set-cookie"]
    answer = place.issuer.come_back(browser)
    assert answer.status_code == 200, answer.text
    assert '<meta http-equiv="refresh" content="0; url=/chat">' in answer.text
    assert any("SameSite=Strict" in line for line in answer.headers.get_list("set-cookie"))
    assert TRIP_COOKIE not in browser.cookies
    user = place.user(browser)
    assert (user["email"], user["name"]) == (MIA, "Mia")
    assert user["user_id"] != "mia"
    again = place.browser()
    place.issuer.sign_in(again)
    assert place.user(again)["user_id"] == user["user_id"]


def test_who_comes_from_an_issuer_is_told_in_the_audit_trail(place: Place) -> None:
    browser = place.browser()
    place.issuer.sign_in(browser)
    mia = place.user(browser)["user_id"]
    told = place.desk.get("/api/v1/audit?order=oldest")["items"]
    assert [(one["kind"], one["act"]) for one in told] == [
        ("user", "created"),
        ("claims", "read"),
        ("identity", "linked"),
        ("session", "signed in"),
    ]
    assert {one["actor"] for one in told} == {mia}
    assert {one["action"] for one in told} == {"GET /api/v1/sign-in/oidc/{name}/callback"}
    place.issuer.sign_in(place.browser(), nonce="other")
    refused = place.desk.get("/api/v1/audit")["items"][0]
    assert (refused["act"], refused["actor_kind"]) == ("refused", "nobody")
    assert [(one["field"], one["after"]) for one in refused["changes"]] == [("because", "issuer"), ("issuer", "acme")]


def test_the_ways_are_listed(place: Place) -> None:
    assert place.browser().done("GET", "/api/v1/sign-in/oidc")["items"][0] == {
        "name": "acme",
        "label": "ACME",
        "path": "/api/v1/sign-in/oidc/acme",
    }
    assert place.browser().problem(404, "GET", "/api/v1/sign-in/oidc/none") == "not_found"
    assert place.browser().problem(404, "GET", "/api/v1/sign-in/oidc/none/callback") == "not_found"


@pytest.mark.parametrize("onward", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_led_elsewhere_afterwards(place: Place, onward: str) -> None:
    browser = place.browser()
    place.issuer.set_out(browser, onward=onward)
    answer = place.issuer.come_back(browser)
    assert "evil" not in answer.text
    assert "javascript" not in answer.text
    assert 'url=/sign-in"' in answer.text


def test_nothing_secret_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="tollhouse")
    browser = place.browser()
    place.issuer.sign_in(browser)
    place.issuer.sign_in(browser, nonce="other")
    for secret in (CLIENT_SECRET, browser.token, place.issuer.sent["state"], "code-", MIA, "eyJ"):
        assert secret not in caplog.text
    assert "nonce" in caplog.text


# --- travellers that lie


def test_a_way_back_is_good_once(place: Place) -> None:
    browser = place.browser()
    place.issuer.set_out(browser)
    trip = dict(browser.cookies)
    assert place.issuer.come_back(browser, code="one").status_code == 200
    replay = place.browser()
    place.refused(place.issuer.come_back(replay, code="one"), 400)  # no cookie of that trip
    replay.cookies = dict(trip)
    place.refused(place.issuer.come_back(replay, code="one"), 400)  # the cookie too: it came back already
    place.issuer.set_out(replay)
    place.refused(place.issuer.come_back(replay, code="one"), 502)  # the code is used up, with whatever trip
    assert place.issuer.asked.count("/token") == 2


@pytest.mark.parametrize("change", ["state", "no state", "no cookie", "cookie", "seal", "another browser", "late"])
def test_a_way_back_that_is_not_of_this_browser(liar: Place, change: str) -> None:
    """Signing a victim in as the attacker, or as nobody knows whom: login CSRF."""
    attacker, victim = liar.browser(), liar.browser()
    liar.issuer.set_out(attacker)
    state: str | None = liar.issuer.sent["state"]
    liar.issuer.set_out(victim)
    cookie = victim.cookies[TRIP_COOKIE]
    if change in ("state", "another browser"):
        pass  # the attacker's link, in the victim's browser with a trip of its own
    elif change == "no state":
        state = None
    elif change == "no cookie":
        victim.cookies.clear()
    elif change == "cookie":
        victim.cookies[TRIP_COOKIE] = "x" * 50
    elif change == "seal":
        victim.cookies[TRIP_COOKIE] = cookie[:-1] + ("A" if cookie[-1] != "A" else "B")
        state = liar.issuer.sent["state"]
    else:
        state = liar.issuer.sent["state"]
        liar.desk.plane.now_ns += 600 * NS
    liar.refused(liar.issuer.come_back(victim, state=state), 400)
    assert "/token" not in liar.issuer.asked


def test_issuers_are_not_mixed_up(place: Place) -> None:
    """A trip to one issuer does not end at another (RFC 9700, 4.4), nor an answer that says it is another's."""
    browser = place.browser()
    place.issuer.set_out(browser, "acme")
    place.refused(place.issuer.come_back(browser, "other"), 400)
    for iss in ("https://evil.example", place.issuer.url + "/", "", None):
        place.issuer.set_out(browser)
        place.refused(place.issuer.come_back(browser, iss=iss), 502)
    assert "/token" not in place.issuer.asked
    place.issuer.document["authorization_response_iss_parameter_supported"] = False
    place.set_up()
    browser = place.browser()
    place.issuer.set_out(browser)
    assert place.issuer.come_back(browser, iss=None).status_code == 200


def test_who_says_no_is_not_signed_in(place: Place) -> None:
    browser = place.browser()
    place.issuer.set_out(browser)
    answer = place.issuer.come_back(browser, code=None, error="access_denied")
    place.refused(answer, 403)
    assert "access_denied" in answer.text
    place.issuer.set_out(browser)
    answer = place.issuer.come_back(browser, code=None, error="<b>call 555</b>", error_description="call 555")
    place.refused(answer, 403)
    assert "555" not in answer.text
    place.issuer.set_out(browser)
    twice = f"/api/v1/sign-in/oidc/acme/callback?code=a&code=b&state={place.issuer.sent['state']}"
    place.refused(browser.ask("GET", twice), 400)


# --- issuers that lie


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "other"},
        {"nonce": None},
        {"nonce": ["x"]},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": []},
        {"aud": [CLIENT_ID, "another-client"]},  # several, and no azp
        {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": 9_999_999_999},
        {"nbf": 9_999_999_999},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
    ],
    ids=str,
)
def test_claims_that_are_not_for_us(liar: Place, claims: dict[str, Any]) -> None:
    liar.refused(liar.issuer.sign_in(liar.browser(), **claims), 502)
    assert liar.desk.get("/api/v1/users")["items"] == []


def forged(url: str = "") -> dict[str, Callable[[dict[str, Any]], str]]:
    """Tokens that the issuer's own key has not signed, or not so."""
    key, other = tokens.key("EC", "k1"), tokens.key("EC", "k2")
    public = key.as_pem(private=False)
    return {
        "none": tokens.unsigned,
        "None": lambda claims: tokens.unsigned(claims, alg="None"),
        "another key": lambda claims: tokens.mint(claims, other),
        "another key under our kid": lambda claims: tokens.mint(claims, other, kid="k1"),
        "the public key as a secret": lambda claims: tokens.by_secret(claims, public, kid="k1"),
        "its own key in the header": lambda claims: tokens.mint(claims, other, jwk=other.as_dict(private=False)),
        "a key set of its own": lambda claims: tokens.mint(claims, other, jku=f"{url}/evil"),
        "critical": lambda claims: tokens.mint(claims, key, crit=["x"], x=1),
        "cut": lambda claims: tokens.mint(claims, key)[:-4],
        "changed": lambda claims: tokens.mint(claims, key).replace(".", ".e30", 1),
        "no token": lambda _claims: "not a token",
        "huge": lambda claims: tokens.mint({**claims, "x": "y" * 80_000}, key),
    }


@pytest.mark.parametrize("kind", list(forged()))
def test_tokens_that_the_issuer_did_not_sign(liar: Place, kind: str) -> None:
    liar.issuer.make = forged(liar.issuer.url)[kind]
    liar.refused(liar.issuer.sign_in(liar.browser()), 502)
    assert "/evil" not in liar.issuer.asked


def test_an_algorithm_must_be_on_the_list(place: Place) -> None:
    place.issuer.published = [tokens.key("RSA", "r1")]
    place.issuer.make = lambda claims: tokens.mint(claims, tokens.key("RSA", "r1"), "PS256")
    place.refused(place.issuer.sign_in(place.browser()), 502)
    place.issuer.make = lambda claims: tokens.mint(claims, tokens.key("RSA", "r1"), "RS256")
    assert place.issuer.sign_in(place.browser()).status_code == 200


def test_keys_rotate(place: Place) -> None:
    assert place.issuer.sign_in(place.browser()).status_code == 200
    new = tokens.key("EC", "k2")
    place.issuer.published = [new]
    place.issuer.make = lambda claims: tokens.mint(claims, new)
    assert place.issuer.sign_in(place.browser()).status_code == 200
    place.issuer.make = lambda claims: tokens.mint(claims, tokens.key("EC", "k1"))
    place.refused(place.issuer.sign_in(place.browser()), 502)  # the old one is gone


def test_clocks_may_differ_a_little(place: Place) -> None:
    now_s = place.desk.plane.now_ns // NS
    assert place.issuer.sign_in(place.browser(), exp=now_s - 59, iat=now_s - 100).status_code == 200
    assert place.issuer.sign_in(place.browser(), iat=now_s + 59).status_code == 200
    place.refused(place.issuer.sign_in(place.browser(), exp=now_s - 60, iat=now_s - 100), 502)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
@pytest.mark.parametrize("answer", ["huge", "500", "not JSON", "a list", "empty", "elsewhere", "deep"])
def test_answers_that_are_none(liar: Place, path: str, answer: str) -> None:
    said: dict[str, tuple[int, Any]] = {
        "500": (500, {"error": "<script>"}),
        "not JSON": (200, b"<html>"),
        "a list": (200, []),
        "empty": (200, {}),
        "elsewhere": (302, b""),
        "deep": (200, b'{"a":' * 5_000),
    }
    honest = liar.issuer.answers[path]

    def lie(form: Any, headers: Any) -> tuple[int, Any]:
        if answer != "huge":
            return said[answer]
        status, body = honest(form, headers)
        return status, (body if isinstance(body, bytes) else msgspec.json.encode(body)) + b" " * 100_000

    liar.issuer.answers[path] = lie
    browser = liar.browser()
    out = browser.ask("GET", "/api/v1/sign-in/oidc/acme")
    if path.startswith("/.well"):
        liar.refused(out, 502)
    else:
        liar.issuer.set_out(browser)
        liar.refused(liar.issuer.come_back(browser), 502)
    assert "/elsewhere" not in liar.issuer.asked


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://evil.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
    ids=str,
)
def test_a_description_that_is_not_the_issuers(liar: Place, change: dict[str, Any]) -> None:
    liar.issuer.document |= change
    liar.refused(liar.browser().ask("GET", "/api/v1/sign-in/oidc/acme"), 502)


def test_a_slow_issuer_is_given_up(liar: Place) -> None:
    liar.set_up(timeout_s=0.3)
    wait = threading.Event()

    def slow(_form: Any, _headers: Any) -> tuple[int, Any]:
        wait.wait(30)
        return 200, {}

    liar.issuer.answers["/.well-known/openid-configuration"] = slow
    liar.refused(liar.browser().ask("GET", "/api/v1/sign-in/oidc/acme"), 502)
    wait.set()


def test_userinfo_says_what_the_token_does_not(place: Place) -> None:
    def info(_form: Any, headers: Any) -> tuple[int, Any]:
        assert headers["authorization"] == "Bearer at"
        return 200, {"sub": sub, "email": "other@acme.example", "email_verified": True, "aud": "x", "name": "No"}

    place.issuer.answers["/userinfo"] = info
    sub = "somebody else"
    place.refused(place.issuer.sign_in(place.browser(), email=None), 502)
    sub = "mia"
    browser = place.browser()
    place.issuer.sign_in(browser, email=None)
    user = place.user(browser)
    assert (user["email"], user["name"]) == ("other@acme.example", "Mia")


def test_userinfo_verifies_no_address_but_its_own(place: Place) -> None:
    place.set_up(ClaimRules(user_claim="", plan_claim="", teams={"a": "a"}), link_by_email=True)
    told = {"sub": "eve", "email": "eve@evil.example", "email_verified": True}
    place.issuer.answers["/userinfo"] = lambda _form, _headers: (200, told)
    for address, counts in (("ceo@acme.example", False), ("Eve@evil.example", True)):
        browser = place.browser()
        place.issuer.sign_in(browser, sub="eve", email=address, email_verified=None)
        assert place.user(browser)["email"] == ("eve@evil.example" if counts else "")


# --- whose account it is


def test_an_account_is_taken_over_only_where_all_say_so(place: Place) -> None:
    """The same address here: of an invited person, of who signed up by themselves, of who an admin wrote down."""
    desk = place.desk
    made = desk.make("/api/v1/invitations", email="invited@acme.example")
    invited = Browser(desk).done("POST", "/api/v1/invitations/accept", {"token": made["token"], "password": GOOD})
    self_made = make(desk, "self@acme.example")[1]
    desk.make("/api/v1/users", user_id="written", email="Written@acme.example")
    for user_id in ("twice-1", "twice-2"):
        desk.make("/api/v1/users", user_id=user_id, email="twice@acme.example")
    desk.deps.database.run_sync(
        lambda connection: provision(connection, Claimed("app-7", "claimed@acme.example", source="jwt:app"), 1)
    )
    owners = {
        "invited": (invited["user"]["user_id"], True),
        "self": (self_made, False),  # nobody but its user ever said so
        "written": ("written", True),
        "twice": (None, False),
        "claimed": ("app-7", False),  # by a token, and nobody verified it
    }
    for link, verified in ((False, True), (True, False), (True, True)):
        place.set_up(link_by_email=link)
        for name, (user_id, may) in owners.items():
            browser = place.browser()
            claims = {"sub": name, "email": f"{name}@acme.example", "email_verified": verified}
            answer = place.issuer.sign_in(browser, **claims)
            if link and verified and may:
                assert answer.status_code == 200, (name, answer.text)
                assert place.user(browser)["user_id"] == user_id
            elif verified:
                place.refused(answer, 409)
            else:  # an account of their own, without that address
                assert place.user(browser)["user_id"] not in (user_id, "written", "app-7")
                assert place.user(browser)["email"] == ""
                place.issuer.claims = {}
                desk.deps.database.run_sync(forget_identity)


def test_an_address_that_only_its_user_typed_moves_nobody_in(place: Place) -> None:
    """A link that names no address, and one by somebody who may not vouch for anybody's: an admin of a team."""
    place.set_up(link_by_email=True)
    desk = place.desk
    lead, lead_id = make(desk, "lead@acme.example")
    desk.make("/api/v1/teams", team_id="red")
    assert desk.ask("PUT", f"/api/v1/teams/red/members/{lead_id}", {"role": "admin"}).status_code == 200
    desk.make("/api/v1/users", user_id="app-user")
    unnamed = desk.make("/api/v1/invitations")
    of_team = lead.done("POST", "/api/v1/invitations", {"email": "two@acme.example", "team_id": "red"})
    for_user = desk.make("/api/v1/invitations", user_id="app-user")
    for name, made in (("one", unnamed), ("two", of_team), ("three", for_user)):
        body = {"token": made["token"], "password": GOOD, "email": f"{name}@acme.example"}
        Browser(desk).done("POST", "/api/v1/invitations/accept", body)
        answer = place.issuer.sign_in(place.browser(), sub=name, email=f"{name}@acme.example")
        place.refused(answer, 409)


def forget_identity(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM identities")


def test_an_unverified_address_moves_nobody_in_later(place: Place) -> None:
    """Somebody with another's unverified address must not get what comes to that address afterwards."""
    place.set_up(link_by_email=True)
    eve, mia = place.browser(), place.browser()
    place.issuer.sign_in(eve, sub="eve", email=MIA, email_verified=False)
    place.issuer.sign_in(mia, sub="mia", email=MIA)
    assert place.user(eve)["user_id"] != place.user(mia)["user_id"]
    assert place.user(eve)["email"] == ""


def test_a_subject_is_its_users_whatever_address_it_has(place: Place) -> None:
    place.set_up(link_by_email=True)
    mia = place.browser()
    place.issuer.sign_in(mia)
    first = place.user(mia)["user_id"]
    make(place.desk, "ada@acme.example")
    place.issuer.sign_in(mia, email="ada@acme.example")
    assert place.user(mia)["user_id"] == first
    other = place.browser()
    place.issuer.sign_in(other, sub="MIA", email="other@acme.example")
    assert place.user(other)["user_id"] != first  # subjects are compared byte by byte


def test_blocked_people_and_services_stay_out(place: Place) -> None:
    browser = place.browser()
    place.issuer.sign_in(browser)
    user_id = place.user(browser)["user_id"]
    set_user(place.desk, user_id, blocked_at_ns=1)
    place.refused(place.issuer.sign_in(place.browser(), name="New name"), 403)
    set_user(place.desk, user_id, blocked_at_ns=None, role=Role.SERVICE)
    place.refused(place.issuer.sign_in(place.browser()), 403)


def test_domains_and_closed_doors(place: Place) -> None:
    place.set_up(ClaimRules(user_claim="", domains=("acme.example",)))
    assert place.issuer.sign_in(place.browser()).status_code == 200
    place.refused(place.issuer.sign_in(place.browser(), sub="eve", email="eve@evil.example"), 403)
    place.refused(place.issuer.sign_in(place.browser(), sub="eve", email_verified=False), 403)
    place.set_up(sign_up=False)
    place.refused(place.issuer.sign_in(place.browser(), sub="new", email="new@acme.example"), 403)
    assert place.issuer.sign_in(place.browser()).status_code == 200  # who is here may


def test_groups_give_team_role_and_plan_at_each_sign_in(place: Place) -> None:
    def fill(connection: Any) -> None:
        teams.create_team(connection, Team("red"))
        create_plan(connection, Plan("free"))
        create_plan(connection, Plan("pro"))

    place.desk.deps.database.run_sync(fill)
    place.set_up(
        ClaimRules(
            source="oidc:acme",
            user_claim="",
            teams={"reds": "red"},
            roles={"bosses": Role.ADMIN},
            plans={"payers": "pro"},
            default_plan="free",
        )
    )
    browser = place.browser()
    place.issuer.sign_in(browser, groups=["reds", "bosses", "payers"])
    user = place.user(browser)
    assert (user["team_id"], user["role"], user["plan_id"]) == ("red", "admin", "pro")
    phone = place.browser()
    place.issuer.sign_in(phone, groups=["reds"])
    user = place.user(phone)
    assert (user["team_id"], user["role"], user["plan_id"]) == ("red", "member", "free")
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"  # an admin no more, anywhere
    place.set_up(ClaimRules(user_claim="", plan_claim="plan"))
    place.refused(place.issuer.sign_in(place.browser(), plan="gold"), 403)


def test_the_operator_may_let_an_issuer_name_users(place: Place) -> None:
    place.set_up(ClaimRules(user_claim="preferred_username", user_prefix="acme:"))
    browser = place.browser()
    place.issuer.sign_in(browser, preferred_username="mia")
    assert place.user(browser)["user_id"] == "acme:mia"
    for name, role, may in (("app", "member", True), ("lead", "admin", False), ("boss", "owner", False)):
        place.desk.make("/api/v1/users", user_id=f"acme:{name}", role=role)
        answer = place.issuer.sign_in(place.browser(), sub=name, email=f"{name}@acme.example", preferred_username=name)
        assert answer.status_code == (200 if may else 409), answer.text
    reused = {"sub": "another mia", "email": "new@acme.example", "preferred_username": "mia"}
    place.refused(place.issuer.sign_in(place.browser(), **reused), 409)  # whose name it was before


# --- GitHub


@pytest.fixture
def hub(place: Place) -> Place:
    says: dict[str, Any] = {
        "/user": {"id": 583231, "login": "octo", "name": None, "email": "public@elsewhere.example"},
        "/user/emails": [
            {"email": "old@acme.example", "primary": False, "verified": True},
            {"email": "octo@acme.example", "primary": True, "verified": True},
        ],
        "/user/orgs": [{"login": "acme"}],
    }

    def token(form: dict[str, str], _headers: Any) -> tuple[int, Any]:
        good = form["client_secret"] == CLIENT_SECRET and form["code"] != "bad" and form["code_verifier"]
        return 200, {"access_token": "gho_x"} if good else {"error": "bad_verification_code"}

    def api(path: str) -> Callable[[Any, Any], tuple[int, Any]]:
        return lambda _form, headers: (200, says[path]) if headers["authorization"] == "Bearer gho_x" else (401, {})

    place.issuer.answers |= {"/login/oauth/access_token": token, **{path: api(path) for path in says}}
    place.issuer.says = says  # type: ignore[attr-defined]
    return place


def test_github(hub: Place) -> None:
    browser = hub.browser()
    out = hub.issuer.set_out(browser, "hub")
    assert out.headers["location"].startswith(f"{hub.issuer.url}/login/oauth/authorize?")
    assert hub.issuer.come_back(browser, "hub", iss=None).status_code == 200
    user = hub.user(browser)
    assert (user["email"], user["name"]) == ("octo@acme.example", "octo")
    again = hub.browser()
    hub.issuer.says["/user"] |= {"login": "renamed"}  # type: ignore[attr-defined]
    hub.issuer.set_out(again, "hub")
    hub.issuer.come_back(again, "hub")
    assert hub.user(again)["user_id"] == user["user_id"]


def test_github_addresses_count_when_verified(hub: Place) -> None:
    hub.issuer.says["/user/emails"][1]["verified"] = False  # type: ignore[attr-defined]
    browser = hub.browser()
    hub.issuer.set_out(browser, "hub")
    hub.issuer.come_back(browser, "hub")
    assert hub.user(browser)["email"] == ""


@pytest.mark.parametrize("user", [{}, {"id": "583231"}, {"id": True}, {"id": None}, [], "octo"])
def test_github_says_nobody(hub: Place, user: Any) -> None:
    hub.issuer.says["/user"] = user  # type: ignore[attr-defined]
    browser = hub.browser()
    hub.issuer.set_out(browser, "hub")
    hub.refused(hub.issuer.come_back(browser, "hub"), 502)


def test_github_refuses_a_code(hub: Place) -> None:
    browser = hub.browser()
    hub.issuer.set_out(browser, "hub")
    hub.refused(hub.issuer.come_back(browser, "hub", code="bad"), 502)

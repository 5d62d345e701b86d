"""The pages that work without a script: forms from this browser alone, and nowhere but here afterwards."""

import asyncio
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import msgspec
import pytest

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import Desk, open_desk
from tests.planes.test_sign_in import MIA, OPEN, keeper_of, make
from tollhouse.controlplane.sign_in.inviting import first_owner
from tollhouse.controlplane.sign_in.sheet import FORM_COOKIE
from tollhouse.terms.sessions import SESSION_COOKIE

FORM = {"content-type": "application/x-www-form-urlencoded"}
OPTIONS = msgspec.structs.replace(OPEN, ways=(("acme", "ACME <Ltd>"),))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path, OPTIONS)
    yield opened
    opened.deps.database.close()


def hidden(page: httpx.Response) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    return {name: unescape(value) for name, value in found}


def post(browser: Browser, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
    return browser.ask("POST", path, content=urlencode(fields), headers={**FORM, **headers})


def fill_in(browser: Browser, path: str, **fields: str) -> httpx.Response:
    """Looks at the page, then sends its form."""
    page = browser.ask("GET", path)
    assert page.status_code == 200, page.text
    return post(browser, path.partition("?")[0], hidden(page) | fields)


@pytest.fixture
def mia(desk: Desk) -> dict[str, str]:
    make(desk)
    return {"email": MIA, "password": GOOD}


def test_sign_in_and_out(desk: Desk, mia: dict[str, str]) -> None:
    browser = Browser(desk)
    answer = fill_in(browser, "/sign-in", **mia)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    page = browser.ask("GET", "/sign-in")
    assert "You are signed in" in page.text
    assert browser.ask("GET", "/api/v1/session").status_code == 200
    forged = post(browser, "/sign-out", {"csrf": "x"})
    assert forged.status_code == 403
    assert post(browser, "/sign-out", hidden(page), origin="https://evil.example").status_code == 403
    out = post(browser, "/sign-out", hidden(page))
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert SESSION_COOKIE not in browser.cookies
    assert post(Browser(desk), "/sign-out", {}).status_code == 303  # nobody is signed in: nothing to end


def test_a_refusal_is_said_on_the_page(desk: Desk, mia: dict[str, str]) -> None:
    browser = Browser(desk)
    answer = fill_in(browser, "/sign-in", email=MIA + "<script>", password="not mine, surely")
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "<script>" not in answer.text
    assert "not mine" not in answer.text
    for _ in range(5):
        fill_in(browser, "/sign-in", **mia | {"password": "x"})
    locked = fill_in(browser, "/sign-in", **mia)
    assert (locked.status_code, locked.headers["retry-after"]) == (429, "30")
    assert "30 seconds" in locked.text


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up"])
def test_a_form_is_taken_from_its_own_browser_only(desk: Desk, mia: dict[str, str], path: str) -> None:
    theirs = Browser(desk)
    page = theirs.ask("GET", path)
    form = hidden(page) | mia | {"email": "new@acme.example"}
    victim = Browser(desk)
    assert post(victim, path, form).status_code == 403  # no cookie of the form
    victim.ask("GET", path)
    assert post(victim, path, form).status_code == 403  # another browser's
    assert post(theirs, path, form | {"form": ""}).status_code == 403
    assert post(theirs, path, form | {"form": theirs.cookies[FORM_COOKIE]}).status_code == 403
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://tollhouse"}):
        assert post(theirs, path, form, **headers).status_code == 403
    silent = Browser(desk, origin=None)
    silent.cookies = theirs.cookies
    assert post(silent, path, form, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert SESSION_COOKIE not in victim.cookies | theirs.cookies | silent.cookies


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\r\nlocation: https://evil.example",
        " https://evil.example",
        "javascript:alert(1)",
        "https:evil.example",
        "http://tollhouse:4000@evil.example",
        "",
    ],
)
def test_nobody_is_sent_elsewhere(desk: Desk, mia: dict[str, str], onward: str) -> None:
    browser = Browser(desk)
    page = browser.ask("GET", f"/sign-in?next={quote(onward)}")
    assert "evil" not in page.text
    answer = post(browser, "/sign-in", hidden(page) | mia | {"next": onward})
    assert answer.headers["location"] == "/sign-in"
    assert browser.ask("GET", f"/sign-in?next={quote(onward)}").status_code == 200  # signed in: still here


def test_a_path_of_ours_is_gone_on_to(desk: Desk, mia: dict[str, str]) -> None:
    browser = Browser(desk)
    onward = '/chat?a="b"&c=d#e'
    page = browser.ask("GET", f"/sign-in?next={quote(onward, safe='')}")
    assert f'href="/api/v1/sign-in/oidc/acme?next={quote(onward, safe="")}"' in page.text
    answer = post(browser, "/sign-in", hidden(page) | mia)
    assert answer.headers["location"] == quote(onward, safe="/?=&#")
    again = browser.ask("GET", f"/sign-in?next={quote(onward, safe='')}")
    assert (again.status_code, again.headers["location"]) == (303, quote(onward, safe="/?=&#"))


def test_sign_up_by_the_page(desk: Desk, tmp_path: Path) -> None:
    browser = Browser(desk)
    answer = fill_in(browser, "/sign-up", email=MIA, password="short", name='"><b>Mia')
    assert answer.status_code == 400
    assert "at least 12" in answer.text
    assert "<b>" not in answer.text
    assert fill_in(browser, "/sign-up", email=MIA, password=GOOD, name="Mia\x00\n").status_code == 303
    assert browser.done("GET", "/api/v1/session")["user"]["name"] == "Mia"
    (tmp_path / "closed").mkdir()
    closed = open_desk(tmp_path / "closed", msgspec.structs.replace(OPEN, sign_up="closed"))
    assert Browser(closed).ask("GET", "/sign-up").status_code == 403
    assert "Make an account" not in Browser(closed).ask("GET", "/sign-in").text
    closed.deps.database.close()


def test_set_up_by_the_page(desk: Desk) -> None:
    token = asyncio.run(first_owner(keeper_of(desk)))
    browser = Browser(desk)
    assert "Set up Tollhouse" in browser.ask("GET", f"/setup/{token}").text
    assert browser.ask("GET", f"/invitation/{token}").status_code == 404
    answer = fill_in(browser, f"/setup/{token}", email="boss@acme.example", password=GOOD)
    assert answer.status_code == 303
    assert browser.done("GET", "/api/v1/session")["user"]["role"] == "owner"
    assert browser.ask("GET", f"/setup/{token}").status_code == 404


def test_an_invitation_by_the_page(desk: Desk) -> None:
    made = desk.make("/api/v1/invitations", email="new@acme.example", role="viewer")
    path = f"/invitation/{made['token']}"
    browser = Browser(desk)
    page = browser.ask("GET", path)
    assert 'value="new@acme.example"' in page.text
    assert "You become viewer" in page.text
    assert fill_in(browser, path, password="new@acme.example").status_code == 400
    assert fill_in(browser, path, password=GOOD).status_code == 303
    assert browser.ask("GET", path).status_code == 404
    for gone in ("x", "A" * 43, "%00", "..%2f"):
        assert Browser(desk).ask("GET", f"/invitation/{gone}").status_code in (400, 404)


def test_a_new_password_by_the_page(desk: Desk, mia: dict[str, str]) -> None:
    user_id = desk.get("/api/v1/users")["items"][0]["user_id"]
    made = desk.make("/api/v1/invitations", user_id=user_id)
    assert (
        fill_in(Browser(desk), f"/invitation/{made['token']}", password="other plinth nine badgers").status_code == 303
    )
    Browser(desk).sign_in(MIA, "other plinth nine badgers")


def test_pages_carry_nothing_from_elsewhere_and_are_kept_nowhere(desk: Desk) -> None:
    for path in ("/sign-in", "/sign-up", f"/setup/{asyncio.run(first_owner(keeper_of(desk)))}", "/invitation/x"):
        page = Browser(desk).ask("GET", path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert "<script" not in page.text
        assert "http:" not in page.text
        assert "https:" not in page.text
        assert "ACME <Ltd>" not in page.text
        assert all(f'for="{name}"' in page.text for name in re.findall(r'<input id="(\w+)"', page.text))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "text/plain", 415),
        (b"a=b", "multipart/form-data; boundary=x", 415),
        (b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        ("&".join(f"a{number}=b" for number in range(30)).encode(), "application/x-www-form-urlencoded", 400),
        (b"a=\xff", "application/x-www-form-urlencoded", 400),
        (b"email=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
def test_what_is_no_form_of_ours(desk: Desk, body: bytes, kind: str, status: int) -> None:
    answer = Browser(desk).ask("POST", "/sign-in", content=body, headers={"content-type": kind})
    assert answer.status_code == status

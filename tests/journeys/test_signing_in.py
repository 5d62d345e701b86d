"""Signing in as people do it: the real gateway, a real browser, no script on our side."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser import Visit, blank
from tests.oidc_server import OidcServer
from tests.planes.browsing import GOOD
from tests.serving import Gateway

SETTINGS: dict[str, Any] = {"only_local": True, "local": {"enabled": False}, "sign_in": {"sign_up": "open"}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), SETTINGS).start()
    yield running
    running.close()


def at(gateway: Gateway, path: str, host: str = "127.0.0.1") -> str:
    return gateway.url.replace("127.0.0.1", host) + path


def who(visit: Visit, base: str) -> int:
    """The status of the session's own route, in a tab of its own."""
    page = visit.open_page()
    answer = page.goto(f"{base}/api/v1/session")
    page.close()
    assert answer is not None
    return answer.status


def fill(page: Page, **fields: str) -> None:
    for label, value in fields.items():
        page.get_by_label({"mail": "E-mail"}.get(label, label.capitalize())).fill(value)


def test_the_first_owner_sets_up_invites_and_signs_out(gateway: Gateway, browser: Any, tmp_path: Path) -> None:
    owner, guest = Visit(browser), Visit(browser)
    page = owner.page
    page.goto(gateway.setup_url)
    page.screenshot(path=tmp_path / "set-up.png")
    fill(page, name="Ola", mail="ola@acme.example", password="too short")
    page.get_by_role("button", name="Set up").click()
    assert "at least 12" in (page.get_by_role("alert").text_content() or "")
    fill(page, password=GOOD)
    page.get_by_role("button", name="Set up").click()
    page.get_by_role("heading", name="You are signed in").wait_for()
    assert page.url == at(gateway, "/sign-in")
    assert "__Host-tollhouse" not in page.evaluate("document.cookie")
    assert who(owner, gateway.url) == 200

    made = gateway.owner("POST", "/invitations", {"email": "new@acme.example", "role": "viewer"})
    guest.page.goto(made["link"])
    fill(guest.page, password=GOOD)
    guest.page.get_by_role("button", name="Make an account").click()
    guest.page.get_by_role("heading", name="You are signed in").wait_for()
    guest.page.goto(made["link"])
    assert guest.page.get_by_role("heading").text_content() == "This link is over"

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    assert who(owner, gateway.url) == 401
    page.goto(gateway.setup_url)
    assert page.get_by_role("heading").text_content() == "This link is over"
    assert gateway.setup_url.rpartition("/")[2] not in gateway.log.read_text()
    for visit in (owner, guest):
        visit.end()
        assert [error for error in visit.errors if "Failed to load resource" not in error] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_cookie_works_on_loopback_without_tls(gateway: Gateway, visit: Visit, host: str) -> None:
    page = visit.page
    page.goto(at(gateway, "/sign-up?next=/api/docs", host))
    fill(page, name="Mia", mail=f"mia@{host.replace('.', '-')}.example", password=GOOD)
    page.get_by_role("button", name="Make an account").click()
    page.wait_for_url("**/api/docs")
    cookie = next(one for one in visit.context.cookies() if one["name"] == "__Host-tollhouse")
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["domain"]) == (True, True, "Strict", host)
    assert who(visit, at(gateway, "", host)) == 200


def test_another_site_cannot_use_the_session(gateway: Gateway, visit: Visit) -> None:
    """A page of another site makes this browser send a form and a request: neither arrives with the cookie."""
    page = visit.page
    page.goto(at(gateway, "/sign-up", "localhost"))
    fill(page, name="Ada", mail="ada@acme.example", password=GOOD)
    page.get_by_role("button", name="Make an account").click()
    page.get_by_role("heading", name="You are signed in").wait_for()
    evil = visit.open_page()
    blank(evil, at(gateway, "/page", "127.0.0.1"))  # as good a foreign site as any
    target = at(gateway, "/api/v1/sessions", "localhost")
    assert (
        evil.evaluate(
            "url => fetch(url, {method: 'DELETE', credentials: 'include'}).then(() => 'sent', () => 'refused')", target
        )
        == "refused"
    )
    with evil.expect_navigation():
        evil.evaluate(
            """url => {
                const form = document.createElement('form')
                form.method = 'post'; form.action = url
                document.body.append(form); form.submit()
            }""",
            at(gateway, "/sign-out", "localhost"),
        )
    assert "csrf" in (evil.text_content("body") or "")
    assert who(visit, at(gateway, "", "localhost")) == 200


# --- at somebody else's


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcServer]:
    mia = {"email": "mia@acme.example", "email_verified": True, "name": "Mia Łukasik", "groups": ["staff"]}
    with OidcServer([], {"mia": mia, "eve": {"email": "eve@evil.example", "email_verified": True}}) as running:
        yield running


@pytest.fixture(scope="module")
def with_issuer(provider: OidcServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    row = {
        "name": "acme",
        "label": "ACME",
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_secret": "env:ACME_SECRET",
        "scopes": "openid email profile groups",
        "domains": ["acme.example"],
        "roles": {"staff": "viewer"},
    }
    settings = {**SETTINGS, "sign_in": {"issuers": [row]}}
    running = Gateway(tmp_path_factory.mktemp("with-issuer"), settings, ACME_SECRET=provider.client_secret).start()
    provider.configure(redirect_uris=[f"{running.url}/api/v1/sign-in/oidc/acme/callback"])
    yield running
    running.close()


@pytest.mark.parametrize("in_token", [True, False], ids=["claims in the ID token", "claims at userinfo"])
def test_sign_in_at_a_real_provider(with_issuer: Gateway, provider: OidcServer, visit: Visit, in_token: bool) -> None:
    provider.configure(id_token_claims=in_token)
    page = visit.page
    page.goto(at(with_issuer, "/sign-in?next=/api/docs"))
    page.get_by_role("link", name="Sign in with ACME").click()
    page.wait_for_url(f"{provider.issuer}/**")
    page.get_by_label("Account").fill("mia")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(at(with_issuer, "/api/docs"))
    assert who(visit, with_issuer.url) == 200
    (mia,) = [row for row in with_issuer.owner("GET", "/users")["items"] if row["email"] == "mia@acme.example"]
    assert (mia["name"], mia["role"]) == ("Mia Łukasik", "viewer")
    assert {cookie["name"] for cookie in visit.context.cookies(with_issuer.url)} >= {"__Host-tollhouse"}
    page.goto(at(with_issuer, "/sign-in"))
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in with ACME").wait_for()
    assert who(visit, with_issuer.url) == 401


def test_who_is_of_another_domain_stays_out(with_issuer: Gateway, provider: OidcServer, visit: Visit) -> None:
    page = visit.page
    page.goto(at(with_issuer, "/api/v1/sign-in/oidc/acme"))
    page.get_by_label("Account").fill("eve")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="You are not signed in").wait_for()
    assert "acme.example" in (page.get_by_role("alert").text_content() or "")
    assert who(visit, with_issuer.url) == 401


def test_a_code_is_taken_once(with_issuer: Gateway, provider: OidcServer, visit: Visit) -> None:
    """With the real provider: the same way back again, in the same browser and with its cookie of the trip."""
    page = visit.page
    page.goto(at(with_issuer, "/api/v1/sign-in/oidc/acme"))
    (trip,) = [cookie for cookie in visit.context.cookies(with_issuer.url) if cookie["name"].endswith("-trip")]
    page.get_by_label("Account").fill("mia")
    with page.expect_response(lambda answer: "/callback?" in answer.url) as back:
        page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(at(with_issuer, "/sign-in"))
    visit.context.add_cookies([trip])
    page.goto(back.value.url)
    page.get_by_role("heading", name="You are not signed in").wait_for()

"""The browser of the tests: real, alone on this machine, and each visitor a stranger to the others."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from tests.browser import Visit
from tests.oidc_server import OidcServer

PAGE = """<!doctype html><meta charset="utf-8"><title>Tollhouse</title>
<button onclick="document.querySelector('output').textContent = 'Grüße'">Greet</button><output></output>
<p style="font-family: sans-serif; display: inline-block">iiiiiiiiii</p>
<p style="font-family: sans-serif; display: inline-block">wwwwwwwwww</p>"""
COOKIE = "__Host-session=1; Secure; HttpOnly; SameSite=Strict; Path=/"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that gives every visitor a cookie and writes down the cookies that it gets back on the page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{PAGE}<pre>{self.headers.get('cookie', 'no cookie')}</pre>".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.send_header("set-cookie", COOKIE)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_it_shows_a_page_and_runs_its_script(visit: Visit, port: int, tmp_path: Path) -> None:
    visit.page.goto(f"http://localhost:{port}/")
    assert visit.page.title() == "Tollhouse"
    visit.page.get_by_role("button", name="Greet").click()
    assert visit.page.locator("output").text_content() == "Grüße"
    narrow, wide = (paragraph.bounding_box() for paragraph in visit.page.locator("p").all())
    assert narrow is not None
    assert wide is not None
    assert 0 < narrow["width"] * 1.5 < wide["width"], "letters have shapes: there is a font"
    assert "page-1.png" in visit.tell(tmp_path)
    assert (tmp_path / "page-1.png").read_bytes().startswith(b"\x89PNG")


def test_its_cookies_are_kept_for_one_visitor_and_one_site(visit: Visit, browser: Browser, port: int) -> None:
    for _ in range(2):
        visit.page.goto(f"http://console.localhost:{port}/")
    assert visit.page.locator("pre").text_content() == "__Host-session=1"
    assert visit.page.evaluate("document.cookie") == ""
    visit.page.goto(f"http://elsewhere.localhost:{port}/")
    assert visit.page.locator("pre").text_content() == "no cookie"
    stranger = Visit(browser)
    try:
        stranger.page.goto(f"http://console.localhost:{port}/")
        assert stranger.page.locator("pre").text_content() == "no cookie"
    finally:
        stranger.end()


def test_one_origin_may_not_read_another(visit: Visit, port: int) -> None:
    visit.page.goto(f"http://localhost:{port}/")
    script = "url => fetch(url).then(() => 'read', error => error.name)"
    assert visit.page.evaluate(script, f"http://127.0.0.1:{port}/") == "TypeError"
    assert any("blocked by CORS policy" in error for error in visit.errors)


def test_no_address_leads_beyond_this_machine(visit: Visit, port: int) -> None:
    visit.page.goto(f"http://localhost:{port}/")
    script = "url => fetch(url, {mode: 'no-cors'}).then(() => 'reached', error => error.name)"
    assert visit.page.evaluate(script, f"http://127.0.0.1:{port}/") == "reached"
    assert visit.page.evaluate(script, f"http://127.0.0.2:{port}/") == "TypeError"
    # Without the rules it would be ERR_CONNECTION_REFUSED.
    assert any("ERR_NAME_NOT_RESOLVED" in error for error in visit.errors)


def test_it_signs_in_at_an_openid_provider(visit: Visit, port: int) -> None:
    callback = f"http://console.localhost:{port}/callback"
    with OidcServer([callback], {"mia": {}}) as provider:
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": callback,
            "scope": "openid",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
        }
        visit.page.goto(f"{provider.issuer}/auth?{urlencode(query)}")
        visit.page.get_by_label("Account").fill("mia")
        visit.page.get_by_role("button", name="Sign in").click()
        visit.page.wait_for_url(f"{callback}?code=*")
        visit.page.goto(f"{provider.issuer}/auth?{urlencode(query)}")  # who is signed in there is not asked again
        visit.page.wait_for_url(f"{callback}?code=*")
    assert visit.errors == []

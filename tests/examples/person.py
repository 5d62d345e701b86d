"""Somebody before the page of `examples/web-app`, in real Chromium."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import ACT_S, Visit
from tests.examples.web_app import WebApp

PASSWORD = "lantern quarry mosaic ferret"
COOKIE = "__Host-tollhouse"
PROVIDERS_KEYS = re.compile(r"sk-ant-[a-z0-9]+-")
UNNAMED = """[...document.querySelectorAll('a, button, input, select, textarea, meter, nav, ol')]
    .filter((thing) => thing.checkVisibility())
    .filter((thing) => ![...(thing.labels ?? []), thing].some((name) => name.innerText?.trim()))
    .filter((thing) => !thing.ariaLabel && !thing.ariaLabelledByElements)
    .map((thing) => thing.outerHTML)"""
"""What a screen reader has no name for."""
STORES = """JSON.stringify([
    document.cookie, {...localStorage}, {...sessionStorage},
    [...document.querySelectorAll('input, textarea')].map((field) => field.value),
])"""

expect.set_options(timeout=ACT_S * 1000)


class Person:
    """Somebody before the page. What the browser gets is kept, to be looked through when they leave."""

    def __init__(self, browser: Browser, web_app: WebApp, name: str, directory: Path, *secrets: str) -> None:
        self.record = directory / f"{name}.har"
        self.visit = Visit(browser, self.record)
        self.page: Page = self.visit.page
        self.name = name
        self.email = f"{name.lower()}@example.com"
        self.user_id = ""
        self.url = web_app.url
        self.tokens: set[str] = set()
        self.secrets = {PASSWORD, *secrets}
        """What nothing that came to the browser may hold, beside the tokens of sessions."""
        self.held = ""
        """What the page held in itself when they left."""

    def press(self, name: str, role: Any = "button") -> None:
        self.page.get_by_role(role, name=name, exact=True).click()

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True).filter(visible=True)

    def sign_up(self) -> "Person":
        self.page.goto(self.url)
        self.press("Create an account", "link")
        expect(self.field("Name")).to_be_focused()
        self.field("Name").fill(self.name)
        self.field("E-mail").fill(self.email)
        self.field("Password").fill(PASSWORD)
        self.press("Create account")
        expect(self.field("Message")).to_be_focused()
        self.user_id = self.session()["user"]["user_id"]
        self.token()
        return self

    def session(self) -> dict[str, Any]:
        told: dict[str, Any] = self.page.evaluate("fetch('/api/v1/session').then((answer) => answer.json())")
        return told

    def token(self) -> str:
        """The session's, where it is kept: in a cookie that no script reads and no other site uses."""
        (cookie,) = [cookie for cookie in self.visit.context.cookies() if cookie.get("name") == COOKIE]
        assert (cookie.get("httpOnly"), cookie.get("secure"), cookie.get("sameSite")) == (True, True, "Strict")
        token: str = cookie["value"]
        self.tokens.add(token)
        return token

    def ask(self, question: str) -> Locator:
        """The place of the answer."""
        self.field("Message").fill(question)
        self.page.keyboard.press("Enter")
        return self.page.locator("#turns > li").last

    def quick(self) -> httpx.Client:
        """Calls as the page makes them, without waiting for it."""
        client = httpx.Client(base_url=self.url, cookies={COOKIE: self.token()}, trust_env=False, timeout=30)
        client.headers.update({"x-csrf-token": self.session()["csrf_token"], "origin": self.url})
        return client

    def leave(self) -> None:
        self.held = self.page.content() + self.page.evaluate(STORES)
        self.visit.end()

    def saw_no_secret(self) -> None:
        """Neither over the wire nor in the page. A session's token came in its cookie and nowhere else."""
        seen = [self.held]
        for entry in json.loads(self.record.read_text("utf-8"))["log"]["entries"]:
            answer = entry["response"]
            lines = [f"{line['name']}: {line['value']}" for line in answer["headers"]]
            seen += [entry["request"]["url"], *(line for line in lines if not line.lower().startswith("set-cookie:"))]
            body = answer["content"].get("text", "")
            seen.append(base64.b64decode(body).decode() if answer["content"].get("encoding") == "base64" else body)
        everything = "\n".join(seen)
        for there in (self.user_id, "csrf_token", "default-src 'none'", "export async function signOut"):
            assert there in everything, "all that came is looked through"
        for secret in self.secrets | self.tokens:
            assert secret not in everything
        assert "sk-th-" not in everything
        assert PROVIDERS_KEYS.search(everything) is None

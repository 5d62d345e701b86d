"""`examples/web-app` as its users see it: real Chromium, the example's own back end, settings and plans, the real
server. Only the provider is scripted, so that its key can be looked for, and answers are quick.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import ACT_S, Visit
from tests.conftest import FAILED
from tests.examples.web_app import HERE, WebApp
from tests.journeys.calls import MODEL, end_events, start_event, streamed, text_event
from tests.scripted import Gate, Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway

PLANS = HERE.parent / "plans.yaml"
PROVIDER_KEY = "sk-ant-api03-the-operators-own-key"
MASTER_KEY = "the-master-key-of-this-house-0123456789"
PASSWORD = "lantern quarry mosaic ferret"
FAILURE = reply(500, b'{"type": "error", "error": {"type": "api_error", "message": "Out of order."}}')
COOKIE = "__Host-tollhouse"
PER_MINUTE, PER_DAY = 10, 100
"""Of the plan `free`."""

UNNAMED = """[...document.querySelectorAll('a, button, input, textarea, meter, nav, ol')]
    .filter((thing) => thing.checkVisibility())
    .filter((thing) => ![...(thing.labels ?? []), thing].some((name) => name.innerText?.trim()))
    .filter((thing) => !thing.ariaLabel && !thing.ariaLabelledByElements)
    .map((thing) => thing.outerHTML)"""
"""What a screen reader has no name for."""

expect.set_options(timeout=ACT_S * 1000)


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The example's Tollhouse with its plans, before the scripted provider."""
    settings: dict[str, Any] = yaml.safe_load((HERE / "tollhouse.yaml").read_text())
    mock = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK_KEY"}
    settings["providers"] = [{**mock, "models": ["claude-*"]}]
    settings["local"] = {"enabled": False}
    settings["chat"]["model"] = MODEL
    settings["listen"].pop("port")
    directory = tmp_path_factory.mktemp("gateway")
    running = Gateway(directory, settings, MOCK_KEY=PROVIDER_KEY, TOLLHOUSE_MASTER_KEY=MASTER_KEY)
    try:
        running.start()
        applied = running.type("apply", "-f", str(PLANS), "--yes")
        assert applied.returncode == 0, applied.stderr
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def web_app(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebApp]:
    with WebApp(tmp_path_factory.mktemp("web-app"), gateway.url) as running:
        yield running


class Person:
    """Somebody before the page. What the browser gets is kept, to be looked through when they leave."""

    def __init__(self, browser: Browser, web_app: WebApp, name: str, directory: Path) -> None:
        self.record = directory / f"{name}.har"
        self.visit = Visit(browser, self.record)
        self.page: Page = self.visit.page
        self.name = name
        self.email = f"{name.lower()}@example.com"
        self.user_id = ""
        self.url = web_app.url
        self.tokens: set[str] = set()
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

    def leave(self) -> None:
        stores = "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
        self.held = self.page.content() + self.page.evaluate(stores)
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
        for secret in {PROVIDER_KEY, MASTER_KEY, PASSWORD, *self.tokens}:
            assert secret not in everything
        assert "sk-th-" not in everything
        assert "sk-ant-" not in everything


@pytest.fixture
def mia(browser: Browser, web_app: WebApp, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """A new user of this test alone, signed up and before the chat."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    person = Person(browser, web_app, f"Mia-{name}", tmp_path)
    try:
        yield person.sign_up()
        if request.node.stash.get(FAILED, False):
            print(person.visit.tell(tmp_path))
    finally:
        person.leave()
    person.saw_no_secret()


def says(provider: ScriptedUpstream, *texts: str, gate: Gate | None = None) -> None:
    """The provider answers with these pieces, waiting at the gate before the last."""
    provider.received.clear()

    def script(received: Received) -> list[Step]:
        assert received.header("x-api-key") == PROVIDER_KEY
        *first, last = [text_event(text) for text in texts]
        return streamed(start_event(), *first, *([gate] if gate else []), last, end_events())

    provider.script = script


def prompts(provider: ScriptedUpstream) -> list[str]:
    return [received.json["messages"][0]["content"] for received in provider.received]


def test_chat_streams_and_the_ledger_names_the_user(mia: Person, gateway: Gateway, provider: ScriptedUpstream) -> None:
    gate = Gate()
    says(provider, "Water finds ", "<b>its</b> way.", gate=gate)
    turn = mia.ask("What does water do?")
    expect(turn).to_contain_text("Water finds")
    assert gate.reached.wait(ACT_S)
    expect(turn).not_to_contain_text("way")
    expect(mia.page.get_by_role("button", name="Stop")).to_be_visible()
    gate.open()
    expect(turn).to_contain_text("Water finds <b>its</b> way.")  # what a model writes is text
    expect(mia.page.get_by_role("button", name="Send")).to_be_visible()

    says(provider, "Downhill.")
    expect(mia.ask("And where to?")).to_contain_text("Downhill.")
    sent = provider.last.json
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["model"] == MODEL
    assert sent["system"], "the operator's words, not the page's"
    assert sent["max_tokens"] <= 1000, "the plan's"
    assert provider.last.header("cookie") is None

    rows = gateway.entries(mia.user_id)
    assert [(row["user_id"], row["status"], row["kind"]) for row in rows] == [(mia.user_id, 200, "exact")] * 2
    assert [error for error in mia.visit.errors if "/api/v1/session" not in error] == []  # nobody is signed in at first


def test_stop_keeps_what_came_and_ends_the_call(mia: Person, provider: ScriptedUpstream) -> None:
    gate = Gate()
    says(provider, "A long ", "story.", gate=gate)
    turn = mia.ask("Tell me a story.")
    expect(turn).to_contain_text("A long")
    mia.press("Stop")
    expect(turn).to_contain_text("Stopped.")
    expect(turn).to_contain_text("A long")
    assert provider.last.gone.wait(ACT_S), "the provider writes no further"


def test_a_flow_of_two_steps_is_run_and_is_its_users_own(
    mia: Person, provider: ScriptedUpstream, web_app: WebApp, browser: Browser, tmp_path: Path
) -> None:
    mia.press("Flows", "link")
    mia.press("New flow")
    mia.field("Name of the flow").fill("Canal titles")
    mia.press("Save")
    expect(mia.page.get_by_text("Saved.")).to_be_visible()
    mia.page.reload()
    mia.press("Canal titles")

    says(provider, "1. Locks")
    mia.field("topic").fill("canals")
    mia.press("Run")
    answers = mia.page.get_by_role("list", name="Answers").get_by_role("listitem")
    expect(answers).to_have_count(2)
    expect(mia.page.get_by_role("button", name="Run")).to_be_visible()
    expect(answers.nth(1)).to_contain_text("1. Locks")
    first, second = prompts(provider)
    assert "three points about canals." in first
    assert second.endswith("1. Locks"), "the answer of the first step"

    says(provider, "2. Ships")
    well = provider.script
    provider.script = lambda received: [FAILURE] if len(provider.received) == 2 else well(received)
    mia.press("Run")
    expect(mia.page.get_by_role("alert").filter(visible=True)).to_contain_text("No answer came")
    mia.press("Try again")
    expect(answers.nth(1)).to_contain_text("2. Ships")
    assert len(provider.received) == 3, "it went on with the step that failed"
    assert prompts(provider)[1] == prompts(provider)[2]

    zoe = Person(browser, web_app, "Zoe", tmp_path)
    try:
        zoe.sign_up().press("Flows", "link")
        expect(zoe.page.get_by_text("No flow yet.")).to_be_visible()
    finally:
        zoe.leave()
    zoe.saw_no_secret()
    assert "Canal titles" not in zoe.record.read_text("utf-8")


def test_a_free_user_is_told_that_the_minute_is_full(mia: Person, provider: ScriptedUpstream) -> None:
    says(provider, "Yes.")
    for number in range(PER_MINUTE):
        expect(mia.ask(f"Question {number}")).to_contain_text("Yes.")
        expect(mia.page.get_by_role("button", name="Send")).to_be_visible()
    turn = mia.ask("One more")
    told = turn.get_by_role("alert")
    expect(told).to_contain_text("That was all for this minute")
    expect(told).to_contain_text(f"Your plan has {PER_MINUTE} requests per minute, and they are used.")
    expect(told).to_contain_text(re.compile(r"You can go on at .* \(in [1-6]?\d s\)"))
    expect(turn.get_by_role("button", name=re.compile(r"^Try again in \d+ s$"))).to_be_disabled()
    assert len(provider.received) == PER_MINUTE, "nothing more went out"
    mia.press("What is left", "link")
    expect(mia.page.get_by_role("main")).to_contain_text(f"0 of {PER_MINUTE} left")
    mia.press("Flows", "link")
    mia.press("New flow")
    mia.press("Save")
    expect(mia.page.get_by_text("Saved.")).to_be_visible()  # what needs no model goes on


def test_a_free_user_is_told_that_the_day_is_full(mia: Person, gateway: Gateway, provider: ScriptedUpstream) -> None:
    """The plan's own limit of the day, reached in earnest. At ten a minute that takes ten minutes: the operator makes
    an exception of this user's minute, as one may, and leaves the day to the plan.
    """
    gateway.owner("PATCH", f"/users/{mia.user_id}", {"limits": {"requests_per_minute": 1000}})
    says(provider, "Yes.")
    with httpx.Client(base_url=mia.url, cookies={COOKIE: mia.token()}, trust_env=False, timeout=30) as quick:
        quick.headers.update({"x-csrf-token": mia.session()["csrf_token"], "origin": mia.url})
        for _ in range(PER_DAY):
            answer = quick.post("/api/chat", json={"messages": [{"role": "user", "content": "?"}], "stream": True})
            assert answer.status_code == 200, answer.text
    told = mia.ask("One more").get_by_role("alert")
    expect(told).to_contain_text("That was all for today")
    expect(told).to_contain_text(f"Your plan has {PER_DAY} requests per day, and they are used. You can go on ")
    assert len(provider.received) == PER_DAY
    mia.press("What is left", "link")
    expect(mia.page.get_by_role("main")).to_contain_text(f"0 of {PER_DAY} left")


def test_a_budget_without_room_is_told_in_words(mia: Person, gateway: Gateway, provider: ScriptedUpstream) -> None:
    says(provider, "Yes.")
    gateway.owner(
        "POST", "/budgets", {"scope": "user", "scope_id": mia.user_id, "amount": "10 tokens/month", "edge": "refuse"}
    )
    told = mia.ask("Is there room?").get_by_role("alert")
    expect(told).to_contain_text("The budget has no room for this")
    expect(told).to_contain_text("Of your 10 tokens, too few are left for this. You can go on ")
    assert provider.received == []


def test_who_signs_out_is_out(mia: Person, provider: ScriptedUpstream) -> None:
    says(provider, "Yes.")
    expect(mia.ask("Are you there?")).to_contain_text("Yes.")
    token, csrf = mia.token(), mia.session()["csrf_token"]
    mia.press("Sign out")
    expect(mia.field("Password")).to_be_visible()
    assert "Are you there?" not in mia.page.content(), "the page forgets"
    shown = {"x-csrf-token": csrf, "origin": mia.url}
    with httpx.Client(base_url=mia.url, cookies={COOKIE: token}, headers=shown, trust_env=False, timeout=30) as kept:
        question = {"messages": [{"role": "user", "content": "?"}]}
        assert kept.post("/api/chat", json=question).status_code == 401
        assert kept.get("/flows").status_code == 401
        assert kept.get("/api/v1/me").status_code == 401

    mia.field("E-mail").fill(mia.email)
    mia.field("Password").fill("not her password")
    mia.press("Sign in")
    expect(mia.page.get_by_role("alert").filter(visible=True)).to_have_text(
        "The e-mail address or the password is wrong."
    )
    mia.field("Password").fill(PASSWORD)
    mia.press("Sign in")
    expect(mia.field("Message")).to_be_focused()
    assert mia.token() != token


def test_a_page_from_before_a_new_sign_in_says_so(mia: Person, provider: ScriptedUpstream) -> None:
    says(provider, "Yes.")
    old, mia.page = mia.page, mia.visit.open_page()
    mia.page.goto(mia.url)
    mia.press("Sign out")
    mia.field("E-mail").fill(mia.email)
    mia.field("Password").fill(PASSWORD)
    mia.press("Sign in")
    expect(mia.field("Message")).to_be_focused()
    mia.token()
    mia.page = old
    turn = mia.ask("Am I still here?")
    expect(turn).to_contain_text("This page is out of date")
    assert provider.received == []
    mia.press("Reload")
    expect(mia.field("Message")).to_be_focused()
    expect(mia.ask("And now?")).to_contain_text("Yes.")


def test_who_is_blocked_is_out_at_once(mia: Person, gateway: Gateway, provider: ScriptedUpstream) -> None:
    says(provider, "Yes.")
    expect(mia.ask("Are you there?")).to_contain_text("Yes.")
    gateway.owner("POST", f"/users/{mia.user_id}/block")
    turn = mia.ask("And now?")
    expect(turn).to_contain_text("You are signed out")
    assert len(provider.received) == 1
    mia.press("Sign in")
    expect(mia.field("Password")).to_be_visible()


def test_it_fits_a_narrow_screen_in_both_themes(mia: Person, provider: ScriptedUpstream, tmp_path: Path) -> None:
    says(provider, "Canals, " + "unbreakable" * 20)
    page = mia.page
    page.set_viewport_size({"width": 360, "height": 740})
    expect(mia.ask("What is long?")).to_contain_text("Canals")
    mia.press("Flows", "link")
    mia.press("New flow")
    themes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        for view in ("Chat", "Flows", "What is left"):
            mia.press(view, "link")
            expect(page.get_by_role("main")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == 360, view
            assert page.evaluate(UNNAMED) == [], view
            page.screenshot(path=tmp_path / f"{theme}-{view}.png", full_page=True)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 150) == (theme == "dark"), ground


def test_it_starts_by_one_command_with_the_embedded_model(tmp_path: Path) -> None:
    """As `make example` does, with nothing changed."""
    with WebApp(tmp_path) as web_app, web_app.client() as mia:
        person = {"email": "mia@example.com", "password": PASSWORD, "name": "Mia"}
        signed_up = mia.post("/api/v1/sign-up", json=person)
        assert signed_up.status_code == 201, signed_up.text
        assert signed_up.json()["user"]["plan_id"] == "free"
        shown = {
            "x-csrf-token": signed_up.json()["csrf_token"],
            "cookie": signed_up.headers["set-cookie"].split(";")[0],
        }
        question = {"messages": [{"role": "user", "content": "Say hello in three words."}], "stream": True}
        answer = mia.post("/api/chat", json=question, headers=shown)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "text_delta" in answer.text
        left = mia.get("/api/v1/me", headers=shown).json()["limits"][0]["left"]
        assert [(limit["limit"], limit["remaining"]) for limit in left] == [(10, 9), (100, 99)]

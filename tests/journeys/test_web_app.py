"""`examples/web-app` as its users see it: real Chromium, the example's own back end, settings and plans, the real
server. Only the provider is scripted, so that its key can be looked for, and answers are quick.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import ACT_S
from tests.conftest import FAILED
from tests.examples.person import COOKIE, PASSWORD, UNNAMED, Person
from tests.examples.web_app import MASTER_KEY, PROVIDER_KEY, WebApp, example_gateway
from tests.journeys.calls import MODEL, end_events, start_event, streamed, text_event
from tests.scripted import Gate, Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway

FAILURE = reply(500, b'{"type": "error", "error": {"type": "api_error", "message": "Out of order."}}')


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with example_gateway(tmp_path_factory.mktemp("gateway"), provider) as running:
        yield running


@pytest.fixture(scope="module")
def web_app(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebApp]:
    with WebApp(tmp_path_factory.mktemp("web-app"), gateway.url) as running:
        yield running


@pytest.fixture
def mia(browser: Browser, web_app: WebApp, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """A new user of this test alone, signed up and before the chat."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    person = Person(browser, web_app, f"Mia-{name}", tmp_path, PROVIDER_KEY, MASTER_KEY)
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

    zoe = Person(browser, web_app, "Zoe", tmp_path, PROVIDER_KEY, MASTER_KEY)
    try:
        zoe.sign_up().press("Flows", "link")
        expect(zoe.page.get_by_text("No flow yet.")).to_be_visible()
    finally:
        zoe.leave()
    zoe.saw_no_secret()
    assert "Canal titles" not in zoe.record.read_text("utf-8")


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
        for view in ("Chat", "Flows", "What is left", "Your key"):
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

"""The example's whole path in real Chromium, on either database: a free user who comes to the ends of their plan, the
operator who gives them another, their own provider key that pays from then on, and its removal.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.conftest import ENGINES, FAILED
from tests.examples.person import UNNAMED, Person
from tests.examples.web_app import MASTER_KEY, PROVIDER_KEY, WebApp, example_gateway
from tests.journeys.calls import end_events, start_event, streamed, text_event
from tests.postgres import Postgres
from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway, eventually

OWN_KEY = "sk-ant-api03-mias-own-0123456789-WXYZ"
SUBSCRIPTION = "sk-ant-oat01-mias-login-of-a-subscription-0123456789"
SECRETS = (PROVIDER_KEY, MASTER_KEY, OWN_KEY, SUBSCRIPTION)
PER_MINUTE, PER_DAY, LONGEST = 10, 100, 100_000
"""Of the plans `free` (a minute, a day) and `premium` (a minute, and how long an answer may be)."""
QUESTION = {"messages": [{"role": "user", "content": "?"}], "stream": True}


class Bank:
    """The provider: it answers, and keeps a bill for each credential it takes. A wrong one it repeats, as some do."""

    def __init__(self, provider: ScriptedUpstream) -> None:
        self.provider = provider
        self.takes = {PROVIDER_KEY, OWN_KEY}
        self.bills: Counter[str] = Counter()
        provider.script = self._answer

    def _answer(self, received: Received) -> list[Step]:
        key = received.header("x-api-key") or ""
        if key not in self.takes:
            # Of a chat it does not: those words reach their user as they are.
            repeated = f": {key}" if received.method == "GET" else ""
            error = {"type": "authentication_error", "message": f"invalid x-api-key{repeated}"}
            return [reply(401, json.dumps({"type": "error", "error": error}).encode())]
        if received.method == "GET":
            return [reply(200, b'{"data": [], "has_more": false}')]
        self.bills[key] += 1
        return streamed(start_event(), text_event("Yes."), end_events())


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module", params=ENGINES)
def gateway(
    request: pytest.FixtureRequest, provider: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    location = ""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        location = server.fresh_database()
    with example_gateway(tmp_path_factory.mktemp("gateway"), provider, location) as running:
        yield running


@pytest.fixture
def mia(
    browser: Browser,
    gateway: Gateway,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Iterator[Person]:
    with WebApp(tmp_path_factory.mktemp("web-app"), gateway.url) as web_app:
        person = Person(browser, web_app, "Mia", tmp_path, *SECRETS)
        try:
            yield person.sign_up()
            if request.node.stash.get(FAILED, False):
                print(person.visit.tell(tmp_path))
        finally:
            person.leave()
        person.saw_no_secret()


def test_from_the_free_plan_to_a_key_of_ones_own_and_back(
    mia: Person, gateway: Gateway, provider: ScriptedUpstream, tmp_path: Path
) -> None:
    bank = Bank(provider)
    comes_to_the_ends_of_the_free_plan(mia, gateway, bank)
    kept = look(mia, "What is left").inner_text()

    gateway.owner("PATCH", f"/users/{mia.user_id}", {"limits": {"requests_per_minute": None}, "plan_id": "premium"})
    page = look(mia, "Your key")
    expect(page).to_contain_text("You are on “premium”. Until you store a key of your own, “free” holds.")
    expect(page).to_contain_text("This application pays for your calls.")
    look(mia, "Chat")
    expect(mia.ask("Am I premium?").get_by_role("alert")).to_contain_text("That was all for today")

    pastes_a_login_of_a_subscription(mia)
    stores_and_tests_a_key(mia, bank)
    is_served_by_it(mia, gateway, bank)
    is_told_when_it_is_refused(mia, bank)
    comes_to_the_end_of_its_minute(mia, bank)
    fits_a_narrow_screen(mia, tmp_path)

    page = look(mia, "Your key")
    mia.press("Remove the key for mock")
    expect(page).to_contain_text("The key …WXYZ is removed.")
    expect(page).to_contain_text("This application pays for your calls.")
    expect(page.get_by_role("list", name="Stored keys")).to_have_count(0)
    look(mia, "Chat")
    expect(mia.ask("And now?").get_by_role("alert")).to_contain_text("That was all for today")
    assert bank.bills[PROVIDER_KEY] == PER_DAY, "none of this was paid by the operator's key"
    left = look(mia, "What is left")
    expect(left).to_contain_text(f"0 of {PER_DAY} left")
    for line in re.findall(r".*of 1,000,000 left", kept):
        expect(left).to_contain_text(line)  # nothing was taken from it

    for path in (*gateway.home.rglob("*"), gateway.log):
        if path.is_file():
            assert not [secret for secret in (OWN_KEY, SUBSCRIPTION) if secret.encode() in path.read_bytes()], path


def look(mia: Person, view: str) -> Locator:
    mia.press(view, "link")
    expect(mia.page.get_by_role("heading", name=view, level=1)).to_be_visible()
    return mia.page.get_by_role("main")


def quickly(mia: Person, times: int) -> None:
    with mia.quick() as quick:
        for _ in range(times):
            answer = quick.post("/api/chat", json=QUESTION)
            assert answer.status_code == 200, answer.text


def comes_to_the_ends_of_the_free_plan(mia: Person, gateway: Gateway, bank: Bank) -> None:
    page = look(mia, "Your key")
    expect(page).to_contain_text("This application pays for your calls.")
    expect(page).to_contain_text("Under your plan no key of your own is used")
    expect(page.get_by_label("API key")).to_be_hidden()

    look(mia, "Chat")
    expect(mia.ask("Is this free?")).to_contain_text("Yes.")
    assert bank.provider.last.json["max_tokens"] == 1000
    quickly(mia, PER_MINUTE - 1)
    turn = mia.ask("One more")
    told = turn.get_by_role("alert")
    expect(told).to_contain_text("That was all for this minute")
    expect(told).to_contain_text(f"Your plan has {PER_MINUTE} requests per minute, and they are used.")
    expect(told).to_contain_text(re.compile(r"You can go on at .* \(in [1-6]?\d s\)"))
    expect(turn.get_by_role("button", name=re.compile(r"^Try again in \d+ s$"))).to_be_disabled()
    assert bank.bills[PROVIDER_KEY] == PER_MINUTE, "nothing more went out"
    expect(look(mia, "What is left")).to_contain_text(f"0 of {PER_MINUTE} left")
    look(mia, "Flows")
    mia.press("New flow")
    mia.press("Save")
    expect(mia.page.get_by_text("Saved.")).to_be_visible()  # what needs no model goes on

    # At ten a minute the day takes ten minutes: the operator makes an exception of this user's minute, as one may.
    gateway.owner("PATCH", f"/users/{mia.user_id}", {"limits": {"requests_per_minute": 1000}})
    quickly(mia, PER_DAY - PER_MINUTE)
    look(mia, "Chat")
    told = mia.ask("One more").get_by_role("alert")
    expect(told).to_contain_text("That was all for today")
    expect(told).to_contain_text(f"Your plan has {PER_DAY} requests per day, and they are used. You can go on ")
    assert bank.bills[PROVIDER_KEY] == PER_DAY
    expect(look(mia, "What is left")).to_contain_text(f"0 of {PER_DAY} left")


def pastes_a_login_of_a_subscription(mia: Person) -> None:
    page = look(mia, "Your key")
    paste(mia, SUBSCRIPTION)
    told = page.get_by_role("alert").filter(visible=True)
    expect(told).to_contain_text("the login of a Claude subscription")
    expect(told).to_contain_text("Put in an API key made in the Claude Console")
    expect(mia.field("API key")).to_be_focused()
    expect(mia.field("API key")).to_have_value("")
    expect(page.get_by_role("listitem")).to_have_count(0)


def paste(mia: Person, secret: str) -> None:
    field = mia.field("API key")
    field.fill(secret)
    assert field.get_attribute("type") == "password"
    mia.press("Save key")


def stores_and_tests_a_key(mia: Person, bank: Bank) -> None:
    page = look(mia, "Your key")
    paste(mia, OWN_KEY)
    expect(page).to_contain_text("The key …WXYZ is stored.")
    card = page.get_by_role("list", name="Stored keys").get_by_role("listitem")
    expect(card).to_contain_text("mock · anthropic API key")
    expect(card).to_contain_text("…WXYZ")
    expect(card).to_contain_text("Not used yet.")
    expect(page).to_contain_text(
        f"Your own key for mock pays for your calls. An answer may have up to {LONGEST:,} tokens."
    )
    expect(page).to_contain_text("Your plan is “premium”.")
    expect(mia.field("API key")).to_have_value("")
    assert page.get_by_role("alert").filter(visible=True).count() == 0
    mia.press("Test the key for mock")
    expect(card).to_contain_text("mock takes this key.")
    assert (bank.provider.last.method, bank.provider.last.header("x-api-key")) == ("GET", OWN_KEY)


def is_served_by_it(mia: Person, gateway: Gateway, bank: Bank) -> None:
    look(mia, "Chat")
    turn = mia.ask("Who pays?")
    expect(turn).to_contain_text("Your own key paid.")
    expect(turn).to_contain_text("Yes.")
    assert bank.provider.last.json["max_tokens"] == LONGEST
    assert (bank.bills[OWN_KEY], bank.bills[PROVIDER_KEY]) == (1, PER_DAY)
    left = look(mia, "What is left")
    expect(left).to_contain_text(f"{PER_MINUTE - 1} of {PER_MINUTE} left")
    expect(left.get_by_role("listitem")).to_have_count(1)  # neither the day nor the tokens of the free plan
    rows = eventually(lambda: [row for row in gateway.entries(mia.user_id) if row["paid_by"] == "own"])
    assert [(row["status"], row["kind"], row["user_id"]) for row in rows] == [(200, "exact", mia.user_id)]

    def used() -> bool:
        (stored,) = gateway.owner("GET", "/credentials", user=mia.user_id)["items"]
        return stored["last_used_at"] is not None

    eventually(used)
    expect(look(mia, "Your key").get_by_role("listitem")).to_contain_text("Last used ")


def is_told_when_it_is_refused(mia: Person, bank: Bank) -> None:
    bank.takes.remove(OWN_KEY)
    look(mia, "Chat")
    turn = mia.ask("And with a revoked key?")
    expect(turn.get_by_role("alert")).to_contain_text("Your own key was refused")
    turn.get_by_role("button", name="Your key").click()
    card = mia.page.get_by_role("list", name="Stored keys").get_by_role("listitem")
    mia.press("Test the key for mock")
    expect(card).to_contain_text("mock answered 401: “invalid x-api-key: …”")
    bank.takes.add(OWN_KEY)
    mia.press("Test the key for mock")
    expect(card).to_contain_text("mock takes this key.")
    assert bank.bills[PROVIDER_KEY] == PER_DAY, "it is not paid by another key behind their back"


def comes_to_the_end_of_its_minute(mia: Person, bank: Bank) -> None:
    before = bank.bills[OWN_KEY]
    with mia.quick() as quick:
        # Some of them are of this minute already, or of the last: however long all of this took.
        statuses = [quick.post("/api/chat", json=QUESTION).status_code for _ in range(PER_MINUTE)]
    assert set(statuses) <= {200, 429}
    assert bank.bills[OWN_KEY] == before + statuses.count(200)
    look(mia, "Chat")
    told = mia.ask("One more").get_by_role("alert")
    expect(told).to_contain_text(f"Your plan has {PER_MINUTE} requests per minute, and they are used.")
    expect(look(mia, "What is left")).to_contain_text(f"0 of {PER_MINUTE} left")


def fits_a_narrow_screen(mia: Person, tmp_path: Path) -> None:
    page = mia.page
    page.set_viewport_size({"width": 360, "height": 740})
    look(mia, "Your key")
    expect(page.get_by_role("list", name="Stored keys").get_by_role("listitem")).to_be_visible()
    themes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(UNNAMED) == []
        page.screenshot(path=tmp_path / f"{theme}-key.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.screenshot(path=tmp_path / "wide-key.png", full_page=True)

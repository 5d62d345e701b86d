"""What a call may do by the plans of its key, its user and its team: on real sockets, by name of the plan."""

import json
from typing import Any

import msgspec
import pytest

from tests.planes.plane import FACTS, KEY, MESSAGE, SECRET, T0_NS, Running, ask, get, plane, post
from tests.planes.wire import Answer, Peer, reply, run, until, upstream
from tollhouse.rules import keys
from tollhouse.storage.image import given_budgets
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import (
    Budget,
    BudgetEdge,
    BudgetUnit,
    BudgetWindow,
    DirectoryImage,
    KeySecret,
    Limits,
    OwnKeyRule,
    Plan,
    PlanBudget,
    Team,
    User,
    VirtualKey,
)

FREE = Plan(
    "free",
    limits=Limits(requests_per_minute=10, requests_per_day=100),
    budgets=(PlanBudget(1_000_000, BudgetUnit.TOKENS, BudgetWindow.MONTH),),
    max_output_tokens=1_000,
)
PREMIUM = Plan(
    "premium",
    limits=Limits(requests_per_minute=10),
    max_output_tokens=100_000,
    own_key=OwnKeyRule.OWN_ONLY,
    without_own_key="free",
)
PAID = Plan("paid", budgets=(PlanBudget(50_000, BudgetUnit.TOKENS, BudgetWindow.MONTH),), max_output_tokens=8_000)
RED = Team("red", name="Red Pandas")
CHAT, RESPONSES = b"/v1/chat/completions", b"/v1/responses"


def people(
    plan: Plan | str | None = FREE,
    *,
    team: Team | None = None,
    budgets: tuple[Budget, ...] = (),
    of_key: Plan | None = None,
    plans: tuple[Plan, ...] = (FREE, PREMIUM, PAID),
) -> DirectoryImage:
    """Alice with one key, on a plan; as storage puts such an image together."""
    if isinstance(plan, Plan) and plan.plan_id not in {one.plan_id for one in plans}:
        plans = (*plans, plan)
    user = User("alice", plan_id=plan.plan_id if isinstance(plan, Plan) else plan, team_id=team and team.team_id)
    key = VirtualKey("key_1", "alice", plan_id=of_key and of_key.plan_id)
    teams = () if team is None else (team,)
    return DirectoryImage(
        users=(user,),
        keys=(key,),
        secrets=(KeySecret(keys.digest(SECRET, KEY), "key_1"),),
        budgets=(*budgets, *given_budgets(plans, teams, (user,), (key,), "UTC")),
        posted={},
        read_at_s=T0_NS // 10**9,
        teams=teams,
        plans=plans,
    )


class Book:
    """A provider that answers the same to all, and keeps what it was sent."""

    def __init__(self, answer: bytes = MESSAGE) -> None:
        self.bodies: list[Any] = []
        self.answer = answer

    async def __call__(self, peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            self.bodies.append(json.loads(body))
            peer.send(reply(self.answer))


async def call(running: Running, body: bytes, path: bytes = b"/v1/messages") -> Answer:
    async with await running.client() as client:
        client.send(post(body, path=path))
        return await client.answer()


def said(answer: Answer) -> Any:
    return json.loads(answer.body)["error"]


# ------------------------------------------------------------------------------------------------------- the output cap


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-x", "messages": [], **fields}).encode()


@pytest.mark.parametrize(
    ("path", "body", "field", "sent"),
    [
        (b"/v1/messages", ask(max_tokens=900), "max_tokens", 900),
        (b"/v1/messages", ask(max_tokens=4_000), "max_tokens", 1_000),
        (b"/v1/messages", b'{"model":"claude-x","messages":[]}', "max_tokens", 1_000),
        (CHAT, chat(), "max_completion_tokens", 1_000),
        (CHAT, chat(max_completion_tokens=4_000), "max_completion_tokens", 1_000),
        (CHAT, chat(max_tokens=4_000), "max_tokens", 1_000),
        (CHAT, chat(max_tokens=500, n=4), "max_tokens", 250),
        (CHAT, chat(max_completion_tokens=4_000, max_tokens=10), "max_completion_tokens", 1_000),
        (CHAT, chat(n_predict=-1), "n_predict", 1_000),
        (RESPONSES, b'{"model":"gpt-x","input":"hi"}', "max_output_tokens", 1_000),
        (RESPONSES, b'{"model":"gpt-x","input":"hi","max_output_tokens":4000}', "max_output_tokens", 1_000),
    ],
)
def test_the_plans_cap_is_what_the_provider_gets(path: bytes, body: bytes, field: str, sent: int) -> None:
    async def story() -> None:
        book = Book()
        async with upstream(book) as provider, plane(provider.port, people=people()) as running:
            answer = await call(running, body, path)
            assert answer.status == 200, answer.body
            assert book.bodies[0][field] == sent
            asked = json.loads(body).get(field)
            word = b"clamped" if asked is not None and asked >= 0 else b"injected"
            assert answer.headers.get(b"x-tollhouse-max-tokens") == (
                None if asked == sent else b"%d; %b" % (sent, word)
            )
            held = running.settlements[0].hold
            assert held.max_output_tokens == sent

    run(story())


def test_a_plan_that_refuses_says_what_is_open_to_it() -> None:
    async def story() -> None:
        strict = msgspec.structs.replace(FREE, edge=BudgetEdge.REFUSE)
        book = Book()
        async with upstream(book) as provider, plane(provider.port, people=people(strict, plans=(strict,))) as running:
            answer = await call(running, ask(max_tokens=4_000))
            assert answer.status == 400
            error = said(answer)
            assert (error["code"], error["scope"]) == ("max_tokens_over_plan", "plan free")
            assert error["details"]["max_output_tokens"] == 1_000
            assert "set max_tokens to 1,000 or less" in error["message"]
            assert running.refused[0].code == "max_tokens_over_plan"
            assert (await call(running, b'{"model":"claude-x","messages":[]}')).status == 200
            assert [body["max_tokens"] for body in book.bodies] == [1_000], "who asks for nothing gets the plan's"

    run(story())


def test_a_budget_cuts_what_the_plan_left_and_embeddings_have_no_cap() -> None:
    async def story() -> None:
        small = Budget("bud_1", ScopeKind.USER, "alice", 4_500, BudgetUnit.TOKENS)
        book = Book()
        async with (
            upstream(book) as provider,
            plane(provider.port, people=people(PAID, budgets=(small,)), facts=FACTS) as running,
        ):
            answer = await call(running, ask(max_tokens=200))
            assert answer.status == 200
            refused = await call(running, ask(max_tokens=9_000))
            assert refused.status == 402, "no cut goes below the smallest useful answer"
            book.answer = b'{"data":[],"usage":{"prompt_tokens":1}}'
            answer = await call(running, b'{"model":"gpt-x","input":"hi"}', b"/v1/embeddings")
            assert answer.status == 200
            assert "max_tokens" not in book.bodies[-1]

    run(story())


# ------------------------------------------------------------------------------------------------ the plans of the seed


def test_the_free_plan_is_ten_a_minute_a_hundred_a_day_and_a_million_tokens_a_month() -> None:
    async def story() -> None:
        book = Book()
        async with upstream(book) as provider, plane(provider.port, people=people()) as running:
            for number in range(10):
                answer = await call(running, ask())
                assert answer.status == 200
                assert answer.headers[b"x-ratelimit-remaining-requests"] == b"%d" % (9 - number)
            refused = await call(running, ask())
            assert (refused.status, said(refused)["code"], said(refused)["scope"]) == (
                429,
                "rate_limited",
                "user alice",
            )
            assert "10 requests per minute" in said(refused)["message"]
            assert answer.headers[b"x-tollhouse-budget"] == b"user alice"
            assert int(answer.headers[b"x-tollhouse-budget-remaining-tokens"]) < 1_000_000
            posted = sum(settlement.settle.tokens for settlement in running.settlements)
            (budget,) = running.snapshot.by_digest[keys.digest(SECRET, KEY)].principal.budgets
            standing = running.accounts.standing(budget)
            assert (standing.posted, standing.held) == (posted, 0)
            assert budget.budget_id == "plan:tokens:month:free@user:alice"

    run(story())


def test_a_hundred_a_day() -> None:
    async def story() -> None:
        slow = msgspec.structs.replace(FREE, limits=Limits(requests_per_day=100))
        async with upstream(Book()) as provider, plane(provider.port, people=people(slow, plans=(slow,))) as running:
            async with await running.client() as client:
                for _ in range(100):
                    client.send(post())
                    assert (await client.answer()).status == 200
            refused = await call(running, ask())
            assert refused.status == 429
            assert "100 requests per day" in said(refused)["message"]
            assert int(refused.headers[b"retry-after"]) > 0

    run(story())


def test_premium_without_a_key_of_its_own_is_free() -> None:
    async def story() -> None:
        book = Book()
        async with upstream(book) as provider, plane(provider.port, people=people(PREMIUM)) as running:
            for _ in range(10):
                assert (await call(running, ask(max_tokens=50_000))).status == 200
            assert {body["max_tokens"] for body in book.bodies} == {1_000}
            assert said(await call(running, ask()))["code"] == "rate_limited"
            principal = running.snapshot.by_digest[keys.digest(SECRET, KEY)].principal
            assert principal.plan_id == "free"
            assert [budget.budget_id for budget in principal.budgets] == ["plan:tokens:month:free@user:alice"]

    run(story())


def test_a_month_of_tokens_is_used_up_and_says_so() -> None:
    async def story() -> None:
        tiny = msgspec.structs.replace(FREE, budgets=(PlanBudget(6_000, BudgetUnit.TOKENS, BudgetWindow.MONTH),))
        dear = msgspec.json.encode({**json.loads(MESSAGE), "usage": {"input_tokens": 3_000, "output_tokens": 1_000}})
        async with (
            upstream(Book(dear)) as provider,
            plane(provider.port, people=people(tiny, plans=(tiny,))) as running,
        ):
            assert (await call(running, ask())).status == 200
            refused = await call(running, ask())
            assert (refused.status, said(refused)["scope"]) == (402, "user alice")
            assert "6,000 tokens per month of user alice" in said(refused)["message"]
            assert said(refused)["details"]["resets_at"] > T0_NS // 10**9

    run(story())


# ----------------------------------------------------------------------------------------------------- changes of plans


def test_a_plan_that_changes_reaches_its_holders_with_the_next_call() -> None:
    async def story() -> None:
        book = Book()
        async with (
            upstream(book) as provider,
            plane(provider.port, people=people()) as running,
            await running.client() as client,
        ):
            for changed, sent in ((FREE, 1_000), (msgspec.structs.replace(FREE, max_output_tokens=2_000), 2_000)):
                running.change(people(changed, plans=(changed,)))
                client.send(post(ask(max_tokens=9_000)))
                assert (await client.answer()).status == 200
                assert book.bodies[-1]["max_tokens"] == sent
            none_left = msgspec.structs.replace(FREE, budgets=(PlanBudget(20, BudgetUnit.TOKENS, BudgetWindow.MONTH),))
            running.change(people(none_left, plans=(none_left,)))
            client.send(post())
            refused = await client.answer()
            assert refused.status == 402
            assert said(refused)["details"]["spent"] == 30, "what was spent before the change still counts"

    run(story())


def test_who_changes_plans_within_a_month_finds_the_old_one_as_it_was() -> None:
    async def story() -> None:
        async with upstream(Book()) as provider, plane(provider.port, people=people()) as running:
            assert (await call(running, ask())).status == 200
            (free,) = running.snapshot.by_digest[keys.digest(SECRET, KEY)].principal.budgets
            running.change(people(PAID))
            answer = await call(running, ask())
            assert answer.headers[b"x-tollhouse-budget-remaining-tokens"].startswith(b"4")  # of 50,000
            (paid,) = running.snapshot.by_digest[keys.digest(SECRET, KEY)].principal.budgets
            running.change(people())
            assert running.accounts.standing(free).posted == running.accounts.standing(paid).posted == 15
            running.change(people(None))
            answer = await call(running, ask())
            assert (answer.status, answer.headers.get(b"x-tollhouse-budget")) == (200, None)
            assert running.accounts.standing(free).posted == 15

    run(story())


@pytest.mark.parametrize("now", ["moved", "revoked"])
def test_a_change_reaches_a_call_whose_body_is_still_on_its_way(now: str) -> None:
    """Else it would come in by what held before, and the limiter forget by it what was counted since."""

    async def story() -> None:
        once = msgspec.structs.replace(FREE, limits=Limits(requests_per_day=1))
        moved = people(once, plans=(once,))
        revoked = msgspec.structs.replace(people(None), keys=(VirtualKey("key_1", "alice", revoked_at_ns=1),))
        async with upstream(Book()) as provider, plane(provider.port, people=people(None)) as running:
            slow, wire = await running.client(), post()
            slow.send(wire[:-1])
            await until(lambda: any(edge.running is not None for edge in running.gate.edges))
            running.change(moved)
            assert (await call(running, ask())).status == 200
            if now == "revoked":
                running.change(revoked)
            slow.send(wire[-1:])
            refused = await slow.answer()
            assert refused.status == (401 if now == "revoked" else 429)
            assert len(running.settlements) == 1
            assert now == "revoked" or (await call(running, ask())).status == 429, "the day's count stands"

    run(story())


# ---------------------------------------------------------------------------------------------------------------- teams


def test_what_binds_a_team_names_it() -> None:
    async def story() -> None:
        budget = Budget("bud_red", ScopeKind.TEAM, "red", 10 * 10**6, scope_name="Red Pandas")
        team = msgspec.structs.replace(RED, limits=Limits(requests_per_minute=2))
        image = people(None, team=team, budgets=(budget,))
        async with upstream(Book()) as provider, plane(provider.port, people=image) as running:
            refused = await call(running, ask(max_tokens=5_000))
            assert (refused.status, said(refused)["scope"]) == (402, "team Red Pandas")
            running.change(people(None, team=team, budgets=(msgspec.structs.replace(budget, limit=10**12),)))
            answer = await call(running, ask())
            assert answer.headers[b"x-tollhouse-budget"] == b"team Red Pandas"
            assert running.settlements[0].hold.team_id == "red"
            assert (await call(running, ask())).status == 429, "the refused call took a place too, as every one does"
            assert said(await call(running, ask()))["scope"] == "team red"

    run(story())


def test_nobody_of_a_blocked_team_is_let_in() -> None:
    async def story() -> None:
        blocked = msgspec.structs.replace(RED, blocked_at_ns=1)
        async with plane(people=people(None, team=RED)) as running, await running.client() as client:
            client.send(get(b"/v1/models"))
            assert (await client.answer(b"GET")).status == 200
            running.change(people(None, team=blocked))
            client.send(post())
            refused = await client.answer()
            assert (refused.status, said(refused)["code"]) == (401, "team_blocked")
            assert "The team Red Pandas is blocked" in said(refused)["message"]
            assert running.refused[-1].user_id == "alice"

    run(story())

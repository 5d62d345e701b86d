"""`tollhouse.client` against a running gateway, and against servers that fail as servers do."""

import asyncio
import inspect
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.journeys.calls import answer, body
from tests.scripted import ScriptedUpstream
from tests.serving import Gateway
from tollhouse import client
from tollhouse.client import (
    AsyncClient,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerFailed,
    Unauthorized,
    Unreachable,
    budgets,
    keys,
    plans,
    providers,
    reports,
    teams,
    users,
)
from tollhouse.client.shapes import Limits
from tollhouse.controlplane.permissions import PERMISSIONS

MASTER_KEY = "the-owner-of-the-client-tests"
NOUNS = (users, keys, teams, plans, budgets, reports, providers)


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedUpstream) -> Iterator[Gateway]:
    mock = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "models": ["claude-*"]}
    settings = {"local": {"enabled": False}, "providers": [mock]}
    gateway = Gateway(tmp_path_factory.mktemp("client"), settings, TOLLHOUSE_MASTER_KEY=MASTER_KEY)
    try:
        yield gateway.start()
    finally:
        gateway.close()


def test_an_application_walks_through_everything(owned: Gateway, upstream: ScriptedUpstream) -> None:
    with Client(f"{owned.url}/v1", MASTER_KEY) as tollhouse:
        plan = tollhouse(plans.create("free", limits=Limits(requests_per_minute=10), budgets=["1M tokens/month"]))
        assert (plan.limits.requests_per_minute, plan.budgets[0].limit) == (10, Decimal(1_000_000))
        assert tollhouse(plans.edit("free", max_output_tokens=1_000)).max_output_tokens == 1_000
        team = tollhouse(teams.create("red", budget="100/month"))
        assert team.budgets[0].remaining == Decimal(100)
        user = tollhouse(users.create("a/b c", email="a@example.org", plan_id="free", team_id="red"))
        assert (user.user_id, user.plan_id, user.teams[0].role) == ("a/b c", "free", "member")
        assert [one.user_id for one in tollhouse.all(teams.members("red"))] == ["a/b c"]
        assert tollhouse(teams.put_member("red", "a/b c", role="admin")).role == "admin"
        made = tollhouse(keys.create("a/b c", name="ci", models=["claude-*"], budget="5/day"))
        assert made.key not in repr(made)
        assert made.budgets[0].limit == Decimal(5)
        assert tollhouse(keys.edit(made.key_id, limits={"requests_per_minute": 3})).limits.requests_per_minute == 3
        assert tollhouse(budgets.edit(made.budgets[0].budget_id, amount="6")).limit == Decimal(6)
        with pytest.raises(Conflict) as taken:
            tollhouse(users.create("a/b c"))
        assert (taken.value.code, taken.value.field) == ("user_exists", "user_id")

        upstream.script = lambda received: [answer(1_000, 20)]
        called = httpx.post(f"{owned.url}/v1/messages", json=body(), headers={"x-api-key": made.key}, trust_env=False)
        assert called.status_code == 200
        with Client(owned.url, made.key) as mine:
            me = mine(reports.me())
            assert (me.user.user_id, me.team and me.team.team_id, me.max_output_tokens) == ("a/b c", "red", 1_000)
            assert mine(reports.request(called.headers["x-tollhouse-request-id"])).amount_usd > 0
        [row] = tollhouse(reports.usage("user", since="1d")).rows
        assert (row.group, row.calls) == ("a/b c", 1)
        assert [one.status for one in tollhouse.all(reports.requests(user="a/b c"))] == [200]
        assert [one.name for one in tollhouse(providers.in_use()).items] == ["mock"]
        assert len(tollhouse(keys.mint("a/b c", ttl="15m")).key) == len(made.key)
        assert tollhouse(keys.rotate(made.key_id, grace="1h")).key != made.key
        assert tollhouse(keys.revoke(made.key_id)).status == "revoked"
        assert tollhouse(users.block("a/b c")).status == "blocked"
        tollhouse(teams.remove_member("red", "a/b c"))
        tollhouse(users.edit("a/b c", plan_id=None))
        assert tollhouse(plans.remove("free")) is None
        done = tollhouse(providers.declare("app.yaml", {"users": [{"user_id": "declared"}]}, dry_run=True))
        assert (done.summary["create"], done.changes[0].name) == (1, "declared")


def test_asked_asynchronously_it_is_the_same(owned: Gateway) -> None:
    async def go() -> list[str]:
        async with AsyncClient(owned.url, MASTER_KEY) as tollhouse:
            for number in range(5):
                await tollhouse(users.create(f"async-{number}"))
            with pytest.raises(NotFound):
                await tollhouse(users.get("nobody"))
            return [user.user_id async for user in tollhouse.all(users.find(), page=2)]

    found = asyncio.run(go())
    assert [name for name in found if name.startswith("async-")] == [f"async-{number}" for number in range(5)]


def test_what_goes_wrong_is_an_error_of_its_kind(owned: Gateway) -> None:
    with Client(owned.url, MASTER_KEY) as tollhouse:
        with pytest.raises(InvalidRequest) as wrong:
            tollhouse(users.create("x", budget="a lot", email="a\nb"))
        assert wrong.value.status == 400
        assert wrong.value.errors[0][0] == "email", wrong.value.problem
    with Client(owned.url, "wrong") as stranger, pytest.raises(Unauthorized):
        stranger(users.get("alice"))
    nowhere = Client("http://127.0.0.1:9", retries=0)
    with nowhere, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        nowhere(users.get("alice"))


class Server:
    """A written server: answers in turn, and what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        return Client("http://x", http=httpx.Client(transport=httpx.MockTransport(self), base_url="http://x"))


USER = {
    **dict.fromkeys(("name", "email"), ""),
    "user_id": "a",
    "role": "member",
    "status": "active",
    "limits": {},
    "metadata": {},
}


def problem(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": "no", "code": "why", "status": status}, headers=headers)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr("tollhouse.client.http.time.sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("first", [problem(503), problem(429), problem(502), httpx.ReadError("cut")], ids=str)
def test_what_may_be_done_twice_is_sent_again_as_the_same(first: Any, no_pause: list[float]) -> None:
    server = Server(first, httpx.Response(201, json=USER))
    server.client()(users.create("a"))
    keys_shown = [request.headers["idempotency-key"] for request in server.asked]
    assert len(keys_shown) == 2
    assert keys_shown[0] == keys_shown[1]
    assert server.asked[0].content == server.asked[1].content
    assert no_pause == [0.2]
    again = Server(httpx.Response(201, json=USER), httpx.Response(201, json=USER))
    for _ in range(2):
        again.client()(users.create("a"))
    assert len({request.headers["idempotency-key"] for request in again.asked}) == 2


def test_a_conditional_change_is_not_sent_again_when_it_may_have_been_made() -> None:
    server = Server(httpx.ReadError("cut"))
    with pytest.raises(Unreachable):
        server.client()(users.edit("a", name="b", if_match='"1"'))
    assert [request.headers["if-match"] for request in server.asked] == ['"1"']
    server = Server(httpx.ConnectError("no"), httpx.Response(200, json=USER))
    server.client()(users.edit("a", name="b", if_match='"1"'))  # no connection: it cannot have been made


def test_a_server_that_says_when_is_believed(no_pause: list[float]) -> None:
    server = Server(problem(429, **{"retry-after": "3"}), problem(429, **{"retry-after": "60"}))
    with pytest.raises(RateLimited) as limited:
        server.client()(users.get("a"))
    assert (no_pause, limited.value.retry_after_s) == ([3.0], 60.0)


def test_it_gives_up(no_pause: list[float]) -> None:
    server = Server(*(problem(503) for _ in range(5)))
    with pytest.raises(ServerFailed) as failed:
        server.client()(users.get("a"))
    assert (len(server.asked), no_pause, failed.value.code) == (3, [0.2, 0.4], "why")


@pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b'{"user_id":1}'])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_of_somebody_else_is_said_so(status: int, content: bytes) -> None:
    with pytest.raises(ServerFailed) as failed:
        Server(httpx.Response(status, content=content)).client()(users.get("a"))
    assert failed.value.code == "not_tollhouse"


def test_only_what_is_given_is_sent_and_none_takes_away() -> None:
    ask = users.edit("a", plan_id=None, limits={"requests_per_minute": None})
    assert ask.body == {"plan_id": None, "limits": {"requests_per_minute": None}}
    made = users.create("a", limits=Limits(requests_per_day=5))
    assert msgspec.json.encode(made.body) == b'{"user_id":"a","limits":{"requests_per_day":5}}'


def test_every_function_asks_a_route_that_is_there() -> None:
    """A path's parameters are given by name, so that each is seen to be where it belongs."""
    routes = {(method, re.sub(r"\{(\w+)(:path)?\}", "", path)) for method, path in PERMISSIONS}
    for noun in NOUNS:
        for name, function in vars(noun).items():
            if not inspect.isfunction(function) or function.__module__ != noun.__name__ or name.startswith("_"):
                continue
            needed = [one for one in inspect.signature(function).parameters.values() if one.default is one.empty]
            ask = function(**{one.name: {} if one.name == "resources" else "ZZ" for one in needed})
            method = ask.method if isinstance(ask, client.Ask) else "GET"
            assert (method, ask.path.replace("ZZ", "")) in routes, f"{noun.__name__}.{name}: {method} {ask.path}"


def test_it_stands_alone() -> None:
    folder = Path(client.__file__).parent
    imports = re.findall(
        r"^from (tollhouse\S*)", "\n".join(path.read_text() for path in folder.glob("*.py")), re.MULTILINE
    )
    assert {name.split(".")[1] for name in imports} == {"client"}
    assert (folder.parent / "py.typed").exists()

"""Whose key pays for a call, under whose limits: every rule of a plan with every fate of the own key and the shared
one, against a provider that keeps a bill for each credential.
"""

import asyncio
import itertools
import json
import time
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.dialects.recorded import recording
from tests.planes.control import settled
from tests.planes.plane import KEY, MESSAGE, MESSAGE_NUSD, SECRET, T0_NS, Running, ask, plane, post
from tests.planes.test_page_chat import HELLO, PINNED
from tests.planes.test_page_chat import call as talk
from tests.planes.wire import STREAM_HEAD, Answer, Peer, chunk, reply, run, until, upstream
from tollhouse.app.opening import KeyOpener
from tollhouse.app.restoring import restore_limits
from tollhouse.dataplane.forward_auth import who
from tollhouse.dataplane.payers import Payers
from tollhouse.dataplane.snapshot import SIGNED_IN, Snapshot
from tollhouse.dataplane.walk import Walk
from tollhouse.limiter.memory import MemoryLimiter
from tollhouse.rules import keys
from tollhouse.settings import Settings
from tollhouse.storage.database import Database
from tollhouse.storage.image import given_budgets
from tollhouse.storage.ledger import ship
from tollhouse.terms.credentials import Credential
from tollhouse.terms.events import HoldRecord, SettleKind
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import (
    NO_LIMITS,
    Budget,
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
from tollhouse.vault import Binding, MasterKeys, Vault

VAULT = Vault(MasterKeys({1: b"m" * 32}))
OTHER_VAULT = Vault(MasterKeys({1: b"o" * 32}))
SHARED, OWN, ASSIGNED = "upstream-secret", "alices-own-secret", "an-assigned-secret"
FREE = Plan("free", limits=Limits(requests_per_minute=100), max_output_tokens=1_000)
PREMIUM = Plan(
    "premium",
    limits=Limits(requests_per_minute=50),
    max_output_tokens=100_000,
    own_key=OwnKeyRule.OWN_FIRST,
    without_own_key="free",
)
MONTHLY = PlanBudget(10**9, BudgetUnit.USD, BudgetWindow.MONTH)
OF_ALICE = Budget("bud_alice", ScopeKind.USER, "alice", 100 * 10**9)
OF_ALL = Budget("bud_all", ScopeKind.ORGANISATION, "default", 1_000 * 10**9)
edited = msgspec.structs.replace


class Bank:
    """A provider that knows who may call it, and bills them. `refuses`: the status by which it refuses a credential."""

    def __init__(self) -> None:
        self.refuses: dict[str, int] = {}
        self.calls: list[tuple[str, int]] = []
        """By which credential, and what it was answered."""
        self.bodies: list[Any] = []
        self.stream = b""
        self.gate: asyncio.Event | None = None

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            shown = [line[11:].decode() for line in head.split(b"\r\n") if line.lower().startswith(b"x-api-key: ")]
            assert len(shown) == 1, shown
            status = self.refuses.get(shown[0], 200)
            self.calls.append((shown[0], status))
            self.bodies.append(json.loads(body))
            if self.gate is not None:
                await self.gate.wait()
            if status != 200:
                peer.send(reply(b'{"type":"error","error":{"type":"x","message":"no"}}', status=status))
            elif self.stream:
                peer.send(STREAM_HEAD, chunk(self.stream), b"0\r\n\r\n")
            else:
                peer.send(reply(MESSAGE))


def credential(secret: str, port: int, *, vault: Vault = VAULT, host: str = "", **fields: Any) -> Credential:
    """Alice's own, unless it is said to be another's; sealed as storage has it."""
    facts = {"credential_id": "own_1", "user_id": "alice", "org_id": "default"} | fields
    one = Credential(**facts, provider="mock", host=host or f"http://127.0.0.1:{port}")
    binding = Binding(one.org_id, one.credential_id, one.provider, one.host)
    return edited(one, sealed=vault.seal(secret.encode(), binding))


def people(
    *plans: Plan,
    credentials: tuple[Credential, ...] = (),
    assigned: tuple[tuple[str, str], ...] = (),
    budgets: tuple[Budget, ...] = (OF_ALICE, OF_ALL),
    limits: Limits = NO_LIMITS,
    team: Team | None = None,
    of_key: str | None = None,
) -> DirectoryImage:
    """Alice with one key, on the first of these plans."""
    user = User("alice", plan_id=plans[0].plan_id if plans else None, limits=limits, team_id=team and team.team_id)
    key = VirtualKey("key_1", "alice", plan_id=of_key)
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
        credentials=credentials,
        assigned=assigned,
    )


async def call(running: Running, body: bytes = b"", path: bytes = b"/v1/messages") -> Answer:
    async with await running.client() as client:
        client.send(post(body or ask(), path=path))
        return await client.answer()


def said(answer: Answer) -> Any:
    return json.loads(answer.body)["error"]


def posted(running: Running, budget: Budget) -> int:
    return running.accounts.standing(budget).posted


def given(people: DirectoryImage, plan: Plan) -> Budget:
    """The budget that alice has by this plan."""
    return next(one for one in people.budgets if one.owned_by == f"plan:{plan.plan_id}")


# --------------------------------------------------------------------------------- every rule with every fate of both


class Case(NamedTuple):
    rule: OwnKeyRule
    fall_back: bool
    without: str
    own: str
    shared: str


class End(NamedTuple):
    """What the client gets: the status, our code if it is a refusal of ours, whose key it was; and who was called."""

    status: int
    code: str
    payer: str
    called: tuple[str, ...]


def law(case: Case) -> End:
    """The contract, told a second time."""
    own_there = case.own != "absent"
    own = {"present": End(200, "", "own", (OWN,)), "refused": End(401, "", "own", (OWN,))}.get(case.own)
    unusable = End(503, "own_key_unusable", "", ())
    shared = {
        "ok": End(200, "", "shared", (SHARED,)),
        "limit": End(429, "rate_limited", "", ()),
        "budget": End(402, "budget_exhausted", "", ()),
        "refused": End(403, "", "shared", (SHARED,)),
    }[case.shared]
    if case.rule is OwnKeyRule.NEVER:
        return shared
    if case.rule is OwnKeyRule.SHARED_FIRST:
        if shared.status == 200 or own is None:
            return shared
        return End(own.status, own.code, own.payer, (*shared.called, *own.called))
    if not own_there:
        if case.rule is OwnKeyRule.OWN_ONLY and not case.without:
            return End(402, "own_key_required", "", ())
        return shared
    if case.fall_back and case.own != "present":
        before = own.called if own else ()
        return End(shared.status, shared.code, shared.payer, (*before, *shared.called))
    return own or unusable


RULES = [(rule, False) for rule in OwnKeyRule] + [(OwnKeyRule.OWN_FIRST, True)]
OWNS, SHAREDS = ("present", "absent", "refused", "unopenable"), ("ok", "limit", "budget", "refused")


def scene(case: Case, port: int, bank: Bank) -> DirectoryImage:
    """The shared key's limits stand in the plan that holds while it pays."""
    bank.calls.clear()
    bank.refuses = {OWN: 401} if case.own == "refused" else {}
    if case.shared == "refused":
        bank.refuses[SHARED] = 403
    tight: dict[str, Any] = {}
    if case.shared == "limit":
        tight["limits"] = Limits(requests_per_minute=0)
    elif case.shared == "budget":
        tight["budgets"] = (PlanBudget(0, BudgetUnit.USD, BudgetWindow.MONTH),)
    first = Plan("premium", own_key=case.rule, fall_back=case.fall_back, without_own_key=case.without)
    plans = (
        (first, Plan("free", **tight))
        if case.without and case.rule is not OwnKeyRule.NEVER
        else (edited(first, **tight),)
    )
    vault = OTHER_VAULT if case.own == "unopenable" else VAULT
    stored = () if case.own == "absent" else (credential(OWN, port, vault=vault),)
    return people(*plans, credentials=stored)


def prove(rule: OwnKeyRule, fall_back: bool) -> None:
    """Play all that may happen under a rule. Raises AssertionError with the case that went otherwise."""

    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            for without, own, shared in itertools.product(("free", ""), OWNS, SHAREDS):
                if without or shared != "limit":  # the same limit would hold for the own key, too
                    await play(Case(rule, fall_back, without, own, shared), bank, provider.port, running)

    run(story())


async def play(case: Case, bank: Bank, port: int, running: Running) -> None:
    running.settlements.clear()
    running.journal.records.clear()
    running.change(scene(case, port, bank))
    before = posted(running, OF_ALICE)
    answer = await call(running)
    end = law(case)
    payer = answer.headers.get(b"x-tollhouse-paid-by", b"").decode()
    code = "" if payer else said(answer)["code"]
    assert End(answer.status, code, payer, tuple(name for name, _ in bank.calls)) == end, case
    assert not running.accounts.holds, case
    assert running.accounts.standing(OF_ALICE).held == 0, case
    served = end.status == 200
    paid_by_operator = MESSAGE_NUSD if served and end.payer == "shared" else 0
    assert posted(running, OF_ALICE) - before == paid_by_operator, case
    holds = [record for record in running.journal.records if isinstance(record, HoldRecord)]
    assert [hold.attempt_id[-2:] for hold in holds] == [f"-{n + 1}" for n in range(len(holds))], case
    assert [hold.credential_id for hold in holds] == ["own_1" if name == OWN else "" for name in end.called], case
    kinds = [one.settle.kind for one in running.settlements]
    assert kinds == [SettleKind.VOIDED] * (len(holds) - served) + [SettleKind.EXACT] * served, case


@pytest.mark.parametrize(("rule", "fall_back"), RULES)
def test_whose_key_pays(rule: OwnKeyRule, fall_back: bool) -> None:
    prove(rule, fall_back)


def hold_left_behind(real: Any) -> Any:
    def wrong(self: Walk, said: Any) -> None:
        self.exchange.hold = None
        real(self, said)

    return wrong


def shared_call_under_the_own_face(real: Any) -> Any:
    return lambda self, attempt, opener: (self.own_face, real(self, attempt, opener)[1])


def falls_back_whatever_the_plan_says(real: Any) -> Any:
    def wrong(self: Payers, *facts: Any) -> None:
        real(self, *facts)
        self.falls_back = True

    return wrong


def refused_key_tried_no_further(real: Any) -> Any:
    return lambda self, relay: False


def attempts_of_one_id(real: Any) -> Any:
    def wrong(self: Walk, tokens_estimate: int) -> Any:
        self._number = 1
        return real(self, tokens_estimate)

    return wrong


BUGS: tuple[tuple[Any, str, Any], ...] = (
    (Walk, "_end_way", hold_left_behind),
    (Payers, "_shared", shared_call_under_the_own_face),
    (Payers, "__init__", falls_back_whatever_the_plan_says),
    (Walk, "_goes_on_after", refused_key_tried_no_further),
    (Walk, "_take", attempts_of_one_id),
)


@pytest.mark.parametrize(("owner", "name", "wrong"), BUGS, ids=[bug[2].__name__ for bug in BUGS])
def test_a_seeded_bug_is_caught(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any) -> None:
    monkeypatch.setattr(owner, name, wrong(getattr(owner, name)))
    caught = []
    for rule, fall_back in RULES:
        try:
            prove(rule, fall_back)
        except AssertionError as error:
            caught.append(str(error))
            break
    assert caught, "no case shows it"


# ------------------------------------------------------------------------------------------------------------- money


@pytest.mark.parametrize("counts", [False, True])
def test_what_an_own_key_pays_is_priced_always_and_counted_where_the_plan_says_so(counts: bool) -> None:
    async def story() -> None:
        bank = Bank()
        premium = edited(PREMIUM, budgets=(MONTHLY,), counts_own_key=counts)
        free = edited(FREE, budgets=(MONTHLY,))
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            here = people(premium, free, credentials=(credential(OWN, provider.port),))
            running.change(here)
            answer = await call(running)
            assert (answer.status, answer.headers[b"x-tollhouse-paid-by"]) == (200, b"own")
            (settled,) = running.settlements
            assert (settled.settle.amount_nusd, settled.hold.credential_id) == (MESSAGE_NUSD, "own_1")
            mine = MESSAGE_NUSD if counts else 0
            of_all, of_alice = posted(running, OF_ALL), posted(running, OF_ALICE)
            of_premium, of_free = posted(running, given(here, premium)), posted(running, given(here, free))
            assert (of_all, of_alice, of_premium, of_free) == (mine, mine, mine, 0)
            assert (b"x-tollhouse-budget" in answer.headers) == counts

    run(story())


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_call_that_falls_back_counts_for_the_shared_key_alone(status: int) -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = status
        premium = edited(PREMIUM, budgets=(MONTHLY,), counts_own_key=True, fall_back=True)
        free = edited(FREE, budgets=(MONTHLY,))
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            here = people(premium, free, credentials=(credential(OWN, provider.port),))
            running.change(here)
            answer = await call(running, ask(max_tokens=60_000))
            assert (answer.status, answer.headers[b"x-tollhouse-paid-by"]) == (200, b"shared")
            assert [body["max_tokens"] for body in bank.bodies] == [60_000, 1_000]  # each under its own plan's cap
            first, second = running.settlements
            assert (first.settle.kind, first.settle.code, first.settle.status) == (
                SettleKind.VOIDED,
                f"upstream_{status}",
                status,
            )
            assert (second.hold.attempt_id, second.hold.request_id) == (
                f"{first.hold.request_id}-2",
                first.hold.request_id,
            )
            spent = {budget.budget_id: posted(running, budget) for budget in here.budgets}
            wanted = dict.fromkeys(spent, MESSAGE_NUSD) | {given(here, premium).budget_id: 0}
            assert spent == wanted
            told = [("mock", "own_1", status)] if status in (401, 403) else []
            assert running.credentials_refused == told

    run(story())


@pytest.mark.parametrize("status", [400, 404, 413, 500, 529])
def test_what_is_no_word_on_the_key_is_the_clients_answer(status: int) -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = status
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(edited(PREMIUM, fall_back=True), FREE, credentials=(credential(OWN, provider.port),)))
            answer = await call(running)
            assert (answer.status, answer.headers[b"x-tollhouse-paid-by"]) == (status, b"own")
            assert bank.calls == [(OWN, status)]
            assert not running.credentials_refused

    run(story())


# ------------------------------------------------------------------------------------------------------------- limits


def test_each_limit_is_taken_from_once_whichever_keys_are_tried() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 401
        alone = Plan(
            "alone", limits=Limits(requests_per_minute=3), own_key=OwnKeyRule.OWN_FIRST, fall_back=True
        )  # holds for both keys
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(alone, credentials=(credential(OWN, provider.port),)))
            assert [(await call(running)).status for _ in range(4)] == [200, 200, 200, 429]
            assert len(bank.calls) == 6

    run(story())


def test_limits_that_differ_count_apart() -> None:
    async def story() -> None:
        bank = Bank()
        mine = edited(PREMIUM, limits=Limits(requests_per_minute=3), own_key=OwnKeyRule.SHARED_FIRST)
        free = edited(FREE, limits=Limits(requests_per_minute=2))
        team = Team("red", limits=Limits(requests_per_minute=4))
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(mine, free, credentials=(credential(OWN, provider.port),), team=team))
            answers = [await call(running) for _ in range(5)]
            payers = [answer.headers.get(b"x-tollhouse-paid-by") for answer in answers]
            assert payers == [b"shared", b"shared", b"own", b"own", None]
            assert said(answers[-1])["scope"] == "team red"  # which both take from, once a call
            running.change(people(mine, free, credentials=(credential(OWN, provider.port),)))
            answers = [await call(running) for _ in range(2)]
            assert [answer.status for answer in answers] == [200, 429]
            assert said(answers[-1])["scope"] == "own key of user alice"

    run(story())


def test_parallel_places_come_back_however_many_ways_there_were() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 429
        one = Limits(parallel_requests=1)
        both = edited(PREMIUM, limits=one, fall_back=True)
        for free in (edited(FREE, limits=one), edited(FREE, limits=Limits(parallel_requests=1, requests_per_minute=9))):
            async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
                running.change(people(both, free, credentials=(credential(OWN, provider.port),)))
                assert [(await call(running)).status for _ in range(3)] == [200, 200, 200]

    run(story())


# ------------------------------------------------------------------------------------------------------------ streams


def test_a_stream_falls_back_before_its_first_byte_and_is_paid_by_the_other() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 401
        bank.stream = recording("anthropic_text.sse")
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(edited(PREMIUM, fall_back=True), FREE, credentials=(credential(OWN, provider.port),)))
            answer = await call(running, ask(stream=True))
            assert (answer.status, answer.body) == (200, bank.stream)
            assert answer.headers[b"x-tollhouse-paid-by"] == b"shared"
            assert [one.settle.kind for one in running.settlements] == [SettleKind.VOIDED, SettleKind.EXACT]
            bank.refuses.clear()
            answer = await call(running, ask(stream=True))
            assert (answer.headers[b"x-tollhouse-paid-by"], answer.body) == (b"own", bank.stream)
            assert running.settlements[-1].hold.credential_id == "own_1"

    run(story())


def test_who_leaves_between_two_ways_leaves_nothing_behind() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 401
        bank.gate = asyncio.Event()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(edited(PREMIUM, fall_back=True), FREE, credentials=(credential(OWN, provider.port),)))
            client = await running.client()
            client.send(post())
            await until(lambda: bank.calls)
            client.writer.transport.abort()
            await until(lambda: running.gate.left_behind or not running.gate.edges)
            bank.gate.set()
            await until(lambda: not running.accounts.holds and not running.gate.left_behind)
            await until(lambda: running.settlements)
            assert posted(running, OF_ALICE) == sum(one.settle.amount_nusd for one in running.settlements[1:])

    run(story())


def test_many_at_once_are_each_held_and_settled() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 403
        premium = edited(PREMIUM, fall_back=True, limits=NO_LIMITS)
        free = edited(FREE, limits=NO_LIMITS, budgets=(PlanBudget(10**8, BudgetUnit.USD),))
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            here = people(premium, free, credentials=(credential(OWN, provider.port),))
            running.change(here)
            answers = await asyncio.gather(*(call(running, ask(max_tokens=1)) for _ in range(60)))
            served = [answer for answer in answers if answer.status == 200]
            refused = [said(answer) for answer in answers if answer.status != 200]
            assert served, refused
            assert posted(running, given(here, free)) == len(served) * MESSAGE_NUSD
            assert {one["code"] for one in refused} <= {"budget_exhausted"}
            assert all("Your own key was refused by mock (403)." in one["message"] for one in refused)
            assert not running.accounts.holds

    run(story())


# ----------------------------------------------------------------------------------------------- the operator's others


def test_an_assigned_key_stands_where_the_shared_one_does() -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            given_to = credential(ASSIGNED, provider.port, credential_id="cred_1", user_id="")
            stored = (given_to, credential(OWN, provider.port))
            for plans in ((), (edited(PREMIUM, own_key=OwnKeyRule.SHARED_FIRST), FREE)):
                bank.calls.clear()
                running.change(people(*plans, credentials=stored, assigned=(("alice", "cred_1"),)))
                before = posted(running, OF_ALICE)
                answer = await call(running)
                assert (answer.headers[b"x-tollhouse-paid-by"], bank.calls) == (b"assigned", [(ASSIGNED, 200)])
                assert posted(running, OF_ALICE) - before == MESSAGE_NUSD  # the operator's money
                assert running.settlements[-1].hold.credential_id == "cred_1"
            bank.refuses[ASSIGNED] = 401
            assert (await call(running)).headers[b"x-tollhouse-paid-by"] == b"own"
            assert ("mock", "cred_1", 401) in running.credentials_refused
            sealed_elsewhere = credential(
                ASSIGNED, provider.port, credential_id="cred_1", user_id="", vault=OTHER_VAULT
            )
            running.change(people(credentials=(sealed_elsewhere,), assigned=(("alice", "cred_1"),)))
            answer = await call(running)
            assert (answer.status, said(answer)["code"]) == (503, "credential_unavailable")

    run(story())


# ------------------------------------------------------------------------------------------------ opened, and forgotten


def test_a_key_is_opened_once_and_forgotten_with_its_credential() -> None:
    async def story() -> None:
        bank, opened = Bank(), []
        open_key = KeyOpener(VAULT)

        def counting(provider: Any, one: Credential) -> Any:
            opened.append(one.sealed)
            return open_key(provider, one)

        async with upstream(bank) as provider, plane(provider.port, open_key=counting) as running:
            first = credential(OWN, provider.port)
            running.change(people(PREMIUM, FREE, credentials=(first,)))
            assert not opened, "before a call needs it"
            for _ in range(3):
                await call(running)
            running.change(people(PREMIUM, FREE, credentials=(edited(first, last_used_at_ns=T0_NS),)))
            await call(running)
            assert opened == [first.sealed]
            second = credential("another-secret", provider.port)
            running.change(people(PREMIUM, FREE, credentials=(second,)))
            await call(running)
            running.change(people(PREMIUM, FREE))
            answer = await call(running)
            assert opened == [first.sealed, second.sealed]
            assert [name for name, _ in bank.calls] == [OWN] * 4 + ["another-secret", SHARED]
            assert answer.headers[b"x-tollhouse-paid-by"] == b"shared"

    run(story())


def test_a_key_is_sent_nowhere_but_where_it_was_stored_for() -> None:
    async def story() -> None:
        bank, vault = Bank(), Vault()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            moved = credential(OWN, provider.port, host="https://api.example.com:443")
            running.change(people(PREMIUM, FREE, credentials=(moved,)))
            error = said(await call(running))
            assert error["code"] == "own_key_unusable"
            assert "it was stored for https://api.example.com:443 and is sent nowhere else" in error["message"]
            lied = edited(moved, host=f"http://127.0.0.1:{provider.port}")  # in the database, by who can write there
            running.change(people(PREMIUM, FREE, credentials=(lied,)))
            assert said(await call(running))["code"] == "own_key_unusable"
            assert not bank.calls
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(vault)) as running:
            running.change(people(PREMIUM, FREE, credentials=(credential(OWN, provider.port),)))
            answer = await call(running)
            assert (answer.status, answer.headers[b"x-should-retry"]) == (503, b"false")
            assert "no master key" in said(answer)["message"]
            assert OWN.encode() not in answer.body

    run(story())


class House:
    """As much of one as its limits need after a restart."""

    def __init__(self, here: DirectoryImage) -> None:
        self.settings = Settings()
        self.limiter = MemoryLimiter()
        self.snapshot = Snapshot()
        self.snapshot.replace(here, None)


@pytest.mark.parametrize("with_key", [True, False], ids=["by a virtual key", "by a token or a session"])
def test_after_a_restart_each_limit_a_day_counts_what_it_did_before(database: Database, with_key: bool) -> None:
    premium = edited(PREMIUM, limits=Limits(requests_per_day=9))
    free = edited(FREE, limits=Limits(requests_per_day=5))
    here = people(premium, free, credentials=(credential(OWN, 1),))
    via = "key_1" if with_key else SIGNED_IN
    if not with_key:
        here = edited(here, keys=(), secrets=())
    calls = [settled(f"req_{n:012x}", {"user_id": "alice", "key_id": via}, at_ns=time.time_ns()) for n in range(6)]
    for n in range(4):
        calls[n] = edited(calls[n], hold=edited(calls[n].hold, credential_id="own_1"))
    house = House(here)
    database.run_sync(lambda connection: ship(connection, calls))
    database.run_sync(lambda connection: restore_limits(house, connection))  # type: ignore[arg-type]
    principal = house.snapshot.of_user("alice")
    assert principal is not None
    assert principal.payers is not None
    for face, left in ((principal.payers.own_face, 5), (principal, 3)):
        ticket = house.limiter.take(face.holders, 0)
        standing = ticket.remaining()
        assert standing is not None
        assert standing.remaining == left - 1, face.holders


# ------------------------------------------------------------------------------------------ words, lists, pages, counts


@pytest.mark.parametrize(
    ("path", "model", "status", "kind"),
    [
        (b"/v1/messages", "claude-x", 402, "billing_error"),
        (b"/v1/chat/completions", "gpt-x", 402, "insufficient_quota"),
        (b"/v1/responses", "gpt-x", 429, "insufficient_quota"),
    ],
)
def test_who_must_store_a_key_is_told_so_in_their_dialect(path: bytes, model: str, status: int, kind: str) -> None:
    async def story() -> None:
        async with plane(open_key=KeyOpener(VAULT)) as running:
            running.change(people(edited(PREMIUM, own_key=OwnKeyRule.OWN_ONLY, without_own_key="")))
            body = json.dumps({"model": model, "messages": [], "input": "hi", "max_tokens": 9}).encode()
            answer = await call(running, body, path)
            error = said(answer)
            assert (answer.status, error["code"], error["scope"]) == (status, "own_key_required", "plan premium")
            assert error["type"] == kind, error
            assert "PUT /api/v1/me/credentials/mock" in error["message"]
            assert answer.headers[b"x-should-retry"] == b"false"

    run(story())


def test_models_of_both_faces_are_listed_and_each_is_paid_by_whom_it_is_open_to() -> None:
    async def story() -> None:
        bank = Bank()
        free = edited(FREE, models=("claude-small",))
        shared_first = edited(PREMIUM, own_key=OwnKeyRule.SHARED_FIRST)
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(shared_first, free, credentials=(credential(OWN, provider.port),)))
            small = await call(running, ask(model="claude-small"))
            large = await call(running, ask(model="claude-large"))
            payers = [answer.headers[b"x-tollhouse-paid-by"] for answer in (small, large)]
            assert payers == [b"shared", b"own"]

    run(story())


def test_a_model_is_listed_where_the_key_for_its_own_provider_may_pay_for_it() -> None:
    async def story() -> None:
        async with plane(open_key=KeyOpener(VAULT)) as running:
            planner = running.plane.planner
            planner.adopt(
                tuple(
                    edited(one, advertised=names)
                    for one, names in zip(
                        planner.providers.values(), (("claude-small", "claude-large"), ("gpt-large",)), strict=True
                    )
                )
            )
            free = edited(FREE, models=("claude-small",))
            for own, names in (((credential(OWN, 1),), ["claude-small", "claude-large"]), ((), ["claude-small"])):
                running.change(people(PREMIUM, free, credentials=own))  # his own key is for `mock` alone
                async with await running.client() as client:
                    client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\n\r\n" % KEY)
                    listed = json.loads((await client.answer()).body)["data"]
                assert [row["id"] for row in listed] == names

    run(story())


def test_a_proxy_is_told_of_the_face_that_has_room() -> None:
    async def story() -> None:
        lines = [(b"host", b"tollhouse"), (b"x-api-key", KEY)]
        async with plane(open_key=KeyOpener(VAULT)) as running:
            premium = edited(PREMIUM, budgets=(MONTHLY,), counts_own_key=True)
            free = edited(FREE, budgets=(PlanBudget(0),))
            own = (credential(OWN, 1),)
            found = await who(running.plane, "POST", lines)
            assert found.plan_id == ""
            for rule, credentials, plan_id in (
                (OwnKeyRule.OWN_FIRST, own, "premium"),
                (OwnKeyRule.SHARED_FIRST, own, "premium"),  # for the free one's budget is used up
                (OwnKeyRule.OWN_FIRST, (), "free"),
            ):
                running.change(people(edited(premium, own_key=rule), free, credentials=credentials))
                found = await who(running.plane, "POST", lines)
                assert found.plan_id == plan_id, rule
                assert {one.budget.owned_by for one in found.budgets} == {"", f"plan:{plan_id}"}

    run(story())


def test_the_log_has_what_the_client_was_answered_in_the_end() -> None:
    async def story() -> None:
        bank = Bank()
        bank.refuses[OWN] = 401
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            free = edited(FREE, budgets=(PlanBudget(0),))
            running.change(people(edited(PREMIUM, fall_back=True), free, credentials=(credential(OWN, provider.port),)))
            answer = await call(running)
            error = said(answer)
            assert (answer.status, error["code"]) == (402, "budget_exhausted")
            assert error["message"].endswith("Your own key was refused by mock (401).")
            (voided,) = running.settlements
            (row,) = running.refused
            assert (row.request_id, row.status, row.code) == (voided.hold.request_id, 402, "budget_exhausted")
            assert (voided.hold.attempt_id, row.attempts) == (f"{row.request_id}-1", 2)

    run(story())


def test_tokens_are_counted_with_the_key_that_would_pay() -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            running.change(people(PREMIUM, FREE, credentials=(credential(OWN, provider.port),)))
            answer = await call(running, ask(), b"/v1/messages/count_tokens")
            assert (answer.status, bank.calls) == (200, [(OWN, 200)])
            assert answer.headers[b"x-tollhouse-paid-by"] == b"own"
            assert not running.settlements
            assert [row.credential_id for row in running.refused] == ["own_1"]

    run(story())


@pytest.mark.parametrize(
    ("stored", "refused", "asked", "sent"),
    [
        (True, False, 100_000, [100_000]),
        (True, False, 200_000, [64_000]),  # below the plan's cap: the most that the model writes
        (True, False, None, [1_024]),
        (False, False, 100_000, [1_000]),  # the free plan's, which is below the pinned one
        (True, True, 100_000, [100_000, 1_000]),
    ],
)
def test_a_page_may_ask_for_more_where_the_own_key_pays(
    stored: bool, refused: bool, asked: int | None, sent: list[int]
) -> None:
    async def story() -> None:
        bank = Bank()
        if refused:
            bank.refuses[OWN] = 401
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT), chat=PINNED) as running:
            mine = (credential(OWN, provider.port),) if stored else ()
            running.change(people(edited(PREMIUM, fall_back=True), FREE, credentials=mine))
            body: dict[str, Any] = {"messages": HELLO} | ({"max_tokens": asked} if asked else {})
            answer = await talk(running, body)
            assert answer.status == 200, answer.body
            assert [one["max_tokens"] for one in bank.bodies] == sent

    run(story())


def test_a_page_gets_what_it_asked_for_where_the_own_key_pays_in_the_end() -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT), chat=PINNED) as running:
            mine = (credential(OWN, provider.port),)
            first = edited(PREMIUM, own_key=OwnKeyRule.SHARED_FIRST)
            for free, calls in ((edited(FREE, budgets=(PlanBudget(0),)), [OWN]), (FREE, [SHARED, OWN])):
                bank.refuses = {SHARED: 401}
                bank.calls.clear()
                bank.bodies.clear()
                running.change(people(first, free, credentials=mine))
                answer = await talk(running, {"messages": HELLO, "max_tokens": 60_000})
                assert (answer.status, answer.headers[b"x-tollhouse-paid-by"]) == (200, b"own")
                assert [name for name, _ in bank.calls] == calls
                assert bank.bodies[-1]["max_tokens"] == 60_000

    run(story())


def test_an_assigned_key_that_does_not_open_leaves_the_call_to_the_own_one() -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            given = credential(ASSIGNED, provider.port, vault=OTHER_VAULT, credential_id="cred_1", user_id="")
            mine = credential(OWN, provider.port)
            first = edited(PREMIUM, own_key=OwnKeyRule.SHARED_FIRST)
            for stored, status, calls in (((mine, given), 200, [OWN]), ((given,), 503, [])):
                bank.calls.clear()
                running.change(people(first, FREE, credentials=stored, assigned=(("alice", "cred_1"),)))
                answer = await call(running)
                assert (answer.status, [name for name, _ in bank.calls]) == (status, calls)
                assert running.held == 0
            assert said(answer)["code"] == "credential_unavailable"

    run(story())


def test_a_page_gets_no_more_than_is_pinned_while_the_operator_pays() -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT), chat=PINNED) as running:
            for plans in ((), (edited(PREMIUM, without_own_key=""),)):
                running.change(people(*plans))
                assert (await talk(running, {"messages": HELLO, "max_tokens": 90_000})).status == 200
                assert (await talk(running, {"messages": HELLO, "max_tokens": 90})).status == 200
            assert [one["max_tokens"] for one in bank.bodies] == [1_024, 90] * 2

    run(story())

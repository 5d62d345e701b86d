"""Whose key pays for a call, under whose limits: every rule of a plan with every fate of the own key and the shared
one, against a provider that keeps a bill for each credential.
"""

import asyncio
import itertools
import json
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.planes.plane import KEY, MESSAGE, SECRET, T0_NS, Running, ask, plane, post
from tests.planes.wire import STREAM_HEAD, Answer, Peer, chunk, reply, run, upstream
from tollhouse.app.opening import KeyOpener
from tollhouse.rules import keys
from tollhouse.storage.image import given_budgets
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


@pytest.mark.parametrize(("rule", "fall_back"), RULES)
def test_whose_key_pays(rule: OwnKeyRule, fall_back: bool) -> None:
    async def story() -> None:
        bank = Bank()
        async with upstream(bank) as provider, plane(provider.port, open_key=KeyOpener(VAULT)) as running:
            for without, own, shared in itertools.product(("free", ""), OWNS, SHAREDS):
                case = Case(rule, fall_back, without, own, shared)
                if not without and shared == "limit":
                    continue  # the same limit holds for the own key, too
                running.settlements.clear()
                running.journal.records.clear()
                running.change(scene(case, provider.port, bank))
                answer = await call(running)
                end = law(case)
                code = (
                    "" if answer.status == 200 or answer.headers.get(b"x-tollhouse-paid-by") else said(answer)["code"]
                )
                payer = answer.headers.get(b"x-tollhouse-paid-by", b"").decode()
                assert End(answer.status, code, payer, tuple(name for name, _ in bank.calls)) == end, case
                assert not running.accounts.holds, case
                holds = [record for record in running.journal.records if isinstance(record, HoldRecord)]
                assert [hold.attempt_id[-2:] for hold in holds] == [f"-{n + 1}" for n in range(len(holds))], case
                assert [hold.credential_id for hold in holds] == ["own_1" if x == OWN else "" for x in end.called], case
                assert len(running.settlements) == len(holds) == len(end.called), case
                kinds = [one.settle.kind for one in running.settlements]
                assert kinds == [SettleKind.VOIDED] * (len(kinds) - (end.status == 200)) + [SettleKind.EXACT] * (
                    end.status == 200
                ), case

    run(story())

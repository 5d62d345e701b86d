"""A management API on a real database with written fakes behind it: what the composition root hands in, smaller."""

import asyncio
import itertools
import secrets
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tollhouse.controlplane.access import Caller, Gate
from tollhouse.controlplane.api import build_api
from tollhouse.controlplane.credential_terms import ProviderWord
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.rates import ManagementOptions
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.options import Argon2, SignInOptions
from tollhouse.ports import BudgetStanding
from tollhouse.rules import budgets as budget_rules
from tollhouse.rules import keys as key_rules
from tollhouse.storage.anchor import Anchor
from tollhouse.storage.database import Database
from tollhouse.storage.image import load_image
from tollhouse.storage.ledger import ship
from tollhouse.storage.trail import Trail
from tollhouse.terms.events import HoldRecord, Refused, SettleKind, Settlement, SettleRecord
from tollhouse.terms.people import Budget, DirectoryImage, VirtualKey
from tollhouse.terms.usage import Usage
from tollhouse.vault import MasterKeys, Vault

MASTER_KEY = "the-owner-0123456789abcdef"
SECRET = b"server secret of the tests......"
START_NS = 1_795_000_000 * 10**9
"""A morning in November 2026."""
QUICK = SignInOptions(argon2=Argon2(passes=1, memory_kib=64))
NO_IMAGE = DirectoryImage((), (), (), (), {})


HOSTS = {"anthropic": "https://api.anthropic.com:443", "openai": "https://api.openai.com:443"}
"""Of the providers that take credentials; there is the embedded model, too."""
MASTER_KEYS = MasterKeys({1: b"master key 1 of the tests......."})


CREDENTIAL: dict[str, Any] = {
    "source": "env:KEY",
    "kind": "anthropic_api",
    "read_at_ns": START_NS,
    "changed_at_ns": START_NS,
    "expires_at_ns": None,
    "next_read_at_ns": None,
    "overlap_until_ns": None,
    "failure": "",
    "failing_since_ns": None,
    "refused_status": None,
    "older_serves": False,
}


class Providers:
    """What a fleet tells of itself."""

    def __init__(self) -> None:
        self.hosts = dict(HOSTS)

    def rows(self) -> list[dict[str, Any]]:
        kinds = [*self.hosts, "local"]
        common = {"base_url": "", "api_key": "", "models": [], "listed_models": [], "source": "settings"}
        return [{"name": kind, "kind": kind, **common} for kind in kinds]

    def faults(self, rows: Any) -> list[tuple[str, str, str]]:
        return []

    async def adopt(self) -> None:
        """Nobody to tell."""

    def host_of(self, name: str) -> str | None:
        return self.hosts.get(name)

    async def refresh(self, name: str) -> dict[str, Any] | None:
        return None if name == "local" else CREDENTIAL


async def takes_all(who: str, provider: str, host: str, secret: str, base_url: str) -> ProviderWord:
    """Every provider takes every credential."""
    return ProviderWord(200, "", 1.5)


@dataclass
class Plane:
    """What the API is told of the data plane: an image that changes only when `changed` is awaited."""

    database: Database
    now_ns: int = START_NS
    image: DirectoryImage = NO_IMAGE
    held: dict[str, int] = field(default_factory=dict)
    told: list[str | None] = field(default_factory=list)
    reason: str | None = None
    shipped_calls: int = 0
    waiting: list[Settlement] = field(default_factory=list)
    """Settled, but not yet in the ledger."""
    doorkeeper: Doorkeeper | None = None

    async def changed(self, user_id: str | None) -> None:
        self.told.append(user_id)
        now_s = self.now_ns // 10**9
        self.image = await self.database.run(lambda connection: load_image(connection, now_s=now_s))
        if self.doorkeeper is not None:
            await self.doorkeeper.people_changed(self.image.users)

    async def shipped(self) -> None:
        self.shipped_calls += 1
        waiting, self.waiting = self.waiting, []
        if waiting:
            await self.database.run(lambda connection: ship(connection, waiting))

    def standing(self, budget: Budget) -> BudgetStanding:
        start_s, end_s = budget_rules.window_of(budget.window, budget.timezone, self.now_ns // 10**9, None)
        posted = self.image.posted.get((budget.budget_id, start_s), 0)
        return BudgetStanding(budget, posted, self.held.get(budget.budget_id, 0), start_s, end_s)

    def own_key(self, text: str) -> VirtualKey | None:
        digest = key_rules.digest(SECRET, text.encode())
        for secret in self.image.secrets:
            if secret.digest == digest and (secret.expires_at_ns is None or secret.expires_at_ns > self.now_ns):
                key = next(key for key in self.image.keys if key.key_id == secret.key_id)
                blocked = any(user.user_id == key.user_id and user.blocked_at_ns for user in self.image.users)
                ended = key.expires_at_ns is not None and key.expires_at_ns <= self.now_ns
                return None if blocked or ended or key.revoked_at_ns else key
        return None


GUEST = "x-guest"


class Reception(Gate):
    """A gate that takes some callers for who they say they are."""

    def __init__(self, app: Any, guests: dict[str, Caller], **how: Any) -> None:
        super().__init__(app, **how)
        self.guests = guests

    async def identify(self, scope: Any) -> Caller:
        name = dict(scope["headers"]).get(GUEST.encode())
        return await super().identify(scope) if name is None else self.guests[name.decode()]


@dataclass
class Desk:
    """Where a test asks. As owner by the master key unless `bearer` says otherwise."""

    plane: Plane
    deps: ControlDeps
    guests: dict[str, Caller] = field(default_factory=dict)

    @cached_property
    def api(self) -> FastAPI:
        api = build_api(self.deps)
        (gate,) = (layer for layer in api.user_middleware if layer.cls is Gate)
        gate.cls, gate.kwargs["guests"] = Reception, self.guests
        return api

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        bearer: str | None = MASTER_KEY,
        caller: Caller | None = None,
        **how: Any,
    ) -> httpx.Response:
        headers = {**({"authorization": f"Bearer {bearer}"} if bearer is not None else {}), **how.pop("headers", {})}
        if caller is not None:
            name = f"{caller.role}:{caller.user_id}:{sorted(caller.team_roles.items())}"
            self.guests[name] = caller
            headers[GUEST] = name
        base_url = how.pop("base_url", "http://tollhouse:4000")
        if body is not None:
            how["json"] = body

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.api)
            async with httpx.AsyncClient(transport=transport, base_url=base_url) as http:
                return await http.request(method, path, headers=headers, **how)

        return asyncio.run(go())

    def get(self, path: str, **how: Any) -> Any:
        answer = self.ask("GET", path, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make(self, path: str, **body: Any) -> Any:
        answer = self.ask("POST", path, body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def make_as(self, caller: Caller, path: str, **body: Any) -> Any:
        """As `make`, by somebody."""
        answer = self.ask("POST", path, body, caller=caller)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def problem(self, status: int, method: str, path: str, body: Any = None, **how: Any) -> dict[str, Any]:
        answer = self.ask(method, path, body, **how)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == status
        return problem

    def with_deps(self, **changes: Any) -> "Desk":
        return Desk(self.plane, replace(self.deps, **changes), self.guests)


def open_desk(place: Path | str, sign_in: SignInOptions = QUICK, *, first: int = 1) -> Desk:
    """On a database of its own in this directory, or on the one at this location. `first`: where what stands for chance
    begins; another one where another desk has filled the database.
    """
    database = Database.open(place / "tollhouse.db" if isinstance(place, Path) else place)
    plane = Plane(database)
    anchor = Anchor(place / "audit-head") if isinstance(place, Path) else None
    trail = Trail(SECRET, anchor, lambda: plane.now_ns, secrets.token_bytes)
    database.recorded_by(trail)
    database.run_sync(trail.open)
    numbers = itertools.count(first)

    def random_bytes(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    plane.doorkeeper = Doorkeeper(
        database, SECRET, sign_in, changed=plane.changed, random_bytes=random_bytes, now_ns=lambda: plane.now_ns
    )
    deps = ControlDeps(
        options=ManagementOptions(requests_per_minute=10**9, failures_per_minute=10**9),
        database=database,
        server_secret=SECRET,
        master_key=MASTER_KEY,
        changed=plane.changed,
        standing=plane,
        status=lambda: {"base_url": "http://127.0.0.1:4000", "providers": []},
        own_key=plane.own_key,
        ready=lambda: plane.reason,
        metrics=lambda: b"tollhouse_up 1\n",
        shipped=plane.shipped,
        now_ns=lambda: plane.now_ns,
        random_bytes=random_bytes,
        doorkeeper=plane.doorkeeper,
        vault=Vault(MASTER_KEYS),
        master_keys=lambda: MASTER_KEYS,
        providers=Providers(),
        ask_provider=takes_all,
        trail=trail,
    )
    return Desk(plane, deps)


def settled(
    request_id: str,
    key: dict[str, Any],
    *,
    amount_nusd: int = 1_000_000,
    kind: SettleKind = SettleKind.EXACT,
    model: str = "claude-sonnet-4-5",
    client: str = "curl",
    at_ns: int = START_NS,
    budgets: tuple[tuple[str, int], ...] = (),
    team_id: str = "",
) -> Settlement:
    hold = HoldRecord(
        attempt_id=f"{request_id}-1",
        request_id=request_id,
        at_ns=at_ns,
        org_id="default",
        user_id=key["user_id"],
        key_id=key["key_id"],
        endpoint="messages",
        provider="anthropic",
        requested_model=model,
        upstream_model=model,
        price_version="1",
        hold_nusd=10 * amount_nusd,
        hold_tokens=10_000,
        max_output_tokens=1_000,
        streamed=True,
        budgets=budgets,
        client=client,
        team_id=team_id,
    )
    settle = SettleRecord(
        attempt_id=hold.attempt_id,
        at_ns=at_ns + 10**9,
        kind=kind,
        amount_nusd=amount_nusd,
        usage=Usage(input_tokens=100, cache_read_tokens=50, output_tokens=20),
        served_model=model,
        status=200,
        code="",
        duration_us=1_500_000,
        first_byte_us=250_000,
    )
    return Settlement(hold, settle)


def refused(request_id: str, key: dict[str, Any], *, team_id: str = "") -> Refused:
    return Refused(
        request_id,
        START_NS,
        "default",
        key["user_id"],
        key["key_id"],
        "messages",
        "gpt-5",
        402,
        "budget_exhausted",
        80,
        team_id=team_id,
    )

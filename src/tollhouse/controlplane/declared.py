"""From the rows of a declared file to the things they state, and what does not fit together among them.

Everything that is wrong is said at once, each with its place in the file: `users.3.plan_id`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tollhouse.controlplane.declared_fields import BudgetRow, KeyRow, Resources, TeamRow, UserRow
from tollhouse.controlplane.problems import invalid
from tollhouse.controlplane.times import NS_PER_S, parse_instant_s
from tollhouse.rules.budgets import parse_budget
from tollhouse.rules.declarations import Fault, Kind, Name, Stated, Thing, key_name, name_of, owner_of
from tollhouse.rules.plans import plan_problem
from tollhouse.storage.declared import Named
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import (
    NO_LIMITS,
    Budget,
    BudgetEdge,
    Membership,
    Plan,
    PlanBudget,
    Role,
    Team,
    User,
    VirtualKey,
)
from tollhouse.terms.providers import ProviderRow

MAX_PEOPLE = 20_000
"""Users that one file speaks of: they are looked up in one query, which has its bound."""
_SPAN = re.compile(r"\s*\d+\s*[smhdw]\s*", re.IGNORECASE)


class Ids(msgspec.Struct, frozen=True):
    """What new things are named and stamped with; as functions, for each is asked once a thing."""

    now_ns: int
    timezone: str
    key_id: Any
    budget_id: Any


def named(owner: str, rows: Resources) -> Named:
    """Which stored rows the file speaks of."""
    scopes = {(row.scope, _scope_id(row)) for row in rows.budgets}
    scopes |= {(ScopeKind.TEAM, team.team_id) for team in rows.teams}
    scopes |= {(ScopeKind.USER, user.user_id) for user in rows.users}
    members = (user_id for team in rows.teams for user_id in team.members or ())
    people = {*(user.user_id for user in rows.users), *(key.user_id for key in rows.keys), *members}
    people |= {_scope_id(row) for row in rows.budgets if row.scope is ScopeKind.USER}
    counted = [(user.team_id, user.user_id) for user in rows.users] + [(key.team_id, key.user_id) for key in rows.keys]
    if len(people) > MAX_PEOPLE:
        raise invalid("resources", f"names {len(people)} users; a file names at most {MAX_PEOPLE}, so make it two")
    return Named(
        owner,
        users=frozenset(people),
        keys=frozenset((key.user_id, key.name) for key in rows.keys),
        budgets=frozenset(scopes),
        rosters=frozenset(team.team_id for team in rows.teams if team.members is not None),
        own_teams=frozenset((team_id, user_id) for team_id, user_id in counted if team_id is not None),
    )


class Reading:
    """One file read against what is stored. `faults` grows while `stated` is read."""

    def __init__(self, owner: str, rows: Resources, stored: Mapping[Name, Thing], ids: Ids) -> None:
        self.owner = owner
        self.rows = rows
        self.stored = stored
        self.ids = ids
        self.faults: list[Fault] = []
        self._joined: set[Membership] = set()
        self._users = {row.user_id for row in rows.users}
        self._teams = {row.team_id: row for row in rows.teams}
        self._plans = {row.plan_id for row in rows.plans}

    def stated(self) -> Iterator[Stated]:
        """Everything that the file states."""
        yield from self._of_plans()
        for place, team in enumerate(self.rows.teams):
            yield from self._of_team(team, f"teams.{place}")
        for place, user in enumerate(self.rows.users):
            yield from self._of_user(user, f"users.{place}")
        for place, key in enumerate(self.rows.keys):
            yield from self._of_key(key, f"keys.{place}")
        for place, budget in enumerate(self.rows.budgets):
            yield from self._of_budget(budget, f"budgets.{place}")
        for place, provider in enumerate(self.rows.providers):
            yield Stated(
                ProviderRow(
                    **provider.model_dump(),
                    owned_by=self.owner,
                    created_at_ns=self.ids.now_ns,
                    place=place,
                ),
                f"providers.{place}",
            )

    def _of_plans(self) -> Iterator[Stated]:
        for number, row in enumerate(self.rows.plans):
            place = f"plans.{number}"
            self._plan_there(row.without_own_key, f"{place}.without_own_key")
            budgets = []
            for amount in row.budgets:
                limit, unit, window = parse_budget(amount)
                budgets.append(PlanBudget(limit, unit, window))
            if len({(one.unit, one.window) for one in budgets}) < len(budgets):
                self.faults.append(Fault(f"{place}.budgets", "holds two of one unit and window"))
            plan = Plan(
                row.plan_id,
                description=row.description,
                limits=row.limits.over(NO_LIMITS),
                budgets=tuple(budgets),
                models=None if row.models is None else tuple(row.models),
                max_output_tokens=row.max_output_tokens,
                edge=row.edge,
                own_key=row.own_key,
                without_own_key=row.without_own_key or "",
                owned_by=self.owner,
                created_at_ns=self.ids.now_ns,
                fall_back=row.fall_back,
                counts_own_key=row.counts_own_key,
            )
            problem = plan_problem(plan)
            if problem is not None:
                self.faults.append(Fault(f"{place}.{problem[0]}", problem[1]))
            yield Stated(plan, place)

    def _of_team(self, row: TeamRow, place: str) -> Iterator[Stated]:
        self._plan_there(row.plan_id, f"{place}.plan_id")
        team = Team(
            row.team_id,
            name=row.name,
            plan_id=row.plan_id,
            models=None if row.models is None else tuple(row.models),
            limits=row.limits.over(NO_LIMITS),
            metadata=row.metadata,
            owned_by=self.owner,
            created_at_ns=self.ids.now_ns,
            blocked_at_ns=self.ids.now_ns if row.blocked else None,
        )
        yield Stated(team, place, frozenset(("blocked",)) if row.blocked is None else frozenset())
        for user_id, role in (row.members or {}).items():
            here = f"{place}.members.{user_id}"
            self._user_there(user_id, here)
            yield Stated(Membership(row.team_id, user_id, Role(role), self.ids.now_ns), here)
        yield from self._budgets(row.budgets, ScopeKind.TEAM, row.team_id, place)

    def _of_user(self, row: UserRow, place: str) -> Iterator[Stated]:
        self._plan_there(row.plan_id, f"{place}.plan_id")
        if row.team_id is not None:
            self._team_there(row.team_id, f"{place}.team_id")
            yield from self._membership(row.user_id, row.team_id, f"{place}.team_id")
        user = User(
            row.user_id,
            name=row.name,
            email=row.email,
            limits=row.limits.over(NO_LIMITS),
            metadata=row.metadata,
            created_at_ns=self.ids.now_ns,
            blocked_at_ns=self.ids.now_ns if row.blocked else None,
            role=row.role or Role.MEMBER,
            team_id=row.team_id,
            plan_id=row.plan_id,
            owned_by=self.owner,
        )
        yield Stated(user, place, frozenset(name for name in _LEFT if getattr(row, name) is None))
        yield from self._budgets(row.budgets, ScopeKind.USER, row.user_id, place)

    def _membership(self, user_id: str, team_id: str, place: str) -> Iterator[Stated]:
        """Whose calls count toward a team is in it: as the file says, or as it is, or from now on."""
        team = self._teams.get(team_id)
        if team is not None and team.members is not None:
            if user_id not in team.members:
                self.faults.append(Fault(place, f"{user_id} is not in the team {team_id}; name them in its members"))
            return
        member = Membership(team_id, user_id, created_at_ns=self.ids.now_ns)
        if name_of(member) in self.stored or member in self._joined:
            return
        self._joined.add(member)
        there = self.stored.get(Name(Kind.TEAM, team_id))
        if there is not None and owner_of(there) not in ("", self.owner):
            self.faults.append(
                Fault(place, f"{user_id} is not in the team {team_id}, which {owner_of(there)} declares")
            )
        yield Stated(member, place)

    def _of_key(self, row: KeyRow, place: str) -> Iterator[Stated]:
        self._user_there(row.user_id, f"{place}.user_id")
        self._plan_there(row.plan_id, f"{place}.plan_id")
        if row.team_id is not None:
            self._team_there(row.team_id, f"{place}.team_id")
            yield from self._membership(row.user_id, row.team_id, f"{place}.team_id")
        there = self.stored.get(Name(Kind.KEY, key_name(row.name, row.user_id)))
        key_id = there.key_id if isinstance(there, VirtualKey) else self.ids.key_id()
        expires_at_ns = self._expiry_ns(row.expires, f"{place}.expires")
        if there is None and expires_at_ns is not None and expires_at_ns <= self.ids.now_ns:
            self.faults.append(Fault(f"{place}.expires", f"{row.expires} is past: the key would be born expired"))
        key = VirtualKey(
            key_id,
            row.user_id,
            name=row.name,
            models=None if row.models is None else tuple(row.models),
            limits=row.limits.over(NO_LIMITS),
            metadata=row.metadata,
            created_at_ns=self.ids.now_ns,
            expires_at_ns=expires_at_ns,
            team_id=row.team_id,
            plan_id=row.plan_id,
            owned_by=self.owner,
        )
        yield Stated(key, place)
        yield from self._budgets(row.budgets, ScopeKind.KEY, key_id, place, called=key_name(row.name, row.user_id))

    def _of_budget(self, row: BudgetRow, place: str) -> Iterator[Stated]:
        scope_id = _scope_id(row)
        if row.scope is ScopeKind.ORGANISATION:
            if row.scope_id not in (None, DEFAULT_ORG):
                self.faults.append(Fault(f"{place}.scope_id", "there is one organisation; leave it out"))
                return
        elif not row.scope_id:
            self.faults.append(Fault(f"{place}.scope_id", f"is missing: whose budget is it (the id of a {row.scope})"))
            return
        elif row.scope is ScopeKind.TEAM:
            self._team_there(row.scope_id, f"{place}.scope_id")
        elif row.scope is ScopeKind.USER:
            self._user_there(row.scope_id, f"{place}.scope_id")
        yield self._budget(row.amount, row.scope, scope_id, place, row.edge, row.timezone)

    def _budgets(
        self, amounts: Sequence[str], scope: ScopeKind, scope_id: str, place: str, *, called: str = ""
    ) -> Iterator[Stated]:
        for number, amount in enumerate(amounts):
            yield self._budget(amount, scope, scope_id, f"{place}.budgets.{number}", called=called)

    def _budget(
        self,
        amount: str,
        scope: ScopeKind,
        scope_id: str,
        place: str,
        edge: BudgetEdge = BudgetEdge.CLAMP,
        timezone: str | None = None,
        called: str = "",
    ) -> Stated:
        limit, unit, window = parse_budget(amount)
        budget = Budget(
            self.ids.budget_id(),
            scope,
            scope_id,
            limit,
            unit,
            window,
            timezone or self.ids.timezone,
            edge,
            self.ids.now_ns,
            scope_name=called,
            owned_by=self.owner,
        )
        there = self.stored.get(name_of(budget))
        if isinstance(there, Budget) and there.budget_id.startswith("bud_settings_"):
            self.faults.append(Fault(place, "the server's settings state this budget (money.organisation_budgets)"))
        return Stated(budget, place, frozenset(() if timezone else ("timezone",)))

    # What is leaned on

    def _plan_there(self, plan_id: str | None, place: str) -> None:
        if plan_id is not None and plan_id not in self._plans and Name(Kind.PLAN, plan_id) not in self.stored:
            self.faults.append(Fault(place, f"there is no plan {plan_id!r}, neither here nor in the database"))

    def _team_there(self, team_id: str, place: str) -> None:
        if team_id not in self._teams and Name(Kind.TEAM, team_id) not in self.stored:
            self.faults.append(Fault(place, f"there is no team {team_id!r}, neither here nor in the database"))

    def _user_there(self, user_id: str, place: str) -> None:
        if user_id not in self._users and Name(Kind.USER, user_id) not in self.stored:
            self.faults.append(Fault(place, f"there is no user {user_id!r}, neither here nor in the database"))

    def _expiry_ns(self, text: str | None, place: str) -> int | None:
        if text is None or text.strip().lower() == "never":
            return None
        if _SPAN.fullmatch(text):
            message = f"{text!r} would mean another day each time; write a date such as 2027-06-30"
            self.faults.append(Fault(place, message))
            return None
        try:
            return parse_instant_s(text, self.ids.now_ns // NS_PER_S, ahead=True) * NS_PER_S
        except ValueError as error:
            self.faults.append(Fault(place, str(error)))
            return None


_LEFT = ("role", "team_id", "blocked")


def _scope_id(row: BudgetRow) -> str:
    return DEFAULT_ORG if row.scope is ScopeKind.ORGANISATION else row.scope_id or ""

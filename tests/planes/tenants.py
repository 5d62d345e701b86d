"""A world of two teams and some loners where every thing bears a mark of its own: who reads a mark has seen the thing.

What anybody may do with a thing is computed here from the tables of `rules.roles` and from whose the thing was made to
be, without a look at the code that keeps tenants apart.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from tests.planes.control import START_NS, Desk, refused, settled
from tollhouse.controlplane.access import Caller
from tollhouse.rules.roles import IN_TEAM, MATRIX, Action, Reach
from tollhouse.storage import captures
from tollhouse.storage.captures import row_of
from tollhouse.storage.ledger import ship
from tollhouse.terms.captures import Content, Side
from tollhouse.terms.people import Role
from tollhouse.vault import seal_content

API = "/api/v1"
READ_CONTENT = Action.READ_CONTENT
PEOPLE: dict[str, tuple[Role, dict[str, Role]]] = {
    "red lead": (Role.MEMBER, {"red": Role.ADMIN}),
    "red member": (Role.MEMBER, {"red": Role.MEMBER}),
    "red viewer": (Role.MEMBER, {"red": Role.VIEWER}),
    "blue lead": (Role.MEMBER, {"blue": Role.ADMIN}),
    "blue/member": (Role.MEMBER, {"blue": Role.MEMBER}),
    "in both": (Role.MEMBER, {"blue": Role.MEMBER, "red": Role.MEMBER}),
    "loner": (Role.MEMBER, {}),
    "looks on": (Role.VIEWER, {}),
    "looks on and leads red": (Role.VIEWER, {"red": Role.ADMIN}),
    "program": (Role.SERVICE, {"red": Role.ADMIN}),
    "admin": (Role.ADMIN, {}),
}
"""By user id: the role in the organisation, and in teams. The first team is what their calls count toward."""
CALLERS = {name: Caller(role, name, dict(teams)) for name, (role, teams) in PEOPLE.items()}


@dataclass(frozen=True)
class Thing:
    """Whose it is, what it is read and written by, and where. `mark` stands in every answer that tells of it."""

    kind: str
    path: str
    mark: str
    user_id: str
    teams: frozenset[str]
    reading: Action
    writing: Action | None = None
    verbs: tuple[tuple[str, str, Any], ...] = ()
    """Method, what follows the path, body."""
    from_above: bool = False
    """A team's role never writes it."""


@dataclass
class World:
    things: list[Thing] = field(default_factory=list)
    lists: dict[str, Action] = field(default_factory=dict)


def may(caller: Caller, action: Action, thing: Thing) -> bool:
    """By the tables."""
    assert caller.role is not None
    by_role = MATRIX[caller.role][action]
    if by_role is Reach.ALL:
        return True
    if by_role >= Reach.OWN and thing.user_id == caller.user_id:
        return True
    if caller.role is Role.SERVICE or (thing.from_above and action is not thing.reading):
        return False
    return any(action in IN_TEAM[role] and team in thing.teams for team, role in caller.team_roles.items())


def build(desk: Desk) -> World:
    world = World(
        lists={
            f"{API}/users": Action.READ_USERS,
            f"{API}/keys": Action.READ_KEYS,
            f"{API}/teams": Action.READ_TEAMS,
            f"{API}/plans": Action.READ_PLANS,
            f"{API}/budgets": Action.READ_BUDGETS,
            f"{API}/requests": Action.READ_REQUESTS,
            f"{API}/usage?by=model": Action.READ_USAGE,
            f"{API}/usage?by=client": Action.READ_USAGE,
            f"{API}/credentials": Action.READ_CREDENTIALS,
        }
    )
    amounts = iter(range(111_111, 999_999, 1_111))
    for team in ("red", "blue"):
        _team(desk, world, team, f"{next(amounts)}")
    for name, (role, teams) in PEOPLE.items():
        desk.make(f"{API}/users", user_id=name, role=role, name=f"mark-user-{name}", budget=f"{next(amounts)}/day")
        for team, team_role in teams.items():
            desk.ask("PUT", f"{API}/teams/{team}/members/{quote(name, safe='')}", {"role": team_role})
        _credential(desk, world, name)
        home = next(iter(sorted(teams, key=lambda team: list(teams).index(team))), "")
        _user(desk, world, name, frozenset(teams), f"{desk.get(_user_path(name))['budgets'][0]['limit']}")
        for team in ("", *(teams if role is Role.MEMBER and Role.MEMBER in teams.values() else ())):
            _key(desk, world, name, team or home, bool(team), f"{next(amounts)}")
    _credential(desk, world, "")
    everybody = desk.make(f"{API}/budgets", scope="organisation", amount=f"{next(amounts)}/month")
    world.things.append(_budget(everybody, "", frozenset(), from_above=True))
    return world


def _user_path(name: str) -> str:
    return f"{API}/users/{quote(name, safe='')}"


def _team(desk: Desk, world: World, team: str, amount: str) -> None:
    made = desk.make(f"{API}/teams", team_id=team, name=f"mark-team-{team}", budget=f"{amount}/day")
    own = frozenset((team,))
    world.things.append(
        Thing(
            "team",
            f"{API}/teams/{team}",
            f'"mark-team-{team}"',
            "",
            own,
            Action.READ_TEAMS,
            Action.WRITE_TEAMS,
            (("PATCH", "", {}), ("POST", "/block", None), ("POST", "/unblock", None)),
        )
    )
    world.things.append(
        Thing(
            "membership",
            f"{API}/teams/{team}/members",
            "",
            "",
            own,
            Action.READ_TEAMS,
            Action.WRITE_MEMBERS,
            (("PUT", f"/{quote(f'{team} lead')}", {"role": "admin"}),),
        )
    )
    world.things.append(_budget(made["budgets"][0], "", own, from_above=True))


def _user(desk: Desk, world: World, name: str, teams: frozenset[str], amount: str) -> None:
    world.things.append(
        Thing(
            "user",
            _user_path(name),
            f'"mark-user-{name}"',
            name,
            teams,
            Action.READ_USERS,
            Action.WRITE_USERS,
            (("PATCH", "", {}),),
        )
    )
    budget = desk.get(_user_path(name))["budgets"][0]
    world.things.append(_budget(budget, name, teams, from_above=True))


def _credential(desk: Desk, world: World, name: str) -> None:
    """One's own, or, of nobody, the operator's: no team's role reaches either."""
    mark = f"mark-credential-{name}"
    secret = f"sk-ant-api03-{mark.replace(' ', '_')}"
    made = desk.make(f"{API}/credentials", provider="anthropic", secret=secret, name=mark, user_id=name or None)
    world.things.append(
        Thing(
            "credential",
            f"{API}/credentials/{made['credential_id']}",
            f'"{mark}"',
            name,
            frozenset(),
            Action.READ_CREDENTIALS,
            Action.WRITE_CREDENTIALS,
            (
                ("PATCH", "", {"name": mark}),
                ("PUT", "/secret", {"secret": f"{secret}-again"}),
                ("POST", "/test", None),
                ("DELETE", "", None),
            ),
        )
    )


def _budget(budget: dict[str, Any], user_id: str, teams: frozenset[str], *, from_above: bool = False) -> Thing:
    return Thing(
        f"budget over a {budget['scope']}",
        f"{API}/budgets/{budget['budget_id']}",
        f'"{budget["limit"]}"',
        user_id,
        teams,
        Action.READ_BUDGETS,
        Action.WRITE_BUDGETS,
        (("DELETE", "", None),),
        from_above,
    )


def _key(desk: Desk, world: World, name: str, team: str, named: bool, amount: str) -> None:
    """A key that counts toward a team because it says so or because its user does; a plan, a request and a refused one
    of it.
    """
    mark = f"mark-key-{name}-{team if named else 'home'}"
    plan_id = mark.replace("mark", "plan").replace(" ", "_").replace("/", "_")
    desk.make(f"{API}/plans", plan_id=plan_id, description=f"of {mark}")
    of = {"user_id": name, "name": mark, "plan_id": plan_id, "budget": f"{amount}/day"}
    key = desk.make(f"{API}/keys", **of, **({"team_id": team} if named else {}))
    teams = frozenset((team,) if team else ())
    world.things.append(
        Thing(
            "key",
            f"{API}/keys/{key['key_id']}",
            f'"{mark}"',
            name,
            teams,
            Action.READ_KEYS,
            Action.WRITE_KEYS,
            (("PATCH", "", {}), ("POST", "/pause", None), ("DELETE", "", None)),
        )
    )
    world.things.append(_budget(key["budgets"][0], name, teams))
    world.things.append(Thing("plan", f"{API}/plans/{plan_id}", f"of {mark}", name, frozenset(), Action.READ_PLANS))
    request, none = f"req_{plan_id}", f"req_{plan_id}_none"
    call = settled(request, key, model=f"model-{mark}", client=f"client-{mark}", at_ns=START_NS, team_id=team)
    sides = Side(b"asked", 5), Side(b"answered", 8)
    kept = Content(request, "default", name, key["key_id"], START_NS, START_NS * 2, *sides)
    row = row_of(kept, seal_content(desk.deps.vault, kept), 1)

    def write(connection: Connection) -> None:
        ship(connection, [call], [refused(none, key, team_id=team)])
        captures.keep(connection, [row])

    desk.deps.database.run_sync(write)
    world.things.append(Thing("content", f"{API}/requests/{request}/content", "", name, frozenset(), READ_CONTENT))
    for request_id in (request, none):
        marked = f'"{request_id}"'
        path = f"{API}/requests/{request_id}" if request_id == request else ""
        world.things.append(Thing("request", path, marked, name, teams, Action.READ_REQUESTS))
    world.things.append(Thing("usage", "", f'"client-{mark}"', name, teams, Action.READ_USAGE))

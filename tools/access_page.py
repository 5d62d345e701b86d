"""Writes docs/guide/access.md: who may do what, from the tables that the gate and the handlers read.

PYTHONPATH=src .venv/bin/python tools/access_page.py
"""

from collections.abc import Iterator
from pathlib import Path

from tollhouse.controlplane.permissions import PERMISSIONS, Permission
from tollhouse.rules.roles import IN_TEAM, MATRIX, Action, Reach
from tollhouse.terms.people import Role

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guide" / "access.md"

HEAD = """\
# Who may do what

Written by `tools/access_page.py` from the tables in `rules/roles.py` and `controlplane/permissions.py`, which the gate
and the handlers read; a test holds this page to them.

Somebody has one role in the organisation, and may have another in each team. What they reach with an action is the
larger of both: nothing (·), what is their **own**, what is their **team**'s, or **all**. What lies outside looks like
nothing at all (404). Service accounts have keys and never sign in. A virtual key manages nothing: it reads
`/api/v1/me` and the requests it made.
"""

TEAMS = """
## In a team

Within that team only. A team's own limits, plan and budget are set from above; so are budgets over its members, who
may be in other teams too.
"""

ROUTES = """
## Routes

*public*: no credential. *anybody*: a way to sign in. *session*: only by a session's cookie. *self*: a virtual key or a
session, about itself. *own call*: the virtual key that made the call, and whose role reaches it. *owner bearer*: the
master key in `Authorization: Bearer` and no other way. *metrics*: an owner, or anybody where `metrics_open` is set.
"""

WORDS = {Reach.NONE: "·", Reach.OWN: "own", Reach.TEAM: "team", Reach.ALL: "all"}


def page() -> str:
    return "\n".join((HEAD, *_table(_roles()), TEAMS, *_table(_teams()), ROUTES, *_table(_routes()), ""))


def _roles() -> Iterator[tuple[str, ...]]:
    yield ("action", *Role)
    for action in Action:
        yield (f"`{action}`", *(WORDS[MATRIX[role][action]] for role in Role))


def _teams() -> Iterator[tuple[str, ...]]:
    yield ("action", *(f"{role} of a team" for role in IN_TEAM))
    for action in Action:
        if any(action in actions for actions in IN_TEAM.values()):
            yield (f"`{action}`", *("team" if action in actions else "·" for actions in IN_TEAM.values()))


def _routes() -> Iterator[tuple[str, ...]]:
    yield ("route", "asks for", *Role, "team's admin", "team's viewer", "team's member")
    for (method, path), permission in PERMISSIONS.items():
        route = f"`{method} {path.replace(':path', '')}`"
        if isinstance(permission, Permission):
            yield (route, f"*{permission.replace('_', ' ')}*", *("" for _ in range(len(Role) + len(IN_TEAM))))
        else:
            of_roles = (WORDS[MATRIX[role][permission]] for role in Role)
            in_teams = (permission in IN_TEAM[role] for role in (Role.ADMIN, Role.VIEWER, Role.MEMBER))
            yield (route, f"`{permission}`", *of_roles, *("team" if there else "" for there in in_teams))


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    head = next(rows)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

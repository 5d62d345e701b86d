"""Tenants × things: nobody reads, lists or changes what is not theirs, whichever way they ask. 0 leaks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes.control import Desk, open_desk
from tests.planes.tenants import API, CALLERS, PEOPLE, Thing, World, build, may
from tollhouse.rules.roles import Reach

QUERIES = ("", "user=red+member", "user=blue/member", "team=red", "team=blue")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    home = tmp_path_factory.mktemp("tenants")
    desk = open_desk(home)
    world = build(desk)
    desk.deps.database.close()
    return home / "tollhouse.db", world


@pytest.fixture
def desk(made: tuple[Path, World], tmp_path: Path) -> Iterator[Desk]:
    """A copy of the world: what a test changes in it is its own."""
    shutil.copy(made[0], tmp_path / "tollhouse.db")
    opened = open_desk(tmp_path, first=1 << 40)
    yield opened
    opened.deps.database.close()


@pytest.mark.parametrize("name", PEOPLE)
def test_one_sees_and_changes_what_the_tables_say_and_nothing_else(
    desk: Desk, made: tuple[Path, World], name: str
) -> None:
    world = made[1]
    assert [*misread(desk, world, name), *mislisted(desk, world, name), *mischanged(desk, world, name)] == []


def misread(desk: Desk, world: World, name: str) -> Iterator[str]:
    caller = CALLERS[name]
    for thing in world.things:
        if thing.path:
            status = desk.ask("GET", thing.path, caller=caller).status_code
            shut_out = name == "program" and thing.kind != "request"  # which a key may ask for, so the gate is open
            wanted = 200 if may(caller, thing.reading, thing) else 403 if shut_out else 404
            if status != wanted:
                yield f"GET {thing.path} ({thing.kind}): {status}, not {wanted}"


def mislisted(desk: Desk, world: World, name: str) -> Iterator[str]:
    caller = CALLERS[name]
    for path, action in world.lists.items():
        targets = [f"{path}{'&' if '?' in path else '?'}{query}" for query in QUERIES]
        first, *narrowed = (desk.ask("GET", target, caller=caller).text for target in targets)
        for thing in world.things:
            if not thing.mark:
                continue
            theirs = may(caller, thing.reading, thing)
            if not theirs and thing.mark in "".join((first, *narrowed)):
                yield f"{path} leaks {thing.mark} ({thing.kind})"
            listed = thing.reading is action and not path.endswith("by=model") and name != "program"
            if theirs and listed and thing.mark not in first:
                yield f"{path} hides {thing.mark} ({thing.kind})"


def mischanged(desk: Desk, world: World, name: str) -> Iterator[str]:
    caller = CALLERS[name]
    for thing in sorted(world.things, key=lambda one: one.kind == "key"):  # budgets before keys are revoked
        for method, tail, body in thing.verbs:
            assert thing.writing is not None
            status = desk.ask(method, thing.path + tail, body, caller=caller).status_code
            what = f"{method} {thing.path}{tail} ({thing.kind}): {status}"
            if may(caller, thing.writing, thing) and not beyond_an_admin(name, thing):
                if status not in (200, 201, 204):
                    yield f"{what}, though it may"
            elif status not in (403, 404):
                yield f"{what}, though it may not"
            elif status == 403 and not may(caller, thing.reading, thing) and caller.reach(thing.writing) > Reach.NONE:
                yield f"{what}, which tells that it is there"


def beyond_an_admin(name: str, thing: Thing) -> bool:
    return name == "admin" and thing.mark == '"mark-user-admin"'  # only an owner changes admins


def test_a_name_that_is_not_there_is_refused_in_the_same_words(desk: Desk, made: tuple[Path, World]) -> None:
    loner = CALLERS["loner"]
    for thing in made[1].things:
        if thing.path and not may(loner, thing.reading, thing) and thing.kind not in ("membership", "content"):
            name = thing.path.rpartition("/")[2]
            paths = (thing.path, thing.path.replace(name, "x" * len(name)))
            there, gone = (desk.ask("GET", path, caller=loner) for path in paths)
            assert (there.status_code, gone.status_code) == (404, 404)
            for end in (0, -1):
                assert there.json()["detail"].split("'")[end] == gone.json()["detail"].split("'")[end], thing.path
    assert desk.ask("GET", f"{API}/me", caller=loner).json()["user"]["user_id"] == "loner"

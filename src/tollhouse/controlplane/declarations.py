"""Declared files: what `tollhouse apply` sends. One transaction makes what a file states so, or nothing of it.

A dry run is the same transaction, undone at its end: it finds every fault that the real one would.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.declared import Ids, Reading, named
from tollhouse.controlplane.declared_fields import DeclarationIn
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.keys import new_key_id, new_secret
from tollhouse.controlplane.problems import MAX_FIELD_ERRORS, Problem
from tollhouse.rules.declarations import Act, Change, Fault, Kind, Stated, compare, name_of
from tollhouse.storage import declared, directory
from tollhouse.storage.plans import holders_of
from tollhouse.storage.providers import all_providers
from tollhouse.terms.people import VirtualKey

router = APIRouter(prefix="/api/v1/declarations", tags=["declarations"])

MAX_HOLDERS_NAMED = 5
_ID_BYTES = 10


class FieldOut(BaseModel):
    field: str
    before: Any
    after: Any


class ChangeOut(BaseModel):
    act: Act
    """create | update | unchanged | delete | left (no longer named, and kept: without `prune` nothing ends)"""
    kind: Kind
    name: str
    fields: list[FieldOut]


class NewKeyOut(BaseModel):
    name: str
    user_id: str
    key_id: str
    key: str
    """The key itself: only here."""


class DeclarationOut(BaseModel):
    """`keys` are those that were made; a dry run makes none."""

    owner: str
    dry_run: bool
    changes: list[ChangeOut]
    summary: dict[Act, int]
    keys: list[NewKeyOut]


class Outcome(msgspec.Struct):
    changes: list[Change]
    keys: list[NewKeyOut]


class _Undone(Exception):
    """Ends a dry run's transaction, which is rolled back."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@router.post("")
async def declare(body: DeclarationIn, deps: Deps) -> DeclarationOut:
    """Make what a file states so: create, change, and with `prune` end what it no longer names.

    What the file declares is read-only elsewhere. The same file again changes nothing.
    """
    wanted = named(body.owner, body.resources)
    now_ns = deps.now_ns()

    def change(connection: Connection) -> Outcome:
        stored = declared.stored(connection, wanted)
        ids = Ids(now_ns, deps.timezone, lambda: new_key_id(deps), lambda: f"bud_{deps.random_bytes(_ID_BYTES).hex()}")
        reading = Reading(body.owner, body.resources, stored, ids)
        stated = list(reading.stated())
        changes, faults = compare(stated, stored, body.owner, prune=body.prune, rosters=wanted.rosters)
        _refuse([*reading.faults, *faults])
        owners = directory.count_owners(connection)
        outcome = Outcome(changes, [])
        for one in changes:
            _write(connection, deps, one, outcome)
        if owners and not directory.count_owners(connection):
            raise Problem(409, "last_owner", "The file would leave nobody with the role owner; name another one first.")
        _refuse([*_held(connection, changes), *_unusable(connection, deps, changes, stated)])
        if body.dry_run:
            raise _Undone(outcome)
        if deps.also is not None:
            deps.also(connection)
        return outcome

    try:
        outcome = await deps.database.run(change)  # not `write`: a file that changes nothing makes nobody look again
    except _Undone as undone:
        return _out(body, Outcome(undone.outcome.changes, []))
    acts = {change.act for change in outcome.changes}
    if acts & {Act.CREATE, Act.UPDATE, Act.DELETE}:
        await deps.changed(None)
        if any(change.name.kind is Kind.PROVIDER for change in outcome.changes):
            await deps.providers.adopt()
    return _out(body, outcome)


def _write(connection: Connection, deps: ControlDeps, change: Change, outcome: Outcome) -> None:
    key = change.after
    if change.act is not Act.CREATE or not isinstance(key, VirtualKey):
        declared.write(connection, change, deps.now_ns())
        return
    text, secret = new_secret(deps, key.key_id)
    made = msgspec.structs.replace(change, after=msgspec.structs.replace(key, hint=secret.hint))
    declared.write(connection, made, deps.now_ns(), secret)
    outcome.keys.append(NewKeyOut(name=key.name, user_id=key.user_id, key_id=key.key_id, key=text))


def _refuse(faults: Sequence[Fault]) -> None:
    """Raises Problem (400) with all faults, as far as an answer holds them."""
    if not faults:
        return
    errors = [{"field": f"resources.{fault.place}", "message": fault.message} for fault in faults]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise Problem(
        400,
        "invalid_declaration",
        f"{first['field']}: {first['message']}{more}",
        field=first["field"],
        extra={"errors": errors[: 5 * MAX_FIELD_ERRORS]},
    )


def _held(connection: Connection, changes: Sequence[Change]) -> list[Fault]:
    """Plans that go although somebody still holds them."""
    faults = []
    for change in changes:
        if change.act is Act.DELETE and change.name.kind is Kind.PLAN:
            found = holders_of(connection, change.name.text, MAX_HOLDERS_NAMED)
            if found:
                message = f"the plan {change.name.text} is no longer named, but still held by {', '.join(found)}"
                faults.append(Fault("plans", message))
    return faults


def _unusable(
    connection: Connection, deps: ControlDeps, changes: Sequence[Change], stated: Sequence[Stated]
) -> list[Fault]:
    """Providers that could not be called: a name that is taken, a credential that cannot be read here."""
    if all(change.name.kind is not Kind.PROVIDER or change.act is Act.UNCHANGED for change in changes):
        return []
    places = {name_of(one.thing).text: one.place for one in stated if name_of(one.thing).kind is Kind.PROVIDER}
    found = deps.providers.faults(all_providers(connection))
    return [Fault(places[name] + (f".{field}" if field else ""), text) for name, field, text in found if name in places]


def _out(body: DeclarationIn, outcome: Outcome) -> DeclarationOut:
    summary = dict.fromkeys(Act, 0)
    for change in outcome.changes:
        summary[change.act] += 1
    return DeclarationOut(
        owner=body.owner,
        dry_run=body.dry_run,
        changes=[
            ChangeOut(
                act=change.act,
                kind=change.name.kind,
                name=change.name.text,
                fields=[FieldOut(field=one.field, before=one.before, after=one.after) for one in change.fields],
            )
            for change in outcome.changes
        ],
        summary=summary,
        keys=outcome.keys,
    )

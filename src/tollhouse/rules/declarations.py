"""What a declared file changes: what it states, held against what is stored.

    create      stated, not stored
    update      stated otherwise than stored, or stored but no file's yet: it becomes this file's
    unchanged   stated as it is stored
    delete      this file's, and no longer stated (only when pruning)
    left        the same, when not pruning: it stays as it is, and this file's

What another file declares is a fault, never a change. What nobody declared, and this file does not name, is left alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from tollhouse.rules.budgets import describe_amount
from tollhouse.terms.people import Budget, Membership, Plan, Team, User, VirtualKey
from tollhouse.terms.providers import ProviderRow

Thing = Plan | Team | User | Membership | VirtualKey | Budget | ProviderRow


class Kind(StrEnum):
    """What a file can declare, in the order in which one leans on the other."""

    PLAN = "plan"
    TEAM = "team"
    USER = "user"
    MEMBER = "member"
    KEY = "key"
    BUDGET = "budget"
    PROVIDER = "provider"


class Act(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    DELETE = "delete"
    LEFT = "left"


class Name(msgspec.Struct, frozen=True):
    """Which one: what stays the same while everything else about it may change."""

    kind: Kind
    text: str


class Stated(msgspec.Struct, frozen=True):
    """One thing as the file says it; `place` is where, such as `users.3`. `left` are fields it does not speak of."""

    thing: Thing
    place: str
    left: frozenset[str] = frozenset()


class FieldChange(msgspec.Struct, frozen=True):
    """One field before and after, as JSON values; None where there was or will be nothing."""

    field: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True):
    """What happens to one thing. `before` is None when it is created, `after` when it is deleted."""

    act: Act
    name: Name
    before: Thing | None
    after: Thing | None
    fields: tuple[FieldChange, ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """What is wrong in the file, and where."""

    place: str
    message: str


_NEVER_STATED: Final = frozenset(
    (
        *("created_at_ns", "blocked_at_ns", "revoked_at_ns", "org_id", "hint", "key_id", "budget_id"),
        *("scope", "scope_id", "scope_name", "unit", "window"),
        *("paused_at_ns", "pause_reason", "capture_days", "erased_at_ns"),
    )
)
"""Kept from what is stored. Who is blocked is told apart (`blocked`)."""


_IDENTITY: Final[dict[type, tuple[str, ...]]] = {
    Plan: ("plan_id",),
    Team: ("team_id",),
    User: ("user_id",),
    Membership: ("team_id", "user_id"),
    VirtualKey: ("name", "user_id"),
    ProviderRow: ("name",),
}
"""What a thing goes by: the same before and after."""


def name_of(thing: Thing) -> Name:
    match thing:
        case Plan():
            return Name(Kind.PLAN, thing.plan_id)
        case Team():
            return Name(Kind.TEAM, thing.team_id)
        case User():
            return Name(Kind.USER, thing.user_id)
        case Membership():
            return Name(Kind.MEMBER, f"{thing.user_id} in {thing.team_id}")
        case VirtualKey():
            return Name(Kind.KEY, key_name(thing.name, thing.user_id))
        case Budget():
            return Name(Kind.BUDGET, f"{thing.unit}/{thing.window} of {thing.whose}")
        case ProviderRow():
            return Name(Kind.PROVIDER, thing.name)


def key_name(name: str, user_id: str) -> str:
    """A key goes by its name and its user: the file knows no id."""
    return f"{name} of {user_id}"


def owner_of(thing: Thing) -> str:
    """The file that declares it. A membership is its team's."""
    return "" if isinstance(thing, Membership) else thing.owned_by


def compare(
    stated: Sequence[Stated],
    stored: Mapping[Name, Thing],
    owner: str,
    *,
    prune: bool,
    rosters: frozenset[str] = frozenset(),
) -> tuple[list[Change], list[Fault]]:
    """What the file of this name changes, in the order in which it can be done; and what it may not.

    stored    what the file names, and all that it declared before
    rosters   teams whose members are all stated: any other is taken out, pruning or not
    """
    changes: list[Change] = []
    faults: list[Fault] = []
    named: dict[Name, str] = {}
    for one in stated:
        name = name_of(one.thing)
        if name in named:
            faults.append(Fault(one.place, f"the {name.kind} {name.text} is declared twice, first at {named[name]}"))
            continue
        named[name] = one.place
        there = stored.get(name)
        other = "" if there is None else owner_of(there)
        if other not in ("", owner):
            faults.append(
                Fault(one.place, f"the {name.kind} {name.text} is declared by {other}; remove it there first")
            )
            continue
        changes.append(_stated(name, one, there))
    gone = []
    for name, there in stored.items():
        ousted = isinstance(there, Membership) and there.team_id in rosters
        if name not in named and (ousted or owner_of(there) == owner):
            gone.append(Change(Act.DELETE if ousted or prune else Act.LEFT, name, there, None))
    order = list(Kind)
    changes.sort(key=lambda change: order.index(change.name.kind))
    gone.sort(key=lambda change: -order.index(change.name.kind))  # what leans on another goes before it
    return [*changes, *gone], faults


def _stated(name: Name, one: Stated, there: Thing | None) -> Change:
    if there is None:
        told = facts(one.thing)
        fields = tuple(FieldChange(field, None, told[field]) for field in told if told[field] and field != "owned_by")
        return Change(Act.CREATE, name, None, one.thing, fields)
    kept = {field: getattr(there, field) for field in there.__struct_fields__ if field in _NEVER_STATED | one.left}
    if "blocked" not in one.left and isinstance(one.thing, User | Team) and isinstance(there, User | Team):
        stated, stored = one.thing.blocked_at_ns, there.blocked_at_ns
        kept["blocked_at_ns"] = stored if stated is not None and stored is not None else stated
    after: Thing = msgspec.structs.replace(one.thing, **kept)
    old, new = facts(there), facts(after)
    fields = tuple(FieldChange(field, old[field], new[field]) for field in new if old[field] != new[field])
    return Change(Act.UPDATE if fields else Act.UNCHANGED, name, there, after, fields)


def facts(thing: Thing) -> dict[str, Any]:
    """What a file can say of a thing, as JSON values, for people to compare."""
    found: dict[str, Any] = dict(_facts(thing))
    if isinstance(thing, User | Team):
        found["blocked"] = thing.blocked_at_ns is not None
    return found


def _facts(thing: Thing) -> Iterator[tuple[str, Any]]:
    for field in thing.__struct_fields__:
        value = getattr(thing, field)
        if field in _NEVER_STATED or field in _IDENTITY.get(type(thing), ()):
            continue
        if field == "limits":
            yield from ((f"limits.{name}", getattr(value, name)) for name in value.__struct_fields__)
        elif field == "limit" and isinstance(thing, Budget):
            yield "amount", describe_amount(value, thing.unit)
        elif field == "expires_at_ns":
            yield "expires", None if value is None else datetime.fromtimestamp(value // 10**9, UTC).isoformat()
        elif field == "budgets":
            yield field, [f"{describe_amount(one.limit, one.unit)}/{one.window}" for one in value]
        else:
            yield field, msgspec.to_builtins(value)

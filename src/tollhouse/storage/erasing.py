"""Erasing a user: everything personal goes, what was used and what it cost stays, under a pseudonym.

    begin         one transaction: whoever they were leaves the directory. Their ways in, their own credentials and
                  their captured content are deleted; keys (revoked), memberships and budgets go over to the pseudonym.
                  The erasure is written down with the id that is still to be replaced.
    rename_some   some rows a transaction, for the ledger may hold millions of them: the pseudonym in place of the id,
                  nothing in place of what clients said of themselves. What the rows added to a plan's budgets, whose
                  ids name their holder, moves along with them: `posted` is the sum of its entries after every commit.
    finish        once no row is left and none can come: the id is forgotten here too.

It may be broken off anywhere, and goes on from what is written down. The sums of the ledger do not change. Somebody of
the same id may come anew meanwhile: rows admitted after the beginning are theirs.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from tollhouse.rules.plans import renamed_holder, unit_of
from tollhouse.storage import directory
from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.capture_tables import captures
from tollhouse.storage.credential_tables import credential_users, credentials
from tollhouse.storage.database import Database
from tollhouse.storage.erasure_tables import erasures
from tollhouse.storage.notice_tables import notices, webhooks
from tollhouse.storage.sign_in_tables import identities, invitations, passwords, provisions, sessions
from tollhouse.storage.tables import (
    budget_windows,
    budgets,
    key_secrets,
    ledger,
    memberships,
    requests,
    users,
    virtual_keys,
)
from tollhouse.storage.trail import forget_subject
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import BudgetUnit, User

ROWS = 1_000
"""Of one transaction."""
TELLING_CHARS = 6
"""So long is an id or address that is sought within sentences: a shorter one is part of too many words."""
_CHUNK = 500
"""Values in one IN (…)."""
_SAID = {"session": "", "end_user": "", "client": ""}
"""What clients say of themselves and of whom they work for."""
_DELETED = (passwords, identities, provisions, sessions, credential_users, credentials, captures)
"""Rows that are a user's alone: each has a column `user_id`."""

_windows = msgspec.json.Decoder(tuple[tuple[str, int], ...]).decode
_encode = msgspec.json.Encoder().encode


class Erasure(msgspec.Struct, frozen=True):
    """One that has begun. `user_id` is who it is for; empty once it is done."""

    pseudonym: str
    user_id: str
    begun_at_ns: int


def begin(connection: Connection, user: User, pseudonym: str, now_ns: int) -> Erasure:
    """Nobody can call or sign in as this user any more, and nothing but the pseudonym is left of them in the
    directory.
    """
    user_id = user.user_id
    _forget_invitations(connection, user)
    _forget_notices(connection, user_id, pseudonym, user.email)
    for table in _DELETED:
        connection.execute(delete(table).where(table.c.user_id == user_id))
    nobody = User(
        pseudonym,
        org_id=user.org_id,
        created_at_ns=user.created_at_ns,
        blocked_at_ns=user.blocked_at_ns or now_ns,
        team_id=user.team_id,
        plan_id=user.plan_id,
        erased_at_ns=now_ns,
    )
    directory.create_user(connection, nobody)
    _hand_over_keys(connection, user_id, pseudonym, now_ns)
    for table, column in (
        (memberships, memberships.c.user_id),
        (invitations, invitations.c.invited_by),
        (credentials, credentials.c.created_by),
        (webhooks, webhooks.c.created_by),
    ):
        connection.execute(update(table).where(column == user_id).values({column.name: pseudonym}))
    of_user = (budgets.c.scope == ScopeKind.USER.value, budgets.c.scope_id == user_id)
    connection.execute(update(budgets).where(*of_user).values(scope_id=pseudonym))
    for name in (user_id, pseudonym):  # what goes over to the pseudonym is told of both
        forget_subject(connection, name)
    connection.execute(delete(users).where(users.c.user_id == user_id))
    connection.execute(insert(erasures).values(pseudonym=pseudonym, user_id=user_id, begun_at_ns=now_ns))
    return Erasure(pseudonym, user_id, now_ns)


def _forget_invitations(connection: Connection, user: User) -> None:
    """To them, by whichever of their addresses."""
    addresses = {user.email.strip().lower()}
    for table in (passwords, identities):
        addresses.update(connection.scalars(select(table.c.email).where(table.c.user_id == user.user_id)))
    column = invitations.c
    theirs = or_(column.user_id == user.user_id, func.lower(column.email).in_(sorted(addresses - {""})))
    # No record of this: to whom one was is what is to be forgotten.
    connection.execute(delete(invitations).where(theirs).execution_options(**UNRECORDED))


def _forget_notices(connection: Connection, user_id: str, pseudonym: str, email: str = "") -> None:
    """What was told of them says no more what it was; that it was told, and when, stays."""
    column, key = notices.c, virtual_keys.c
    theirs = or_(key.user_id == user_id, key.user_id == pseudonym)
    named = [one for one in (user_id, email) if len(one) >= TELLING_CHARS]
    of_them = or_(
        column.subject == f"user {user_id}",
        column.subject.endswith(f"@{ScopeKind.USER}:{user_id}", autoescape=True),
        column.subject.in_(select("key " + key.key_id).where(theirs)),
        # A budget of a key is called by the key's name.
        exists().where(theirs, column.data.contains(literal('"') + key.key_id + literal('"'))),
        column.data.contains(_encode(user_id).decode(), autoescape=True),
        *(text.contains(one, autoescape=True) for text in (column.text, column.data) for one in named),
    )
    tells = column.once.contains(user_id, autoescape=True)
    values = {
        "subject": f"{ScopeKind.USER} {pseudonym}",
        "once": case((tells, None), else_=column.once),
        "text": "It was about somebody who was erased.",
        "data": "{}",
    }
    connection.execute(update(notices).where(of_them).values(values))


def _hand_over_keys(connection: Connection, user_id: str, pseudonym: str, now_ns: int) -> None:
    column = virtual_keys.c
    keys_of_user = select(column.key_id).where(column.user_id == user_id)
    connection.execute(delete(key_secrets).where(key_secrets.c.key_id.in_(keys_of_user)))
    values = {
        "user_id": pseudonym,
        "name": "",
        "hint": "",
        "metadata": "{}",
        "pause_reason": "",
        "capture_days": 0,
        "owned_by": "",
        "revoked_at_ns": func.coalesce(column.revoked_at_ns, now_ns),
    }
    connection.execute(update(virtual_keys).where(column.user_id == user_id).values(values))


def unfinished(connection: Connection, user_id: str | None = None) -> list[Erasure]:
    """Those that have begun and are not done, oldest first; of one user when asked."""
    query = select(erasures).where(erasures.c.done_at_ns.is_(None)).order_by(erasures.c.begun_at_ns)
    if user_id is not None:
        query = query.where(erasures.c.user_id == user_id)
    return [Erasure(row.pseudonym, row.user_id, row.begun_at_ns) for row in connection.execute(query)]


def rename_some(connection: Connection, erasure: Erasure, limit: int = ROWS) -> int:
    """Replace the id in some rows of the ledger and the request log; how many. 0: none are left."""
    connection.execute(delete(captures).where(_theirs(connection, captures, erasure)))
    done = _rename_entries(connection, erasure, limit)
    if done:
        return done
    chosen = select(requests.c.request_id).where(_theirs(connection, requests, erasure)).limit(limit)
    found = list(connection.scalars(chosen))
    for some in _chunks(found):
        values = {"user_id": erasure.pseudonym, **_SAID}
        connection.execute(update(requests).where(requests.c.request_id.in_(some)).values(values))
    return len(found)


def _theirs(connection: Connection, table: Table, erasure: Erasure) -> ColumnElement[bool]:
    """Their rows; where somebody of this id has come anew, those from before the beginning."""
    same: ColumnElement[bool] = table.c.user_id == erasure.user_id
    if directory.get_user(connection, erasure.user_id) is None:
        return same
    return and_(same, table.c.at_ns < erasure.begun_at_ns)


def _rename_entries(connection: Connection, erasure: Erasure, limit: int) -> int:
    entry = ledger.c
    chosen = select(entry.entry_id, entry.budgets, entry.amount_nusd, entry.tokens)
    rows = connection.execute(chosen.where(_theirs(connection, ledger, erasure)).limit(limit)).all()
    of_text: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        of_text[row.budgets].append(row)
    moved: dict[tuple[str, int], int] = defaultdict(int)
    for text, entries in of_text.items():
        windows = _windows(text)
        renamed = tuple((_renamed(budget_id, erasure), start_s) for budget_id, start_s in windows)
        for window, new in zip(windows, renamed, strict=True):
            if window != new:
                moved[window] += sum(_adds(window[0], one) for one in entries)
        values = {"user_id": erasure.pseudonym, **_SAID, "budgets": _encode(renamed).decode()}
        for some in _chunks([one.entry_id for one in entries]):
            connection.execute(update(ledger).where(entry.entry_id.in_(some)).values(values))
    for (budget_id, start_s), amount in moved.items():
        _move(connection, budget_id, start_s, amount, _renamed(budget_id, erasure))
    return len(rows)


def _adds(budget_id: str, entry: Any) -> int:
    """What an entry adds to a plan's budget, in its unit."""
    unit = unit_of(budget_id)
    return int(entry.amount_nusd if unit is BudgetUnit.USD else entry.tokens if unit is BudgetUnit.TOKENS else 1)


def _renamed(budget_id: str, erasure: Erasure) -> str:
    return renamed_holder(budget_id, ScopeKind.USER, erasure.user_id, erasure.pseudonym)


def _move(connection: Connection, budget_id: str, start_s: int, amount: int, to: str) -> None:
    """From one budget's window to the same of another; a window of which nothing is left goes."""
    column = budget_windows.c
    old = (column.budget_id == budget_id, column.window_start_s == start_s)
    new = (column.budget_id == to, column.window_start_s == start_s)
    if not connection.execute(update(budget_windows).where(*new).values(posted=column.posted + amount)).rowcount:
        connection.execute(insert(budget_windows).values(budget_id=to, window_start_s=start_s, posted=amount))
    connection.execute(update(budget_windows).where(*old).values(posted=column.posted - amount))
    connection.execute(delete(budget_windows).where(*old, column.posted == 0))


def finish(connection: Connection, erasure: Erasure, now_ns: int) -> None:
    """Forget whose it was."""
    _forget_notices(connection, erasure.user_id, erasure.pseudonym)
    if directory.get_user(connection, erasure.user_id) is None:
        _leave_no_window(connection, erasure)
    done = {"user_id": "", "done_at_ns": now_ns}
    end = update(erasures).where(erasures.c.pseudonym == erasure.pseudonym).values(done)
    connection.execute(end.execution_options(**UNRECORDED))  # a record would name them again


def _leave_no_window(connection: Connection, erasure: Erasure) -> None:
    column = budget_windows.c
    named = column.budget_id.endswith(f"@{ScopeKind.USER}:{erasure.user_id}", autoescape=True)  # or in other letters
    for budget_id, start_s, posted in connection.execute(select(budget_windows).where(named)).all():
        if _renamed(budget_id, erasure) != budget_id:
            _move(connection, budget_id, start_s, posted, _renamed(budget_id, erasure))


async def complete(database: Database, erasure: Erasure) -> None:
    """Replace the id in all rows there are; no more of theirs may come. Raises StorageError."""
    while await database.run(lambda connection: rename_some(connection, erasure)):
        pass
    await database.run(lambda connection: finish(connection, erasure, time.time_ns()))
    await database.scrub()


async def complete_all(database: Database) -> int:
    """Those that a crash left; how many. Before the first call is admitted."""
    left = await database.run(unfinished)
    for erasure in left:
        await complete(database, erasure)
    return len(left)


def _chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[at : at + _CHUNK] for at in range(0, len(values), _CHUNK)]

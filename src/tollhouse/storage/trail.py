"""The audit trail as it is written: each transaction of the writer that changes something people change brings its
records along, and is rolled back when they cannot be written.

There is one writer to a database, so the chain needs no lock: the next record follows the newest that the transaction
sees. What they say is decided by `audited`, what was changed by `watch`, how they hang together by `rules.audit`.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from tollhouse.rules import audit as rules
from tollhouse.rules.audit import GENESIS
from tollhouse.storage import watch as watching
from tollhouse.storage.anchor import Anchor
from tollhouse.storage.audit_tables import audit, audit_subjects
from tollhouse.storage.audited import AUDITED, TREES, Told
from tollhouse.storage.watch import Change, Event, Watch, watch_of
from tollhouse.terms.audit import AuditRecord, Author, Head

log = logging.getLogger("tollhouse.audit")

SALT_BYTES = 16
MAX_VALUE_CHARS = 20_000
"""Of one value; of a longer one its beginning is told (metadata has 16 KB at most)."""
_AT_ONCE = 500
_subject = audit_subjects.c
_encode = msgspec.json.Encoder(order="deterministic").encode


class Named(msgspec.Struct, frozen=True):
    """A value that is about somebody: what it is, whom it is about, the value."""

    what: str
    about: str
    value: str

    @property
    def lookup(self) -> bytes:
        return rules.lookup(self.what, self.about, self.value)


class _Draft(msgspec.Struct):
    """A record before its references have numbers: a `Named`, or a plain text, in each place."""

    act: str
    kind: str
    thing: Named | str
    changes: list[tuple[str, Any, Any]]
    about: str = ""


class Trail:
    """What `Database` asks to see each transaction of its writer (a `database.Recorder`)."""

    def __init__(
        self,
        server_secret: bytes,
        anchor: Anchor | None,
        now_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.key = rules.chain_key(server_secret)
        self.head = GENESIS
        """The newest record that is committed."""
        self.anchor = anchor
        self.trouble = ""
        """Why the anchor is not what it should be; for the operator."""
        self._now_ns = now_ns
        self._random_bytes = random_bytes
        self._pending: Head | None = None

    def open(self, connection: Connection) -> None:
        """Find the head, and hold it to the anchor. Another end of the trail than was left is told by a record, for the
        anchor follows the trail from now on.
        """
        self.head, _ = _newest(connection)
        left, unread = self.left()
        if self.anchor is None or (left is not None and fits(connection, left)):
            return
        if left is None and self.head == GENESIS and not self.anchor.path.exists():
            self._leave(GENESIS)
        else:
            event(connection, self._broken(unread if left is None else str(left), self.head, None))

    def left(self) -> tuple[Head | None, str]:
        """The head as the anchor has it; None, with the reason, where that cannot be said."""
        if self.anchor is None:
            return None, ""
        try:
            left = self.anchor.read()
        except (OSError, ValueError) as error:
            return None, f"{self.anchor.path}, which keeps the head, cannot be read: {error}"
        return left, "" if left is not None else f"{self.anchor.path}, which keeps the head, is not there"

    def _broken(self, was_left: str, found: Head, references: int | None) -> Event:
        self.trouble = "the audit trail does not end as it was left; `tollhouse audit verify` says more"
        log.warning(self.trouble)
        is_found = str(found) if references is None else f"{found}, {references} references"
        return Event(rules.BROKEN, "audit trail", "", {"was left": was_left, "is found": is_found})

    @contextlib.contextmanager
    def watching(self, connection: Connection, author: Author) -> Iterator[None]:
        """Around a transaction: sees what it changes, and writes the records at its end."""
        watch = watching.begin(connection, author)
        self._pending = None
        try:
            yield
            self._pending = self._write(connection, watch)
        finally:
            watching.end(connection)

    def committed(self) -> None:
        """After the commit."""
        if self._pending is None:
            return
        self.head, self._pending = self._pending, None
        self._leave(self.head)

    def _leave(self, head: Head) -> None:
        if self.anchor is None:
            return
        try:
            self.anchor.write(head)
        except OSError as error:
            self.trouble = f"the head of the audit trail cannot be written to {self.anchor.path}: {error.strerror}"
            log.warning(self.trouble)

    def _write(self, connection: Connection, watch: Watch) -> Head | None:
        drafts = [_of_event(one) for one in watch.events]
        drafts += [_of_change(AUDITED[change.table], change) for change in watch.changes() if _is_told(change)]
        if not drafts and not watch.forgotten:
            return None
        (head, marks), author = _newest(connection), watch.author
        highest = connection.execute(select(func.max(_subject.ref))).scalar_one() or 0
        if highest > marks or (head != self.head and not fits(connection, self.head)):
            drafts.insert(0, _of_event(self._broken(f"{self.head}, {marks} references", head, highest)))
        marks = max(marks, highest)
        erasure = _Draft(rules.ERASED, "audit references", "", [])
        if watch.forgotten:
            drafts.insert(0, erasure)
        at_ns, names = self._now_ns(), _named(author, drafts)
        refs, last, emptied = self._references(connection, watch, names, marks, head.seq + 1)
        erasure.changes.append(("references", None, {"is": rules.ranges_text(emptied)}))
        rows: list[dict[str, Any]] = []

        def text(name: Named | str) -> str:
            return refs[name] if isinstance(name, Named) else rules.plain(name)

        for draft in drafts:
            by, who = _whose(author, draft)
            record = AuditRecord(
                seq=head.seq + 1,
                at_ns=at_ns,
                request_id=author.request_id,
                actor_kind=by,
                actor=text(who),
                way=author.way,
                address=text(_place("address", author.address, draft, author)),
                client=text(_place("client", author.client, draft, author)),
                action=author.action,
                act=draft.act,
                kind=draft.kind,
                object=text(draft.thing),
                changes=_encode([[name, _told(a, refs), _told(b, refs)] for name, a, b in draft.changes]).decode(),
                subjects=last,
            )
            head = Head(record.seq, rules.seal(self.key, head.hash, record))
            rows.append({**msgspec.structs.asdict(record), "hash": head.hash})
        connection.execute(insert(audit), rows)
        return head

    def _references(
        self, connection: Connection, watch: Watch, names: Iterable[Named], marks: int, seq: int
    ) -> tuple[dict[Named, str], int, list[int]]:
        """The mention of each name, the highest number there is now, and the numbers that were emptied."""
        emptied = [ref for user_id in watch.forgotten for ref in _empty(connection, user_id, seq)]
        wanted = list(dict.fromkeys(names))
        refs = _there(connection, wanted)
        rows = []
        for name in wanted:
            if name in refs:
                continue
            marks += 1
            salt = self._random_bytes(SALT_BYTES)
            refs[name] = rules.mention(marks, rules.commitment(salt, name.what, name.about, name.value))
            gone = name.about in watch.forgotten
            if gone:
                emptied.append(marks)
            row = {**msgspec.structs.asdict(name), "ref": marks, "salt": salt, "lookup": name.lookup, "erased": 0}
            rows.append({**row, **_EMPTY, "erased": seq} if gone else row)
        if rows:
            connection.execute(insert(audit_subjects), rows)
        return refs, marks, emptied


_EMPTY: Mapping[str, Any] = {"about": "", "value": "", "salt": b"", "lookup": None}


def event(connection: Connection, one: Event) -> None:
    """Have an act recorded that changes no row; nothing where no trail is kept."""
    watch = watch_of(connection)
    if watch is not None:
        watch.events.append(one)


def forget_subject(connection: Connection, user_id: str) -> None:
    """Empty everything that the trail holds about a user, with this transaction: their id, names, addresses and texts,
    also those that this transaction's own records would tell. The chain stays whole, a record says that it was done.
    """
    watch = watch_of(connection)
    if watch is not None:
        if user_id and user_id not in watch.forgotten:
            watch.forgotten.append(user_id)
    else:
        _empty(connection, user_id, 0)


def fits(connection: Connection, head: Head) -> bool:
    """Whether the trail has this record."""
    if head.seq == 0:
        return head == GENESIS
    found = connection.execute(select(audit.c.hash).where(audit.c.seq == head.seq)).scalar_one_or_none()
    return found is not None and bytes(found) == head.hash


def _newest(connection: Connection) -> tuple[Head, int]:
    """The head, and the highest number of a reference."""
    query = select(audit.c.seq, audit.c.hash, audit.c.subjects).order_by(audit.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (GENESIS, 0) if row is None else (Head(row.seq, bytes(row.hash)), row.subjects)


def _empty(connection: Connection, user_id: str, seq: int) -> list[int]:
    """Empty what is about a user, and their addresses where they stand for nobody (they were invited by them)."""
    query = select(_subject.ref, _subject.what, _subject.value).where(_subject.about == user_id)
    rows = connection.execute(query).all()
    unclaimed = [rules.lookup("email", "", row.value) for row in rows if row.what == "email"]
    refs = [row.ref for row in rows]
    for at in range(0, len(unclaimed), _AT_ONCE):
        refs += connection.scalars(select(_subject.ref).where(_subject.lookup.in_(unclaimed[at : at + _AT_ONCE])))
    for at in range(0, len(refs), _AT_ONCE):
        some = _subject.ref.in_(refs[at : at + _AT_ONCE])
        connection.execute(update(audit_subjects).where(some).values({**_EMPTY, "erased": seq}))
    return refs


def _there(connection: Connection, names: list[Named]) -> dict[Named, str]:
    """The mentions of those that have a number."""
    found: dict[Named, str] = {}
    for at in range(0, len(names), _AT_ONCE):
        wanted = [name.lookup for name in names[at : at + _AT_ONCE]]
        for row in connection.execute(select(audit_subjects).where(_subject.lookup.in_(wanted))):
            name = Named(row.what, row.about, row.value)
            found[name] = rules.mention(row.ref, rules.commitment(bytes(row.salt), *msgspec.structs.astuple(name)))
    return {name: found[name] for name in names if name in found}


# What is told


def _is_told(change: Change) -> bool:
    """Whether anything but use has changed."""
    told = AUDITED[change.table]
    before, after = change.before, change.after
    return before is None or after is None or any(before[name] != after[name] for name in before.keys() - told.untold)


def _of_change(told: Told, change: Change) -> _Draft:
    before, after = change.before, change.after
    row = after or before
    assert row is not None
    owners = ["" if one is None else told.about(one) for one in (before, after)]
    about = owners[1] or owners[0]
    changes: list[tuple[str, Any, Any]] = []
    for name in row:
        sides = [None if one is None else one[name] for one in (before, after)]
        if name in told.untold or (sides[0] == sides[1] and name not in _NAMING) or sides in _NOTHING:
            continue
        first, then = (
            None if side is None else _side(told, name, side, whose) for side, whose in zip(sides, owners, strict=True)
        )
        changes.append((name, first, then))
    act = told.acts[0 if before is None else 2 if after is None else 1]
    what = told.personal.get(told.name)
    thing = str(row[told.name])
    return _Draft(act, told.kind, thing if what is None else Named(what, about, thing), changes, about)


_NAMING = frozenset(("user_id", "team_id", "provider", "issuer", "source"))
"""Told also where they did not change: which one it is."""
_NOTHING: list[list[Any]] = [[None, None], [None, ""], ["", None], [None, "{}"], ["{}", None]]


def _side(told: Told, name: str, value: Any, about: str) -> Any:
    what = told.personal.get(name)
    if name in told.address:
        return {"is": _origin(str(value))}
    if what is None and name not in told.plain:
        return {"secret": True}
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        value = f"{value[:MAX_VALUE_CHARS]}… ({len(value)} characters)"
    if what is not None:
        text = str(value)
        return Named(what, text if what == "user" else about, text) if text else {"is": ""}
    if name in TREES and isinstance(value, str):
        value = msgspec.json.decode(value) if value else value
    return {"is": value}


def _origin(url: str) -> str:
    """Where it leads: neither its path, nor who it is called as."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/…" if host else "" if not url else "…"


def _of_event(one: Event) -> _Draft:
    thing: Named | str = Named("user", one.about, one.about) if one.about else ""
    changes = [(name, None, {"is": value}) for name, value in one.facts.items()]
    return _Draft(one.act, one.kind, thing, changes, one.about)


def _whose(author: Author, draft: _Draft) -> tuple[str, Named | str]:
    """Who did it. Who signs in is nobody when asking, and known by what came of it."""
    if author.kind == "nobody" and draft.about and draft.act not in REFUSALS:
        return "user", Named("user", draft.about, draft.about)
    if author.kind == "user":
        return "user", Named("user", author.name, author.name)
    return author.kind, author.name


REFUSALS = frozenset(("refused", "locked out"))
"""Acts of who did not get in, whoever they said they were."""


def _place(what: str, value: str, draft: _Draft, author: Author) -> Named | str:
    """From where: about the one who acts."""
    kind, who = _whose(author, draft)
    return Named(what, who.value if isinstance(who, Named) and kind == "user" else "", value) if value else ""


def _named(author: Author, drafts: Iterable[_Draft]) -> Iterator[Named]:
    """All that is about somebody."""
    for draft in drafts:
        sides = [side for _, *both in draft.changes for side in both]
        places = (_place("address", author.address, draft, author), _place("client", author.client, draft, author))
        for one in (draft.thing, _whose(author, draft)[1], *places, *sides):
            if isinstance(one, Named):
                yield one


def _told(side: Any, refs: Mapping[Named, str]) -> Any:
    if not isinstance(side, Named):
        return side
    found = rules.mentioned(refs[side])
    assert found is not None
    return {"ref": found[0], "as": found[1]}

"""The chain of the audit trail: how a record is sealed, how somebody is mentioned in it, and how it is verified.

    hash(n) = HMAC-SHA256(key, hash(n-1) | canonical bytes of record n)

so a record that is edited, moved, inserted or removed does not fit its neighbours, and only who has the key (derived
from the server's secret) can make one that does. What is cut off at the end fits: against that stands the head, kept
outside of the database.

What is about a person does not stand in the record. There stands a mention: the number of a row beside the chain
(an `AuditSubject`) and a commitment to its value,

    HMAC-SHA256(salt, what | about | value)

with 128 random bits of salt for each. Verifying looks at it while the value is there. Erasing empties value and salt:
the chain is whole as before, and the commitment says nothing about the value to anybody who has not the salt. That a
value is gone must itself be said by a record (`ERASED`), else emptying a row would be an edit that nobody finds.

A mention as text is `~number:commitment`; a name of no person is `=name`; empty is nobody.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tollhouse.terms.audit import AuditFault, AuditRecord, AuditSubject, Head

GENESIS: Final = Head(0, bytes(32))
"""Before the first record."""
ERASED: Final = "erased"
"""The act of a record whose only change names the references that it emptied."""
BROKEN: Final = "trail does not fit"
"""The act of a record written when the trail had another end than was left."""
HASH_BYTES: Final = 32
_LOOKUP_BYTES: Final = 16
_FIELDS: Final = tuple(name for name in AuditRecord.__struct_fields__ if name != "hash")
_encode = msgspec.json.Encoder().encode


def chain_key(server_secret: bytes) -> bytes:
    """The key of the chain: nothing else is made with it."""
    return hmac.digest(server_secret, b"tollhouse audit", "sha256")


def seal(key: bytes, before: bytes, record: AuditRecord) -> bytes:
    """The hash of a record after one of hash `before`."""
    canonical = _encode([getattr(record, name) for name in _FIELDS])
    return hmac.digest(key, before + canonical, "sha256")


def commitment(salt: bytes, what: str, about: str, value: str) -> str:
    return hmac.digest(salt, _encode([what, about, value]), "sha256").hex()


def lookup(what: str, about: str, value: str) -> bytes:
    """Finds a value that is there; it is erased together with it."""
    return hashlib.blake2b(_encode([what, about, value]), digest_size=_LOOKUP_BYTES).digest()


def plain(name: str) -> str:
    return f"={name}" if name else ""


def mention(ref: int, committed: str) -> str:
    return f"~{ref}:{committed}"


def mentioned(text: str) -> tuple[int, str] | None:
    """Number and commitment of a mention; None for a plain name."""
    if not text.startswith("~"):
        return None
    ref, _, committed = text[1:].partition(":")
    return (int(ref), committed) if ref.isascii() and ref.isdigit() else None


def changes_of(record: AuditRecord) -> list[tuple[str, Any, Any]]:
    """The fields that changed, with both sides: None, `{"is": value}`, `{"secret": true}` or `{"ref": …, "as": …}`."""
    return [(name, before, after) for name, before, after in msgspec.json.decode(record.changes)]


def mentions(record: AuditRecord) -> Iterator[tuple[int, str]]:
    """All of a record. Raises ValueError when its changes cannot be read."""
    for text in (record.actor, record.address, record.client, record.object):
        found = mentioned(text)
        if found is not None:
            yield found
    try:
        sides = [side for _, *both in changes_of(record) for side in both]
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError("its changes cannot be read") from error
    for side in sides:
        if isinstance(side, dict) and "ref" in side:
            yield side["ref"], side["as"]


def ranges_text(refs: Iterable[int]) -> str:
    """`3-7,9` for some numbers."""
    parts: list[list[int]] = []
    for ref in sorted(set(refs)):
        if parts and ref == parts[-1][1] + 1:
            parts[-1][1] = ref
        else:
            parts.append([ref, ref])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in parts)


def in_ranges(ref: int, text: str) -> bool:
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and int(first) <= ref <= int(last or first):
            return True
    return False


def parse_head(text: str) -> Head:
    """`SEQ:HASH` as metrics, status and `verify` print it. Raises ValueError."""
    seq, _, digest = text.strip().partition(":")
    try:
        head = Head(int(seq), bytes.fromhex(digest))
    except ValueError:
        head = None
    if head is None or head.seq < 0 or len(head.hash) != HASH_BYTES:
        raise ValueError("a head is written SEQ:HASH, a number and 64 hexadecimal digits")
    return head


class Verifier:
    """Holds records to the chain, one after the other; stays where it found the last."""

    def __init__(self, key: bytes, after: Head = GENESIS, marks: int = 0) -> None:
        self._key = key
        self.head = after
        self.marks = marks
        """Highest number of a reference up to here."""

    def check(
        self, record: AuditRecord, subjects: Mapping[int, AuditSubject], erasing: Callable[[int], str]
    ) -> Iterator[AuditFault]:
        """What is wrong with the next record there is. `subjects` has at least those that it mentions or brought;
        `erasing` tells which references the record of a number emptied.
        """
        wanted = self.head.seq + 1
        if record.seq > wanted:
            last = f" to {record.seq - 1}" if record.seq - 1 > wanted else ""
            yield AuditFault(wanted, f"record {wanted}{last} is missing")
        elif record.seq < wanted:
            yield AuditFault(record.seq, f"record {record.seq} does not belong here: the trail begins with 1")
            return
        if not hmac.compare_digest(seal(self._key, self.head.hash, record), record.hash):
            yield AuditFault(
                record.seq,
                f"record {record.seq} does not fit: it, or what stood before it, was changed, moved or removed",
            )
        else:
            yield from self._references(record, subjects, erasing)
        if record.act == BROKEN:
            yield AuditFault(
                record.seq, f"record {record.seq} tells of a start that found another end: {record.changes}"
            )
        self.marks = max(self.marks, record.subjects)
        self.head = Head(record.seq, record.hash)

    def brought(self, record: AuditRecord) -> range:
        """Numbers of the references that came with a record, which is the next."""
        return range(self.marks + 1, record.subjects + 1)

    def _references(
        self, record: AuditRecord, subjects: Mapping[int, AuditSubject], erasing: Callable[[int], str]
    ) -> Iterator[AuditFault]:
        known = dict(mentions(record))
        for ref in {*known, *self.brought(record)}:
            subject = subjects.get(ref)
            wrong = "is gone" if subject is None else subject_fault(subject, known.get(ref), erasing)
            if wrong:
                yield AuditFault(record.seq, f"reference {ref}, which record {record.seq} names, {wrong}")


def subject_fault(subject: AuditSubject, committed: str | None, erasing: Callable[[int], str]) -> str:
    """What is wrong with a value beside the chain; empty when nothing is."""
    if subject.salt:
        if committed is not None and committed != commitment(subject.salt, subject.what, subject.about, subject.value):
            return "was changed"
        if subject.erased or subject.lookup != lookup(subject.what, subject.about, subject.value):
            return "was changed"
        return ""
    if subject.value or subject.about or subject.lookup:
        return "was changed after it was erased"
    return "" if in_ranges(subject.ref, erasing(subject.erased)) else "was emptied, and no record says so"

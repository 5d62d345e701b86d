"""What the audit trail says of one thing that was done, and of who did it."""

from typing import Final

import msgspec


class Author(msgspec.Struct, frozen=True):
    """Who does something, and from where.

    kind        operator | user | key | issuer | nobody (who signs in is known only afterwards) | house (this program)
    name        a user's id, a key's id, an issuer's name; empty for the others
    way         how that is known: `master key`, `socket`, `session`, `virtual key`, `token`, `sign-in`
    address     network address, `client` the family of the user agent
    action      what the route asks of its caller (`keys:write`), and the request's id
    """

    kind: str = "house"
    name: str = ""
    way: str = ""
    address: str = ""
    client: str = ""
    action: str = ""
    request_id: str = ""


THE_HOUSE: Final = Author()
"""What nobody asked for: settings read at start, sessions that end with a blocked user, what is over tidied away."""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the trail. A text that may name somebody is a *mention* (`rules.audit`): a plain word or a reference.

    seq         1, 2, 3 … without a gap
    act, kind   what was done, to what: `created`, `key`
    object      a mention: which one
    changes     JSON: the fields that changed, each `[name, before, after]`
    subjects    the highest number of a reference there is after this record
    hash        seals this record and, through the one before, all before it
    """

    seq: int
    at_ns: int
    request_id: str
    actor_kind: str
    actor: str
    way: str
    address: str
    client: str
    action: str
    act: str
    kind: str
    object: str
    changes: str
    subjects: int
    hash: bytes = b""


class AuditSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is about somebody, outside of the chain. Erased: all but `ref`, `what` and `erased` is empty.

    what     user | email | name | address | client | text
    about    the user id of whom it is about; empty where nobody knows
    lookup   by which the same value is found again
    erased   the record that says so, 0 while it is there
    """

    ref: int
    what: str
    about: str
    value: str
    salt: bytes
    lookup: bytes | None
    erased: int = 0


class Head(msgspec.Struct, frozen=True):
    """The newest record, by which everything before it is known."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"


class AuditFault(msgspec.Struct, frozen=True):
    """Where the trail is broken: at a record (`seq`), and how."""

    seq: int
    what: str

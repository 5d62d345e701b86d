"""How people may sign in: passwords by e-mail, identities by issuer. Plain functions of a Connection."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from tollhouse.storage.sign_in_tables import identities, passwords, provisions
from tollhouse.storage.tables import users
from tollhouse.terms.people import Role


class Password(msgspec.Struct, frozen=True):
    """Of a user, as its Argon2id. `email` is in its normal form; `vouched`: somebody else says it is theirs."""

    email: str
    user_id: str
    hash: str
    vouched: bool
    changed_at_ns: int


class Identity(msgspec.Struct, frozen=True):
    """Who a user is at an issuer."""

    issuer: str
    subject: str
    user_id: str
    email: str
    created_at_ns: int
    seen_at_ns: int


def password_of(connection: Connection, email: str) -> Password | None:
    return _one(connection, passwords.c.email == email)


def password_of_user(connection: Connection, user_id: str) -> Password | None:
    return _one(connection, passwords.c.user_id == user_id)


def is_password(connection: Connection, shown: Password) -> bool:
    """Whether it is still the user's: another hash of the same one is."""
    stored = password_of_user(connection, shown.user_id)
    return stored is not None and (stored.email, stored.changed_at_ns) == (shown.email, shown.changed_at_ns)


def put_password(connection: Connection, password: Password) -> None:
    """The user's only password from now on. The e-mail must be nobody else's."""
    connection.execute(delete(passwords).where(passwords.c.user_id == password.user_id))
    connection.execute(insert(passwords).values({**msgspec.structs.asdict(password), "vouched": int(password.vouched)}))


def rehash_password(connection: Connection, old: str, new: str) -> None:
    """The same password under newer parameters; nothing when it has changed meanwhile."""
    connection.execute(update(passwords).where(passwords.c.hash == old).values(hash=new))


def holders_of_email(connection: Connection, email: str) -> tuple[str, ...]:
    """Ids of the users who have this address, as the directory or as a sign-in; at most ten."""
    column = users.c
    signing_in = select(passwords.c.user_id).where(passwords.c.email == email)
    query = select(column.user_id).where(or_(func.lower(column.email) == email, column.user_id.in_(signing_in)))
    return tuple(connection.execute(query.order_by(column.user_id).limit(10)).scalars())


def get_identity(connection: Connection, issuer: str, subject: str) -> Identity | None:
    column = identities.c
    query = select(identities).where(column.issuer == issuer, column.subject == subject)
    row = connection.execute(query).one_or_none()
    return None if row is None else Identity(**row._mapping)


def put_identity(connection: Connection, identity: Identity) -> None:
    """Insert, or write when it was seen and with which address. It stays its user's."""
    column = identities.c
    same = (column.issuer == identity.issuer, column.subject == identity.subject)
    seen = {"seen_at_ns": identity.seen_at_ns, "email": identity.email}
    if not connection.execute(update(identities).where(*same).values(seen)).rowcount:
        connection.execute(insert(identities).values(msgspec.structs.asdict(identity)))


def signs_in(connection: Connection, user_id: str) -> bool:
    """Whether somebody has a way to sign in."""
    column = identities.c
    known = connection.execute(select(column.user_id).where(column.user_id == user_id).limit(1)).first()
    return known is not None or password_of_user(connection, user_id) is not None


def any_owner_signs_in(connection: Connection) -> bool:
    """Whether some owner who is not blocked has a way to sign in."""
    column = users.c
    ways = or_(
        column.user_id.in_(select(passwords.c.user_id)),
        column.user_id.in_(select(identities.c.user_id)),
    )
    query = select(column.user_id).where(column.role == Role.OWNER.value, column.blocked_at_ns.is_(None), ways)
    return connection.execute(query.limit(1)).first() is not None


def _one(connection: Connection, where: Any) -> Password | None:
    row: Row[Any] | None = connection.execute(select(passwords).where(where)).one_or_none()
    if row is None:
        return None
    return Password(row.email, row.user_id, row.hash, bool(row.vouched), row.changed_at_ns)


def is_known_address(connection: Connection, user_id: str, email: str) -> bool:
    """Whether an account's address is known to be its user's: who invited them, an issuer that verified it, or an
    admin says so; not its user alone, nor claims that nobody verified.
    """
    password = password_of_user(connection, user_id)
    if password is not None and password.email == email:
        return password.vouched
    column = identities.c
    verified = select(column.user_id).where(column.user_id == user_id, column.email == email).limit(1)
    if connection.execute(verified).first() is not None:
        return True
    said = select(provisions.c.given).where(provisions.c.user_id == user_id)
    return all(msgspec.json.decode(given).get("email") != email for given in connection.execute(said).scalars())

"""The tables of the audit trail. As those of `tables`, and of the same metadata.

Nothing in `audit` is ever changed or removed, and the database itself refuses to. Of `audit_subjects` nothing is
removed, and a row is changed once: it is emptied.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import DDL, BigInteger, Column, Index, LargeBinary, Table, Text, event

from tollhouse.storage.columns import number, word
from tollhouse.storage.tables import metadata as metadata

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    number("at_ns"),
    word("request_id"),
    word("actor_kind"),
    word("actor"),
    word("way"),
    word("address"),
    word("client"),
    word("action"),
    word("act"),
    word("kind"),
    word("object"),
    Column("changes", Text, nullable=False),
    number("subjects"),
    Column("hash", LargeBinary, nullable=False),
    Index(None, "actor", "seq"),
    Index(None, "object", "seq"),
    Index(None, "at_ns"),
)

audit_subjects = Table(
    "audit_subjects",
    metadata,
    Column("ref", BigInteger, primary_key=True, autoincrement=False),
    word("what"),
    word("about"),
    Column("value", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("lookup", LargeBinary, nullable=True),
    number("erased"),
    Index(None, "about"),
    Index(None, "lookup"),
)

_NEVER = "what the audit trail says is never changed"
_EMPTIED = "NEW.ref = OLD.ref AND NEW.what = OLD.what AND NEW.value = '' AND length(NEW.salt) = 0 AND NEW.about = ''"
_SQLITE: Final = {
    "audit": (
        f"CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
        f"CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
    ),
    "audit_subjects": (
        f"CREATE TRIGGER audit_subjects_stay BEFORE UPDATE ON audit_subjects WHEN NOT ({_EMPTIED}) "
        f"BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
        f"CREATE TRIGGER audit_subjects_remain BEFORE DELETE ON audit_subjects "
        f"BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END",
    ),
}
_POSTGRESQL: Final = {
    "audit": (
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE '{_NEVER}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuses()",
        "CREATE TRIGGER audit_remains BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()",
    ),
    "audit_subjects": (
        f"CREATE TRIGGER audit_subjects_stay BEFORE UPDATE ON audit_subjects "
        f"FOR EACH ROW WHEN (NOT ({_EMPTIED})) EXECUTE FUNCTION audit_refuses()",
        "CREATE TRIGGER audit_subjects_remain BEFORE DELETE ON audit_subjects "
        "FOR EACH ROW EXECUTE FUNCTION audit_refuses()",
        "CREATE TRIGGER audit_subjects_there BEFORE TRUNCATE ON audit_subjects "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()",
    ),
}
TRIGGERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
"""Engine → table → statements, for the migration too."""

for _engine, _of_tables in TRIGGERS.items():
    for _table in (audit, audit_subjects):
        for _statement in _of_tables[_table.name]:
            event.listen(_table, "after_create", DDL(_statement).execute_if(dialect=_engine))  # type: ignore[no-untyped-call]

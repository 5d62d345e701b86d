"""The schema's revisions, and the one door through which a database is brought up to date.

An empty database gets today's tables at once and is stamped with the newest revision; an older one is upgraded by
Alembic, which is imported only then (it costs start-up time and memory that serving does not need). A test holds both
ways to the same schema.
"""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text

from tollhouse.storage.schema import metadata
from tollhouse.terms.errors import StorageError

HEAD = "0010"
"""The newest revision; a test holds it against the files in `versions/`."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""All revisions, oldest first."""

RELEASED = ("0001",)
"""The newest one of each release. These and all before them stay as they are; tests have a frozen database of each."""


def migrate(connection: Connection) -> None:
    """Bring the schema up to date inside the caller's transaction. Raises StorageError for a schema this program does
    not know.
    """
    stored = stored_revision(connection)
    if stored == HEAD:
        return
    if stored is None:
        _create(connection)
    elif stored in REVISIONS:
        upgrade(connection)
    else:
        raise StorageError(
            f"the database has schema revision {stored!r}, this program knows {HEAD!r} at most: "
            "a newer Tollhouse wrote it; start that version again, or restore a backup made before the upgrade"
        )


def stored_revision(connection: Connection) -> str | None:
    """The revision the database is stamped with; None for an empty one. Raises StorageError when it holds somebody
    else's tables.
    """
    found = set(inspect(connection).get_table_names())
    if "alembic_version" in found:
        rows = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if rows:
            return str(rows[0])
    if found - {"alembic_version"}:
        raise StorageError(
            "the database holds tables but no schema revision: it is not Tollhouse's; point the setting at another one"
        )
    return None


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run Alembic's revisions up to `target` on this connection."""
    from alembic import command  # noqa: PLC0415 - only when there is something to upgrade
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    stamp = Table("alembic_version", MetaData(), Column("version_num", String(32), nullable=False))
    stamp.append_constraint(PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
    stamp.create(connection, checkfirst=True)
    connection.execute(insert(stamp).values(version_num=HEAD))

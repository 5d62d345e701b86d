"""Each table is audited or said not to be, and each column of an audited one has its place."""

import ast

from tests.house.source import modules
from tollhouse.storage.audited import AUDITED, NOT_AUDITED
from tollhouse.storage.schema import metadata


def test_every_table_is_audited_or_says_why_not() -> None:
    assert AUDITED.keys() | NOT_AUDITED.keys() == metadata.tables.keys(), "give it a row in storage/audited.py"
    assert not AUDITED.keys() & NOT_AUDITED.keys()
    assert all(NOT_AUDITED.values())


def test_every_column_has_one_place() -> None:
    for name, told in AUDITED.items():
        columns = {column.name for column in metadata.tables[name].columns}
        placed = [*told.plain, *told.secret, *told.address, *told.untold, *told.personal]
        assert sorted(placed) == sorted(columns), f"{name}: storage/audited.py says how each column is told"
        assert told.name in columns


def test_only_use_and_tidying_leave_no_record() -> None:
    """Whoever adds a place here says why nobody's act is lost."""
    found = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "UNRECORDED" and isinstance(node.ctx, ast.Load)
    }
    assert found == {
        "storage/credentials.py",  # when they were used
        "storage/erasing.py",  # what would name anew whom it forgets; that they were erased is on record
        "storage/invitations.py",  # those long over
        "storage/minted.py",  # minted keys long over
        "storage/sessions.py",  # when they were used, and those that are over
        "storage/sealed.py",  # the same secret, wrapped anew; the whole of it is told as one event
        "storage/watch.py",  # where it is looked at
    }

"""What a failed start leaves behind: nothing open, nothing lost."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from tests.planes.records import hold
from tollhouse.app.store import Store
from tollhouse.settings import Settings


def test_a_recovery_that_fails_leaves_nothing_open_and_can_be_run_again(tmp_path: Path) -> None:
    def open_store() -> Store:
        store = Store(Settings(home=tmp_path / "home"))
        asyncio.run(store.open())
        return store

    store = open_store()
    store.journal.append(hold(1))
    store.close()
    with sqlite3.connect(store.home.database) as database:
        database.execute("CREATE TRIGGER stop BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END")
    database.close()
    for _ in range(2):
        with pytest.raises(IntegrityError):
            open_store()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tollhouse")]
    with sqlite3.connect(store.home.database) as database:
        database.execute("DROP TRIGGER stop")
    database.close()
    again = open_store()
    again.close()
    assert again.recovery is not None
    assert again.recovery.crashed == 1

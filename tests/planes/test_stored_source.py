"""`stored:NAME`: the operator's credentials as providers' rows read them."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.planes.control import HOSTS, Desk, open_desk
from tollhouse.app.vaulting import read_stored
from tollhouse.terms.errors import SourceError
from tollhouse.vault import Vault

SECRET = "sk-ant-api03-first-secret-0123456789-WXYZ"
HERE = HOSTS["anthropic"]


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened
    opened.deps.database.close()


def read(desk: Desk, name: str, host: str = HERE, vault: Vault | None = None) -> str:
    return asyncio.run(read_stored(desk.deps.database, vault or desk.deps.vault, name, host))


def test_it_is_read_by_name_and_by_id_until_it_is_removed(desk: Desk) -> None:
    with pytest.raises(SourceError, match="no credential called 'main'") as failed:
        read(desk, "main")
    assert failed.value.withdrawn
    made = desk.make("/api/v1/credentials", provider="anthropic", secret=SECRET, name="main")
    assert read(desk, "main") == read(desk, made["credential_id"]) == SECRET
    for why, how in (
        ("is sent nowhere else", {"host": "https://elsewhere.example:443"}),
        ("not configured", {"vault": Vault()}),
    ):
        with pytest.raises(SourceError, match=why) as failed:
            read(desk, "main", **how)  # type: ignore[arg-type]
        assert not failed.value.withdrawn
        assert SECRET not in str(failed.value)
    assert desk.ask("DELETE", f"/api/v1/credentials/{made['credential_id']}").status_code == 204
    with pytest.raises(SourceError) as failed:
        read(desk, "main")
    assert failed.value.withdrawn

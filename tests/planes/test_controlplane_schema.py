"""The API keeps to its own description: a bounded play of `schema_play`, the same at each run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes.schema_play import Player
from tollhouse.controlplane.permissions import PERMISSIONS
from tollhouse.rules.roles import Action

EXAMPLES = 6
SEED = 20_261_122


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    made = Player(Path(tmp_path_factory.mktemp("schema")))
    yield made
    made.desk.deps.database.close()


@pytest.mark.filterwarnings("ignore::Warning:schemathesis", "ignore::Warning:hypothesis_jsonschema")
def test_no_request_meets_an_answer_that_is_not_described(player: Player) -> None:
    for name, mode in player.plays:
        player.play(name, EXAMPLES, mode, SEED)
    assert {200, 201, 204, 304, 400, 403, 404, 409, 412} <= player.seen.keys()  # it came past the first checks


STRANGE_TEXTS = ("\ud800", "\0", "9999-12-31T23:59:59+23:59", "9" * 30)
STRANGE = (10**30, float("nan"), {"\ud800": "\ud800"})


def test_no_strange_value_upsets_the_server(player: Player) -> None:
    assert list(player.strange(STRANGE_TEXTS, STRANGE)) == []


def test_the_description_has_every_route_and_every_refusal(player: Player) -> None:
    described = player.desk.get("/api/openapi.json")
    operations = {(verb.upper(), path) for path, verbs in described["paths"].items() for verb in verbs}
    rows = {(method, path.replace(":path", "")): asked for (method, path), asked in PERMISSIONS.items()}
    assert operations <= rows.keys()
    hidden = {row for row in rows.keys() - operations if isinstance(rows[row], Action)}
    assert hidden == set()  # pages for people, and where browsers are sent back to, are no API
    key = described["paths"]["/api/v1/keys/{key_id}"]
    assert key["patch"]["responses"].keys() >= {"200", "400", "401", "403", "404", "409", "412", "413", "429", "503"}
    assert [one["name"] for one in key["get"]["parameters"]] == ["key_id", "If-None-Match"]
    assert "422" not in key["patch"]["responses"]
    assert key["get"]["security"] == [{"bearer": []}, {"session": []}]
    assert "HTTPValidationError" not in described["components"]["schemas"]

"""Who may do what: one table, default deny."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import BaseRoute

from tests.planes.control import MASTER_KEY, Desk, open_desk, settled
from tollhouse.controlplane import api as api_module
from tollhouse.controlplane.api import build_api
from tollhouse.controlplane.permissions import PERMISSIONS, Permission


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path)
    yield opened
    opened.deps.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For tests that leave nothing behind which another would stumble over."""
    opened = open_desk(tmp_path_factory.mktemp("shared"))
    yield opened
    opened.deps.database.close()


def concrete(path: str) -> str:
    return path.replace("{user_id:path}", "alice").replace("{", "").replace("}", "")


def routes() -> set[tuple[str, str]]:
    found: list[BaseRoute] = [route for router in api_module.ROUTERS for route in router.routes]
    return {(method, route.path) for route in found for method in route.methods}  # type: ignore[attr-defined]


def test_every_route_has_a_permission_and_every_permission_a_route(desk: Desk) -> None:
    assert routes() == set(PERMISSIONS)
    assert build_api(desk.deps).openapi_url is None  # FastAPI adds no routes of its own


OPEN = ("/healthz", "/readyz", "/api/docs", "/api/openapi.json")
"""They say nothing of this installation but that it runs."""


def test_only_health_and_the_description_are_public() -> None:
    public = {row for row, permission in PERMISSIONS.items() if permission is Permission.PUBLIC}
    assert public == {("GET", path) for path in OPEN}


CLOSED = sorted(row for row, permission in PERMISSIONS.items() if permission is not Permission.ANYBODY)
"""The ways to sign in are open to anybody; what they answer: test_sign_in."""


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_without_a_credential_nothing_else_answers(shared: Desk, method: str, path: str) -> None:
    answer = shared.ask(method, concrete(path), bearer=None)
    if path in OPEN:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 401
        told = answer.json()
        assert told.get("code", told.get("error", {}).get("reason")) == "missing_credentials"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_a_virtual_key_reaches_only_itself(shared: Desk, method: str, path: str) -> None:
    key = shared.make("/api/v1/keys", user_id="bob")
    status = shared.ask(method, concrete(path), bearer=key["key"]).status_code
    expected = {Permission.PUBLIC: 200, Permission.SELF: 200, Permission.OWN_CALL: 404}
    assert status == expected.get(PERMISSIONS[method, path], 403)


@pytest.mark.parametrize("bearer", ["wrong", "", MASTER_KEY[:-1], MASTER_KEY + "x", "sk-th-" + "0" * 49, "\xe9\xff"])
def test_a_wrong_credential_is_refused(shared: Desk, bearer: str) -> None:
    headers = {"authorization": f"Bearer {bearer}".encode("latin-1")}
    problem = shared.problem(401, "GET", "/api/v1/keys", bearer=None, headers=headers)
    assert problem["code"] == "invalid_credentials"
    assert bearer not in problem["detail"] or not bearer


def test_two_different_credentials_are_refused(desk: Desk) -> None:
    desk.problem(401, "GET", "/api/v1/keys", headers={"x-api-key": "something else"})
    assert desk.ask("GET", "/api/v1/keys", headers={"x-api-key": MASTER_KEY}).status_code == 200


def test_without_a_master_key_no_bearer_is_owner(desk: Desk) -> None:
    for unset in (None, ""):
        closed = desk.with_deps(master_key=unset)
        for bearer in (MASTER_KEY, "", "None"):
            closed.problem(401, "GET", "/api/v1/keys", bearer=bearer)


def test_the_unix_socket_is_owner(desk: Desk) -> None:
    by_socket = {"bearer": None, "base_url": "http://tollhouse"}  # no port, as a server says of a Unix socket
    assert desk.ask("GET", "/api/v1/keys", **by_socket).status_code == 200
    assert desk.with_deps(master_key=None).ask("GET", "/api/v1/keys", **by_socket).status_code == 200
    # A credential that is shown is the one that counts.
    assert desk.ask("GET", "/api/v1/keys", base_url="http://tollhouse", bearer="wrong").status_code == 401


def test_a_connection_of_unknown_origin_is_nobody(desk: Desk) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/keys",
        "headers": [],
        "query_string": b"",
        "server": None,
    }
    asyncio.run(build_api(desk.deps)(scope, receive, send))
    assert sent[0]["status"] == 401


def test_unknown_paths_and_methods_say_nothing_of_the_house(desk: Desk) -> None:
    for path in ("/", "/docs", "/openapi.json", "/redoc", "/api", "/api/v1", "/api/v1/keys/", "/api/v2/keys", "/admin"):
        assert desk.problem(404, "GET", path)["code"] == "not_found"
    problem = desk.ask("PUT", "/api/v1/keys")
    assert problem.status_code == 405
    assert problem.headers["allow"] == "GET, POST"


def test_metrics_are_the_owners_unless_opened(desk: Desk) -> None:
    assert desk.ask("GET", "/metrics", bearer=None).status_code == 401
    opened = desk.with_deps(metrics_open=True).ask("GET", "/metrics", bearer=None)
    assert opened.status_code == 200
    assert opened.text == "tollhouse_up 1\n"
    assert opened.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_readiness_says_why_not(desk: Desk) -> None:
    desk.plane.reason = "the journal cannot be written"
    problem = desk.problem(503, "GET", "/readyz", bearer=None)
    assert problem["detail"] == "the journal cannot be written"
    assert desk.ask("GET", "/healthz", bearer=None).status_code == 200


def test_a_request_is_read_by_its_own_key_and_no_other(desk: Desk) -> None:
    mine, other = (desk.make("/api/v1/keys", user_id="alice", name=name) for name in ("mine", "other"))
    desk.plane.waiting = [settled("req_1", mine)]
    path = "/api/v1/requests/req_1"
    assert desk.get(path, bearer=mine["key"])["amount_usd"] == "0.001"  # shipped before it was read
    assert desk.ask("GET", path).status_code == 200
    theirs = desk.problem(404, "GET", path, bearer=other["key"])
    none = desk.problem(404, "GET", "/api/v1/requests/req_2", bearer=other["key"])
    assert theirs["detail"].replace("req_1", "req_2") == none["detail"]


def test_a_large_body_is_refused(desk: Desk) -> None:
    answer = desk.ask("POST", "/api/v1/users", {"user_id": "a", "metadata": {"x": "y" * (1 << 20)}})
    assert answer.status_code == 413
    assert answer.json()["code"] == "request_too_large"


def test_the_pages_load_nothing_from_elsewhere(desk: Desk) -> None:
    page = desk.ask("GET", "/api/docs")
    assert page.status_code == 200
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "<script" not in page.text
    assert "/api/v1/keys/{key_id}/rotate" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    paths = desk.get("/api/openapi.json")["paths"]
    assert paths["/api/v1/keys"]["get"]["security"] == [{"bearer": []}, {"session": []}]
    assert paths["/healthz"]["get"]["security"] == []
    hidden = {"/api/docs", "/api/openapi.json"}  # and the pages of signing in
    described = {path for _, path in PERMISSIONS if not path.startswith(("/sign", "/setup", "/invitation"))} - hidden
    assert len(paths) == len(described)


def test_no_answer_is_kept_by_a_cache(desk: Desk) -> None:
    desk.make("/api/v1/users", user_id="alice")
    for path in ("/healthz", "/api/v1/users", "/api/v1/users/alice", "/api/v1/nothing", "/api/docs"):
        answer = desk.ask("GET", path)
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_answer_is_framed_or_told_of_and_none_loads_anything(desk: Desk) -> None:
    paths = ("/healthz", "/api/v1/users", "/api/v1/nothing", "/api/docs", "/api/openapi.json", "/sign-in", "/authz")
    for path in paths:
        for answer in (desk.ask("GET", path), desk.ask("GET", path, bearer="sk-th-wrong")):
            policy = answer.headers["content-security-policy"]
            for directive in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
                assert directive in policy, path
            assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin"), path
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "strict-transport-security" not in answer.headers, "this is not TLS"

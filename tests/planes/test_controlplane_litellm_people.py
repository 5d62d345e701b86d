"""LiteLLM's routes of users and teams: what they make is what `/api/v1` would, and nothing is silently dropped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planes.control import START_NS, Desk, open_desk, settled
from tollhouse.controlplane.litellm_people_fields import TEAM_REFUSED, USER_REFUSED, TeamNewIn, UserNewIn
from tollhouse.rules import keys as key_rules
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Role

USER_FIELDS_SENT = """
    key_alias duration models spend max_budget user_id team_id agent_id max_parallel_requests metadata tpm_limit
    rpm_limit budget_duration budget_limits allowed_cache_controls config permissions model_max_budget budget_fallbacks
    model_rpm_limit model_tpm_limit mcp_rpm_limit tag_rpm_limit guardrails policies prompts blocked aliases
    object_permission user_email user_alias user_role teams auto_create_key send_invite_email sso_user_id organizations
    password
"""
TEAM_FIELDS_SENT = """
    team_alias team_id organization_id admins members members_with_roles team_member_permissions metadata tpm_limit
    rpm_limit max_budget soft_budget budget_duration budget_limits models blocked router_settings access_group_ids
    default_team_member_models model_aliases tags guardrails policies prompts object_permission
    allowed_passthrough_routes disable_global_guardrails secret_manager_settings model_rpm_limit rpm_limit_type
    tpm_limit_type model_tpm_limit default_estimated_output_tokens default_estimated_output_tokens_per_model
    mcp_rpm_limit team_member_budget team_member_rpm_limit team_member_tpm_limit team_member_key_duration
    team_member_budget_duration allowed_vector_store_indexes enforced_batch_output_expires_after
    enforced_file_expires_after
"""
"""The fields of LiteLLM's requests; its clients send them all, most of them null."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path)
    yield opened
    opened.deps.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    opened = open_desk(tmp_path_factory.mktemp("shared"))
    yield opened
    opened.deps.database.close()


def post(desk: Desk, path: str, **fields: Any) -> httpx.Response:
    """As curl posts `-d`: called a form."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return desk.ask("POST", path, headers=headers, content=json.dumps(fields))


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == str(status)
    return error


def info(desk: Desk, noun: str, name: str) -> Any:
    return desk.get(f"/{noun}/info", params={f"{noun}_id": name})


def test_a_user_comes_with_a_key(desk: Desk) -> None:
    ok(post(desk, "/team/new", team_id="red"))
    made = ok(
        post(
            desk,
            "/user/new",
            user_id="ishaan@example.org",
            user_email="ishaan@example.org",
            user_alias="Ishaan",
            user_role="internal_user",
            max_budget=20,
            budget_duration="30d",
            rpm_limit=60,
            tpm_limit=1000,
            max_parallel_requests=2,
            models=["claude-*"],
            key_alias="ishaan's",
            duration="1d",
            team_id="red",
            metadata={"department": "x"},
        )
    )
    assert key_rules.is_well_formed(made["key"])
    holder = desk.plane.own_key(made["key"])
    assert holder is not None  # effective before the answer
    assert (holder.user_id, holder.models, holder.team_id) == ("ishaan@example.org", ("claude-*",), "red")
    assert holder.limits.requests_per_minute is None  # the limits are the user's, over all keys
    assert (made["max_budget"], made["budget_duration"], made["rpm_limit"]) == (20, "1mo", 60)
    user = next(one for one in desk.plane.image.users if one.user_id == "ishaan@example.org")
    assert (user.name, user.email, user.role) == ("Ishaan", "ishaan@example.org", Role.MEMBER)
    assert (user.limits.requests_per_minute, user.limits.tokens_per_minute) == (60, 1000)
    [budget] = desk.plane.image.budgets
    assert (budget.scope, budget.scope_id, budget.limit) == (ScopeKind.USER, "ishaan@example.org", 20 * 10**9)

    told = info(desk, "user", "ishaan@example.org")
    assert {
        name: told["user_info"][name] for name in ("user_role", "max_budget", "rpm_limit", "spend", "metadata")
    } == {
        "user_role": "internal_user",
        "max_budget": 20,
        "rpm_limit": 60,
        "spend": 0,
        "metadata": {"department": "x"},
    }
    assert [(key["token"], key["models"], key["team_id"]) for key in told["keys"]] == [
        (made["token"], ["claude-*"], "red")
    ]
    assert made["key"] not in json.dumps(told)
    error = refusal(post(desk, "/user/new", user_id="ishaan@example.org"), 409)
    assert (error["reason"], error["param"]) == ("user_exists", "user_id")


def test_a_user_without_a_key(desk: Desk) -> None:
    made = ok(post(desk, "/user/new", auto_create_key=False, user_role="proxy_admin_viewer"))
    assert (made["key"], made["user_role"]) == (None, "proxy_admin_viewer")
    assert made["user_id"].startswith("user_")
    assert info(desk, "user", made["user_id"])["keys"] == []
    for name, value in (("models", ["x"]), ("key_alias", "x"), ("duration", "1d"), ("team_id", "red")):
        answer = post(desk, "/user/new", user_id="bob", auto_create_key=False, **{name: value})
        assert refusal(answer)["param"] == name
    assert desk.ask("GET", "/api/v1/users/bob").status_code == 404


def test_users_join_teams_that_are_there_or_nothing_is_made(desk: Desk) -> None:
    ok(post(desk, "/team/new", team_id="red", team_alias="Red"))
    ok(post(desk, "/team/new", team_id="blue"))
    made = ok(post(desk, "/user/new", user_id="a", teams=["red", {"team_id": "blue", "user_role": "admin"}]))
    assert made["teams"] == ["blue", "red"]
    assert info(desk, "user", "a")["teams"][1] == {"team_id": "red", "team_alias": "Red"}
    members = info(desk, "team", "blue")["team_info"]["members_with_roles"]
    assert members == [{"role": "admin", "user_id": "a", "user_email": None}]
    assert desk.plane.image.users[0].team_id == "red"  # the first is the one their calls count toward
    error = refusal(post(desk, "/user/new", user_id="b", teams=["red", "green"]))
    assert error["param"] == "teams.1"
    assert refusal(post(desk, "/user/new", user_id="b", team_id="green"))["param"] == "team_id"
    assert desk.ask("GET", "/api/v1/users/b").status_code == 404


def test_a_team_as_it_is_typed(desk: Desk) -> None:
    made = ok(
        post(
            desk,
            "/team/new",
            team_alias="QA Prod Bot",
            members_with_roles=[{"role": "admin", "user_id": "a"}, {"role": "user", "user_id": "b"}],
            models=["claude-*"],
            max_budget=0.000000001,
            budget_duration="1d",
            rpm_limit=7,
            tpm_limit=8,
            max_parallel_requests=9,
            metadata={"x": 1},
            tags=["t"],
        )
    )
    team_id = made["team_id"]
    assert (made["team_alias"], made["max_budget"], made["budget_duration"]) == ("QA Prod Bot", 1e-9, "1d")
    assert (made["spend"], made["blocked"], made["models"]) == (0, False, ["claude-*"])
    [team] = desk.plane.image.teams
    assert (team.team_id, team.models, team.limits.parallel_requests) == (team_id, ("claude-*",), 9)
    assert team.metadata == {"x": 1, "tags": ["t"]}
    assert {user.user_id: user.team_id for user in desk.plane.image.users} == {"a": team_id, "b": team_id}
    [budget] = desk.plane.image.budgets
    assert (budget.scope, budget.scope_id, budget.limit) == (ScopeKind.TEAM, team_id, 1)
    key = ok(post(desk, "/key/generate", user_id="a", team_id=team_id))
    told = info(desk, "team", team_id)
    assert told["team_info"] == made
    assert [one["token"] for one in told["keys"]] == [key["token"]]
    assert told["team_memberships"] == [{"user_id": name, "team_id": team_id} for name in ("a", "b")]
    assert refusal(post(desk, "/team/new", team_id=team_id), 409)["reason"] == "team_exists"


def test_a_team_without_a_budget_tells_no_spend_and_may_begin_blocked(desk: Desk) -> None:
    made = ok(post(desk, "/team/new", team_id="red", blocked=True))
    assert (made["spend"], made["blocked"], made["max_budget"]) == (None, True, None)
    assert desk.plane.image.teams[0].blocked_at_ns == START_NS


def test_spend_of_a_user_is_all_there_was(desk: Desk) -> None:
    made = ok(post(desk, "/user/new", user_id="a"))
    desk.plane.waiting = [settled("req_1", {"user_id": "a", "key_id": made["token"]}, amount_nusd=1_234_567)]
    answer = desk.ask("GET", "/user/info", params={"user_id": "a"})
    assert '"spend":0.001234567' in answer.text


def test_a_key_moves_to_a_team_that_is_there(desk: Desk) -> None:
    ok(post(desk, "/team/new", team_id="red"))
    made = ok(post(desk, "/key/generate", user_id="a"))
    assert refusal(post(desk, "/key/generate", team_id="green"))["param"] == "team_id"
    assert refusal(post(desk, "/key/update", key=made["token"], team_id="green"))["param"] == "team_id"
    assert ok(post(desk, "/key/update", key=made["token"], team_id="red"))["team_id"] == "red"
    assert ok(post(desk, "/key/update", key=made["token"], team_id=None))["team_id"] == "red"


def test_what_a_file_declares_is_not_changed_here(desk: Desk) -> None:
    rows = {
        "teams": [{"team_id": "red", "members": {"a": "member"}}],
        "users": [{"user_id": "a"}],
        "keys": [{"user_id": "a", "name": "ci"}],
    }
    made = desk.make("/api/v1/declarations", owner="people.yaml", resources=rows)["keys"][0]
    for path, fields in (
        ("/key/update", {"key": made["key"], "rpm_limit": 1}),
        ("/key/generate", {"user_id": "b", "team_id": "red"}),
        ("/user/new", {"user_id": "c", "teams": ["red"]}),
    ):
        assert refusal(post(desk, path, **fields), 409)["reason"] == "declared"
    ok(post(desk, "/key/generate", user_id="a", team_id="red"))  # who is in it has keys for it
    ok(post(desk, "/key/delete", keys=[made["key"]]))  # revoking never waits for a file


@pytest.mark.parametrize(
    ("path", "sent", "shape", "refused"),
    [
        ("/user/new", USER_FIELDS_SENT, UserNewIn, USER_REFUSED),
        ("/team/new", TEAM_FIELDS_SENT, TeamNewIn, TEAM_REFUSED),
    ],
)
def test_every_field_of_litellms_is_honoured_or_refused_by_name(
    shared: Desk, path: str, sent: str, shape: Any, refused: dict[str, str]
) -> None:
    names = sent.split()
    ok(post(shared, path, **dict.fromkeys(names)))
    honoured = set(shape.model_fields)
    assert set(names) <= honoured | refused.keys()
    assert not honoured & refused.keys()
    for name in (*refused, "no_such_field"):
        error = refusal(post(shared, path, **{name: ["x"]}))
        assert (error["param"], error["message"].startswith(f"{name}: ")) == (name, True)


@pytest.mark.parametrize(
    ("path", "fields", "blamed"),
    [
        ("/user/new", {"user_role": "internal_user_viewer"}, "user_role"),
        ("/user/new", {"teams": [{"team_id": "red", "max_budget_in_team": 1}]}, "teams.0.max_budget_in_team"),
        ("/user/new", {"teams": ["red"] * 51}, "teams"),
        ("/user/new", {"budget_duration": "1d"}, "budget_duration"),
        ("/user/new", {"user_id": "../x"}, "user_id"),
        ("/team/new", {"team_id": ""}, "team_id"),
        ("/team/new", {"members_with_roles": [{"role": "owner", "user_id": "a"}]}, "members_with_roles.0.role"),
        (
            "/team/new",
            {"members_with_roles": [{"role": "user", "user_email": "a@b.c"}]},
            "members_with_roles.0.user_id",
        ),
        ("/team/new", {"max_budget": -1}, "max_budget"),
        ("/team/new", {"tags": ["z" * 190] * 50, "metadata": {"x": "y" * 15_000}}, "metadata"),
    ],
)
def test_a_wrong_value_is_blamed_by_its_name(shared: Desk, path: str, fields: dict[str, Any], blamed: str) -> None:
    assert refusal(post(shared, path, **fields))["param"] == blamed


def test_who_is_not_there(shared: Desk) -> None:
    for noun in ("user", "team"):
        answer = shared.ask("GET", f"/{noun}/info", params={f"{noun}_id": "nobody"})
        assert refusal(answer, 404)["type"] == "not_found_error"
        assert refusal(shared.ask("GET", f"/{noun}/info"))["param"] == f"{noun}_id"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["red", "1d", "admin"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted({*UserNewIn.model_fields, *TeamNewIn.model_fields, *USER_REFUSED, *TEAM_REFUSED, "other"})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["/user/new", "/team/new"]), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_whatever_a_field_holds_is_taken_or_refused(shared: Desk, path: str, fields: dict[str, Any]) -> None:
    answer = post(shared, path, **fields)
    assert answer.status_code in (200, 400, 409), answer.text

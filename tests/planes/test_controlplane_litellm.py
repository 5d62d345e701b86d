"""LiteLLM's key routes: its field names in and out, its envelope, and nothing silently dropped."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.planes.control import MASTER_KEY, START_NS, Desk, open_desk, settled
from tollhouse.controlplane.litellm_fields import IGNORED, REFUSED, WINDOWS, GenerateIn, UpdateIn
from tollhouse.controlplane.permissions import PERMISSIONS, Permission
from tollhouse.controlplane.times import iso_ns
from tollhouse.dataplane.head import ROUTES
from tollhouse.rules import keys as key_rules

KEYS = "/api/v1/keys"
DAY_NS = 86_400 * 10**9
NAMES = sorted({*GenerateIn.model_fields, *UpdateIn.model_fields, *REFUSED, *IGNORED, "keys", "key_aliases", "other"})

SENT_BY_CLIENTS = """
    key_alias duration models spend max_budget user_id team_id max_parallel_requests metadata tpm_limit rpm_limit
    budget_duration allowed_cache_controls config permissions model_max_budget model_rpm_limit model_tpm_limit
    mcp_rpm_limit tag_rpm_limit guardrails policies prompts blocked aliases object_permission budget_fallbacks
    budget_limits key key_name tpd_limit default_estimated_output_tokens default_estimated_output_tokens_per_model
    budget_id end_user_budget_id tags disable_global_guardrails enable_prompt_caching throttle_on_budget_exceeded
    enforced_params allowed_routes allowed_passthrough_routes denied_passthrough_routes allowed_vector_store_indexes
    rpm_limit_type tpm_limit_type router_settings access_group_ids soft_budget send_invite_email key_type auto_rotate
    rotation_interval organization_id project_id
"""
"""The fields of LiteLLM's request to generate a key; its clients send them all, most of them null."""


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


def post(desk: Desk, path: str, body: str | bytes, **how: Any) -> httpx.Response:
    """As curl posts `-d` without a header of its own."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    return desk.ask("POST", path, headers={**form, **how.pop("headers", {})}, content=body, **how)


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def generate(desk: Desk, **fields: Any) -> Any:
    return ok(post(desk, "/key/generate", json.dumps(fields)))


def update(desk: Desk, **fields: Any) -> Any:
    return ok(post(desk, "/key/update", json.dumps(fields)))


def info(desk: Desk, key: str) -> Any:
    return desk.get("/key/info", params={"key": key})["info"]


def refusal(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """What LiteLLM's clients read of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == str(status)
    assert error["message"]
    return error


# Making


def test_the_call_as_it_is_typed(desk: Desk) -> None:
    body = '{"user_id":"user_123","max_budget":100,"models":["claude-sonnet-4-5"]}'
    made = ok(post(desk, "/key/generate", body))
    assert key_rules.is_well_formed(made["key"])
    holder = desk.plane.own_key(made["key"])
    assert holder is not None  # effective before the answer
    assert (holder.user_id, holder.models, holder.key_id) == ("user_123", ("claude-sonnet-4-5",), made["token"])
    assert (made["user_id"], made["max_budget"], made["models"]) == ("user_123", 100, ["claude-sonnet-4-5"])
    assert (made["budget_duration"], made["expires"], made["spend"]) == (None, None, 0)
    assert made["key_name"] == f"sk-...{key_rules.hint(made['key'])}"
    assert desk.get("/api/v1/users/user_123")["status"] == "active"
    budget = desk.get(f"{KEYS}/{made['token']}")["budgets"][0]
    assert (budget["limit"], budget["unit"], budget["window"]) == ("100", "usd", "total")


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_the_content_type_is_not_looked_at(shared: Desk, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert ok(shared.ask("POST", "/key/generate", headers=headers, content=b"{}"))["user_id"] == "default"


def test_every_field_arrives(desk: Desk) -> None:
    made = generate(
        desk,
        user_id="alice",
        key_alias="ci",
        models=["claude-*", "gpt-4o"],
        max_budget=0.05,
        budget_duration="30d",
        rpm_limit=60,
        tpm_limit=100_000,
        max_parallel_requests=4,
        duration="30d",
        metadata={"team": "core"},
        tags=["a", "b"],
        key_name="is LiteLLM's to give",
    )
    key = desk.get(f"{KEYS}/{made['token']}")
    assert (key["name"], key["models"]) == ("ci", ["claude-*", "gpt-4o"])
    limits = key["limits"]
    named = ("requests_per_minute", "tokens_per_minute", "parallel_requests", "requests_per_day")
    assert [limits[name] for name in named] == [60, 100_000, 4, None]
    assert key["metadata"] == {"team": "core", "tags": ["a", "b"]}
    assert key["expires_at"] == iso_ns(START_NS + 30 * DAY_NS)
    assert (key["budgets"][0]["limit"], key["budgets"][0]["window"]) == ("0.05", "month")
    told = info(desk, made["token"])
    assert {name: told[name] for name in told if name not in ("spend", "budget_reset_at")} == {
        "token": made["token"],
        "token_id": made["token"],
        "key_name": made["key_name"],
        "key_alias": "ci",
        "user_id": "alice",
        "team_id": None,
        "models": ["claude-*", "gpt-4o"],
        "max_budget": 0.05,
        "budget_duration": "1mo",
        "rpm_limit": 60,
        "tpm_limit": 100_000,
        "max_parallel_requests": 4,
        "expires": iso_ns(START_NS + 30 * DAY_NS),
        "blocked": False,
        "metadata": {"team": "core", "tags": ["a", "b"]},
        "aliases": {},
        "permissions": {},
        "config": {},
        "created_at": iso_ns(START_NS),
    }
    assert told["budget_reset_at"] == "2026-12-01T00:00:00Z"


def test_what_says_nothing_is_taken(shared: Desk) -> None:
    for nothing in (None, False, "", [], {}):
        generate(shared, **dict.fromkeys(REFUSED, nothing))
    sent = SENT_BY_CLIENTS.split()
    generate(shared, **dict.fromkeys(sent))
    assert set(sent) >= set(GenerateIn.model_fields)
    generate(shared, key=None, key_type="default", spend=0, tpm_limit_type="best_effort_throughput")
    assert generate(shared, models=[])["models"] == generate(shared, models=["all-proxy-models"])["models"] == []


@pytest.mark.parametrize("name", sorted({*REFUSED, "key", "rpm_limt"}))
@pytest.mark.parametrize("value", [True, 1, "x", ["x"], {"x": 1}])
def test_what_cannot_be_honoured_is_refused_by_name(shared: Desk, name: str, value: Any) -> None:
    before = len(shared.plane.told)
    error = refusal(post(shared, "/key/generate", json.dumps({"user_id": "refused", name: value})))
    assert (error["type"], error["reason"], error["param"]) == ("bad_request_error", "invalid_request", name)
    assert error["message"].startswith(f"{name}: ")
    if name != "key":
        refusal(post(shared, "/key/update", json.dumps({"key": "key_x", name: value})))
    assert len(shared.plane.told) == before


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ('{"max_budget": -1}', "max_budget"),
        ('{"max_budget": true}', "max_budget"),
        ('{"max_budget": 1e400}', "max_budget"),
        ('{"max_budget": 1e999999999999999999999}', "max_budget"),
        ('{"max_budget": 0.0000000001}', "max_budget"),
        ('{"max_budget": "NaN"}', "max_budget"),
        ('{"max_budget": 1.00000000000000000000000000000000000000000001}', "max_budget"),
        ('{"max_budget": 1, "budget_duration": "2d"}', "budget_duration"),
        ('{"max_budget": 1, "budget_duration": 30}', "budget_duration"),
        ('{"budget_duration": "30d"}', "budget_duration"),
        ('{"rpm_limit": 0}', "rpm_limit"),
        ('{"rpm_limit": true}', "rpm_limit"),
        ('{"tpm_limit": 1.5}', "tpm_limit"),
        ('{"max_parallel_requests": -4}', "max_parallel_requests"),
        ('{"duration": "soon"}', "duration"),
        ('{"duration": "0s"}', "duration"),
        ('{"duration": 30}', "duration"),
        ('{"models": "claude-*"}', "models"),
        ('{"models": ["no-default-models"]}', "models"),
        ('{"models": ["a b"]}', "models.0"),
        ('{"user_id": "../x"}', "user_id"),
        ('{"user_id": 7}', "user_id"),
        ('{"metadata": [1]}', "metadata"),
        ('{"metadata": ' + '{"x":' * 100 + "1" + "}" * 101, "metadata"),
        ('{"metadata": {"x": "' + "y" * 17_000 + '"}}', "metadata"),
        ('{"tags": ["' + '","'.join("x" * 190 for _ in range(51)) + '"]}', "tags"),
        ('{"metadata": {"x": "' + "y" * 16_000 + '"}, "tags": ["' + "z" * 190 + '","' + "z" * 190 + '"]}', "metadata"),
    ],
)
def test_a_wrong_value_is_blamed_by_its_name(shared: Desk, fields: str, blamed: str) -> None:
    error = refusal(post(shared, "/key/generate", fields))
    assert error["param"] == blamed
    assert error["message"].startswith(f"{blamed}: ")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"user_id=alice"),
        *(b'{"user_id":"\xff"}', b'{"\xff":1}', b'{"user_id":"\\ud800"}'),
        *(b'{"metadata":' + b"[" * 100_000, b'{"rpm_limit":' + b"9" * 100_000 + b"}", b'{"metadata":{"x":1e999}}'),
    ],
)
def test_what_is_no_json_object_is_refused(shared: Desk, body: bytes) -> None:
    for path in ("/key/generate", "/key/update", "/key/delete"):
        assert refusal(post(shared, path, body))["reason"] == "invalid_json"


def test_the_amount_is_read_digit_by_digit(shared: Desk) -> None:
    """As a float, the first of these would be another number, and the second would lose its end."""
    for text in ("4503599627.370495487", "0.100000001", "1e2", "0", '"0.05"', "100.00"):
        answer = post(shared, "/key/generate", f'{{"max_budget":{text}}}')
        token = ok(answer)["token"]
        exact = Decimal(text.strip('"'))
        assert Decimal(shared.get(f"{KEYS}/{token}")["budgets"][0]["limit"]) == exact
        assert json.loads(answer.text, parse_float=Decimal)["max_budget"] == exact


@pytest.mark.parametrize("duration", sorted(WINDOWS))
def test_a_budget_duration_is_a_window(shared: Desk, duration: str) -> None:
    made = generate(shared, max_budget=1, budget_duration=duration)
    assert shared.get(f"{KEYS}/{made['token']}")["budgets"][0]["window"] == WINDOWS[duration]
    assert WINDOWS[made["budget_duration"]] == WINDOWS[duration]


@pytest.mark.parametrize(
    ("duration", "expires"),
    [
        ("30d", iso_ns(START_NS + 30 * DAY_NS)),
        ("1h", iso_ns(START_NS + 3600 * 10**9)),
        ("90s", iso_ns(START_NS + 90 * 10**9)),
        ("2w", iso_ns(START_NS + 14 * DAY_NS)),
        ("1mo", "2026-12-18T11:06:40.000Z"),
        ("14MO", "2028-01-18T11:06:40.000Z"),
        ("-1", None),
        (None, None),
    ],
)
def test_a_duration_ends_the_key(shared: Desk, duration: str | None, expires: str | None) -> None:
    assert generate(shared, duration=duration)["expires"] == expires


def test_a_month_ends_on_a_day_it_has(desk: Desk) -> None:
    desk.plane.now_ns = 1_801_396_800 * 10**9  # 2027-01-31
    assert generate(desk, duration="1mo")["expires"] == "2027-02-28T12:00:00.000Z"


def test_a_name_is_one_keys(desk: Desk) -> None:
    made = generate(desk, key_alias="ci")
    other = generate(desk, key_alias="other")
    assert refusal(post(desk, "/key/generate", '{"key_alias":"ci"}'))["param"] == "key_alias"
    assert (
        refusal(post(desk, "/key/update", json.dumps({"key": other["token"], "key_alias": "ci"})))["param"]
        == "key_alias"
    )
    assert update(desk, key=made["token"], key_alias="ci")["key_alias"] == "ci"  # its own name
    ok(post(desk, "/key/delete", '{"key_aliases":["ci"]}'))
    assert generate(desk, key_alias="ci")["token"] != made["token"]


def test_no_key_for_a_blocked_user(desk: Desk) -> None:
    desk.make("/api/v1/users", user_id="eve")
    desk.ask("POST", "/api/v1/users/eve/block")
    assert refusal(post(desk, "/key/generate", '{"user_id":"eve"}'), 409)["reason"] == "user_blocked"


# Reading


def test_info_finds_by_secret_or_id_and_never_shows_the_secret(desk: Desk) -> None:
    made = generate(desk, user_id="alice")
    for name in (made["key"], made["token"]):
        answer = desk.ask("GET", "/key/info", params={"key": name})
        assert ok(answer)["key"] == made["token"]
        assert made["key"] not in answer.text
    unknown = key_rules.mint(b"\1" * 32)
    for name in (unknown, "key_unknown", made["key"][:-1]):
        answer = desk.ask("GET", "/key/info", params={"key": name})
        assert refusal(answer, 404)["type"] == "not_found_error"
        assert name not in answer.text
    assert refusal(desk.ask("GET", "/key/info"))["param"] == "key"


def test_spend_is_what_stands_against_the_budget_or_all_there_was(desk: Desk) -> None:
    free = generate(desk, user_id="alice")
    capped = generate(desk, user_id="alice", max_budget=1, budget_duration="1d")
    budget = desk.get(f"{KEYS}/{capped['token']}")["budgets"][0]
    day_s = START_NS // 10**9 // 86_400 * 86_400
    named = {name: {"user_id": "alice", "key_id": made["token"]} for name, made in (("a", free), ("b", capped))}
    desk.plane.waiting = [
        settled("req_1", named["a"], amount_nusd=1_234_567),
        settled("req_2", named["a"], amount_nusd=1, at_ns=START_NS - 40 * DAY_NS),
        settled("req_3", named["b"], amount_nusd=100_000_007, budgets=((budget["budget_id"], day_s),)),
    ]
    answer = desk.ask("GET", "/key/info", params={"key": free["key"]})
    assert '"spend":0.001234568' in answer.text  # exact, and shipped before it was read
    desk.ask("PATCH", f"/api/v1/budgets/{budget['budget_id']}", {"amount": "2"})  # the image is read again
    told = info(desk, capped["key"])
    assert (told["spend"], told["max_budget"], told["budget_reset_at"]) == (0.100000007, 2, "2026-11-19T00:00:00Z")


# Changing


def test_an_update_changes_what_is_given(desk: Desk) -> None:
    made = generate(
        desk,
        user_id="alice",
        key_alias="ci",
        models=["x"],
        rpm_limit=6,
        tpm_limit=7,
        duration="1d",
        tags=["a"],
        max_budget=1,
    )
    before = info(desk, made["token"])
    assert update(desk, key=made["key"])["key"] == made["token"]
    assert info(desk, made["token"]) == before
    changed = update(desk, key=made["key"], rpm_limit=None, max_parallel_requests=2, models=["y"], metadata={"m": 1})
    assert made["key"] not in json.dumps(changed)
    holder = desk.plane.own_key(made["key"])
    assert holder is not None  # already effective
    assert (holder.limits.requests_per_minute, holder.limits.tokens_per_minute) == (None, 7)
    assert (holder.limits.parallel_requests, holder.models, holder.metadata) == (2, ("y",), {"m": 1})
    assert info(desk, made["token"])["expires"] == before["expires"]
    same = dict.fromkeys(("models", "metadata", "user_id", "key_alias", "duration", "tags"))
    assert update(desk, key=made["key"], **same) == changed  # null leaves what it cannot remove
    freed = update(desk, key_alias="ci", models=[], duration="-1", tags=["b"])  # named by its alias
    assert (freed["models"], freed["expires"], freed["metadata"]) == ([], None, {"m": 1, "tags": ["b"]})
    assert update(desk, key=made["token"], key_alias="cd", user_id="alice")["key_alias"] == "cd"
    error = refusal(post(desk, "/key/update", json.dumps({"key": made["token"], "user_id": "bob"})))
    assert error["param"] == "user_id"


def test_an_update_of_the_budget(desk: Desk) -> None:
    made = generate(desk, user_id="alice")
    token = made["token"]

    def budgets() -> list[tuple[str, str]]:
        return [(one["limit"], one["window"]) for one in desk.get(f"{KEYS}/{token}")["budgets"]]

    assert (
        refusal(post(desk, "/key/update", json.dumps({"key": token, "budget_duration": "1d"})))["param"]
        == "budget_duration"
    )
    update(desk, key=token, max_budget=10.5, budget_duration="7d")
    assert budgets() == [("10.5", "week")]
    first = desk.get(f"{KEYS}/{token}")["budgets"][0]["budget_id"]
    update(desk, key=token, max_budget=20)
    assert budgets() == [("20", "week")]
    assert desk.get(f"{KEYS}/{token}")["budgets"][0]["budget_id"] == first  # what is posted stays
    update(desk, key=token, budget_duration="1d")
    assert budgets() == [("20", "day")]
    update(desk, key=token, budget_duration=None)
    assert budgets() == [("20", "total")]
    desk.make("/api/v1/budgets", scope="key", scope_id=token, amount="1M tokens/day")
    update(desk, key=token, max_budget=None)
    assert budgets() == [("1000000", "day")]  # of tokens: LiteLLM knows none, so it stays
    assert info(desk, token)["max_budget"] is None


def test_of_several_budgets_the_tightest_is_told_and_none_is_changed(desk: Desk) -> None:
    made = generate(desk, max_budget=10)
    desk.make("/api/v1/budgets", scope="key", scope_id=made["token"], amount="2/day")
    told = info(desk, made["token"])
    assert (told["max_budget"], told["budget_duration"]) == (2, "1d")
    error = refusal(post(desk, "/key/update", json.dumps({"key": made["token"], "max_budget": 5, "rpm_limit": 1})), 409)
    assert error["reason"] == "several_budgets"
    assert info(desk, made["token"])["rpm_limit"] is None  # all or nothing


# Deleting


def test_deleted_keys_are_revoked_and_no_longer_found(desk: Desk) -> None:
    a, b, c, d = (generate(desk, user_id=user, key_alias=user) for user in ("a", "b", "c", "d"))
    answer = ok(post(desk, "/key/delete", json.dumps({"keys": [a["key"], b["token"]], "key_aliases": ["c"]})))
    assert answer == {"deleted_keys": [a["key"], b["token"], "c"]}
    assert desk.plane.told[-1] is None  # of several users: everybody's part is read again
    for made in (a, b, c):
        assert desk.plane.own_key(made["key"]) is None
        assert desk.get(f"{KEYS}/{made['token']}")["status"] == "revoked"
        answer = desk.ask("GET", "/key/info", params={"key": made["key"]})
        assert refusal(answer, 404)["reason"] == "key_revoked"
        refusal(post(desk, "/key/update", json.dumps({"key": made["token"], "rpm_limit": 1})), 404)
    error = refusal(post(desk, "/key/delete", json.dumps({"keys": [d["key"], "key_x"]})), 404)
    assert error["param"] == "keys.1"
    assert desk.plane.own_key(d["key"]) is not None  # all of them or none
    many = json.dumps({"keys": ["key_x"] * 101})
    assert refusal(post(desk, "/key/delete", many))["param"] == "keys"
    for nothing in ("{}", '{"keys":[]}', '{"keys":null,"key_aliases":[]}'):
        assert refusal(post(desk, "/key/delete", nothing))["param"] == "keys"


def test_a_blocked_key_is_paused_until_it_is_unblocked(desk: Desk) -> None:
    made = generate(desk, user_id="a")
    blocked = ok(post(desk, "/key/block", json.dumps({"key": made["key"]})))
    assert (blocked["key"], blocked["blocked"]) == (made["token"], True)
    assert desk.get(f"{KEYS}/{made['token']}")["status"] == "paused"
    assert info(desk, made["token"])["blocked"] is True
    ok(post(desk, "/key/block", json.dumps({"key": made["token"]})))
    assert ok(post(desk, "/key/unblock", json.dumps({"key": made["token"]})))["blocked"] is False
    assert desk.get(f"{KEYS}/{made['token']}")["status"] == "active"
    refusal(post(desk, "/key/block", json.dumps({"key": "key_x"})), 404)
    refusal(post(desk, "/key/block", "{}"), 400)


def test_a_name_of_several_keys_deletes_none(desk: Desk) -> None:
    made = [desk.make(KEYS, user_id="a", name="ci") for _ in range(2)]
    error = refusal(post(desk, "/key/delete", '{"key_aliases":["ci"]}'), 409)
    assert made[0]["key_id"] in error["message"]
    assert all(desk.plane.own_key(one["key"]) for one in made)


# The way in

ROUTES_HERE = sorted(row for row, permission in PERMISSIONS.items() if permission is Permission.OWNER_BEARER)


def test_these_routes_and_no_others_are_bearer_only() -> None:
    got, posted = ["/key/info", "/team/info", "/user/info"], ["block", "delete", "generate", "unblock", "update"]
    posted = [f"/key/{verb}" for verb in posted]
    assert [path for _, path in ROUTES_HERE] == [*got, *posted, "/team/new", "/user/new"]
    assert not {path.encode() for _, path in PERMISSIONS} & ROUTES.keys()


@pytest.mark.parametrize(("method", "path"), ROUTES_HERE)
def test_only_the_master_key_as_bearer_comes_in(shared: Desk, method: str, path: str) -> None:
    key = shared.make(KEYS, user_id="bob")["key"]
    ways: list[tuple[int, dict[str, Any]]] = [
        (401, {}),
        (401, {"base_url": "http://tollhouse"}),  # the Unix socket, elsewhere the owner's
        (401, {"base_url": "http://tollhouse", "headers": {"cookie": f"session={MASTER_KEY}"}}),
        (401, {"headers": {"cookie": f"Authorization=Bearer {MASTER_KEY}"}}),
        (401, {"headers": {"x-api-key": MASTER_KEY}}),
        (401, {"base_url": "http://tollhouse", "headers": {"x-api-key": MASTER_KEY}}),
        (401, {"headers": {"authorization": f"Basic {MASTER_KEY}"}}),
        (401, {"headers": {"authorization": MASTER_KEY}}),
        (401, {"bearer": "wrong"}),
        (401, {"bearer": "wrong", "base_url": "http://tollhouse"}),
        (401, {"bearer": MASTER_KEY, "headers": {"x-api-key": "another"}}),
        (403, {"bearer": key}),
    ]
    for status, way in ways:
        error = refusal(shared.ask(method, path, **{"bearer": None, "content": b"{}"} | way), status)
        assert error["type"] == "auth_error"
    assert shared.with_deps(master_key=None).ask(method, path).status_code == 401
    assert shared.ask(method, path, base_url="http://tollhouse").status_code == 400  # let in: the body is wrong


def test_refusals_around_the_routes_are_in_their_envelope(shared: Desk) -> None:
    assert refusal(shared.ask("GET", "/key/generate"), 405)["reason"] == "method_not_allowed"
    assert refusal(shared.ask("GET", "/key/list"), 404)["reason"] == "not_found"
    large = b'{"metadata":{"x":"' + b"y" * (1 << 20) + b'"}}'
    assert refusal(post(shared, "/key/generate", large), 413)["reason"] == "request_too_large"
    paths = shared.get("/api/openapi.json")["paths"]
    assert paths["/key/generate"]["post"]["x-permission"] == "owner_bearer"
    described = paths["/key/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert described.keys() == GenerateIn.model_fields.keys()


# Anything at all

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["-1", "30d", "1mo", "ci", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = st.sampled_from(["/key/generate", "/key/update", "/key/delete"])
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(PATHS, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
@example("/key/generate", {"duration": "1²mo"})
@example("/key/generate", {"duration": "9999mo"})
@example("/key/delete", {"keys": ["\x00"]})
@example("/key/update", {"key": "\x00", "metadata": {"\ud800": 1}})
def test_whatever_a_field_holds_is_taken_or_refused(shared: Desk, path: str, fields: dict[str, Any]) -> None:
    answer = post(shared, path, json.dumps(fields))
    assert answer.status_code in (200, 400, 404, 409), answer.text
    if answer.status_code != 200:
        refusal(answer, answer.status_code)


@RELAXED
@given(PATHS, st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u0123456789.eE-dk', max_size=40).map(str.encode))
def test_whatever_a_body_holds_is_taken_or_refused(shared: Desk, path: str, body: bytes) -> None:
    answer = post(shared, path, body)
    assert answer.status_code in (200, 400), answer.text


@RELAXED
@given(st.text(max_size=60))
def test_whatever_is_asked_about_is_refused_by_name(shared: Desk, name: str) -> None:
    answer = shared.ask("GET", "/key/info", params={"key": name.encode("utf-8", "surrogatepass")})
    assert answer.status_code in (400, 404), answer.text

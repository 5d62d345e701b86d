"""Plays requests made of the API's own description against it: whatever comes, no 5xx, and only answers it describes.

    python -m tests.planes.schema_play [--seconds 600] [--seed 1]

Half of what is drawn names things that are there, and gives fields values that make sense: else hardly a request would
come past the first check.
"""

import argparse
import itertools
import json
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.planes.control import MASTER_KEY, open_desk
from tollhouse.app.notices import HooksAtRest
from tollhouse.controlplane.access import Caller
from tollhouse.settings import Settings
from tollhouse.terms.people import Role
from tollhouse.vault import MasterKeys, Vault

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALLERS = (
    None,
    Caller(Role.ADMIN, "boss"),
    Caller(Role.MEMBER, "ann", {"red": Role.ADMIN}),
    Caller(Role.VIEWER, "bob"),
)
"""None is the operator, by the master key."""
AMOUNTS = ("20/month", "1M tokens/day", "$5", "90 requests/hour", "0")


class Player:
    """A desk with a few things, and the description it gives of itself."""

    def __init__(self, place: Path) -> None:
        self.desk = desk = open_desk(place).with_deps(hooks=HooksAtRest(Settings(), Vault(MasterKeys({1: b"m" * 32}))))
        desk.make("/api/v1/plans", plan_id="free", budgets=["1M tokens/month"])
        desk.make("/api/v1/teams", team_id="red", plan_id="free")
        for user_id in ("ann", "bob", "boss"):
            made = desk.make("/api/v1/users", user_id=user_id, team_id="red", budget="5/day")
        hook = desk.make("/api/v1/webhooks", url="https://example.org/hook")
        self.key = desk.make("/api/v1/keys", user_id="ann", name="laptop")
        stored = desk.make("/api/v1/credentials", provider="anthropic", secret="sk-ant-api03-played", name="spare")
        desk.make("/api/v1/credentials", provider="anthropic", secret="sk-ant-api03-own", user_id="ann")
        self.known: dict[str, Any] = {
            "user_id": "ann",
            "team_id": "red",
            "plan_id": "free",
            "key_id": self.key["key_id"],
            "budget_id": made["budgets"][0]["budget_id"],
            "request_id": "req_1",
            "session_id": "ses_1",
            "webhook_id": hook["webhook_id"],
            "credential_id": stored["credential_id"],
            "provider": "anthropic",
        }
        self.described = desk.get("/api/openapi.json")
        schema = schemathesis.openapi.from_dict(self.described)
        self.operations: dict[str, APIOperation[Any, Any, Any, Any]] = {
            f"{found.ok().method.upper()} {found.ok().path}": found.ok() for found in schema.get_all_operations()
        }
        self.plays = [
            (name, mode)
            for name, operation in self.operations.items()
            for mode in GenerationMode
            if mode is GenerationMode.POSITIVE or operation.definition.raw.get("parameters") or operation.body
        ]
        """What has no parameter and no body cannot be asked wrongly."""
        self.seen: dict[int, int] = {}
        """Answers by status."""

    def play(self, name: str, examples: int, mode: GenerationMode, start: int) -> None:
        """Raises what a check finds."""
        operation = self.operations[name]
        named = {key: value for key, value in self.known.items() if "{%s}" % key in operation.path}  # noqa: UP031
        cases = st.one_of(operation.as_strategy(mode), operation.as_strategy(mode, path_parameters=named or None))
        sense = st.booleans()

        @seed(start)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases, sense, st.sampled_from(CALLERS), st.sampled_from(AMOUNTS))
        def ask(case: Case, sensible: bool, caller: Caller | None, amount: str) -> None:
            if sensible and isinstance(case.body, dict):
                case.body = self.sensible(case.body, amount)
            answer = self.ask(case, caller)
            self.seen[answer.status_code] = self.seen.get(answer.status_code, 0) + 1
            case.validate_response(answer, checks=CHECKS)

        ask()

    def strange(self, texts: Sequence[str], others: Sequence[Any]) -> Iterator[str]:
        """What fails when each field of each body, each query and each name in a path has such a value."""
        for name, operation in self.operations.items():
            method, path = name.split(" ", 1)
            there = path
            for key, value in self.known.items():
                there = there.replace("{%s}" % key, value)  # noqa: UP031
            asked: list[tuple[str, dict[str, Any]]] = [
                (there, {"params": {one.name: text}}) for one in operation.query for text in texts if text.isprintable()
            ]
            asked += [(f"{path.partition('{')[0]}{quote(text)}", {}) for text in texts if text.isprintable()]
            body = self.described["paths"][path][method.lower()].get("requestBody", {"content": {}})["content"]
            if "application/json" in body:
                schema = self.plain(body["application/json"]["schema"])
                base = self.sensible(dict.fromkeys(schema.get("required", ()), "x"), "1/day")
                for field, value in itertools.product(schema.get("properties", ()), (*texts, *others)):
                    content = json.dumps({**base, field: value}).encode()
                    asked.append((there, {"content": content, "headers": {"content-type": "application/json"}}))
            for target, how in asked:
                try:
                    status = self.desk.ask(method, target, **how).status_code
                except Exception as error:  # noqa: BLE001  a fault of the server comes through as it is
                    yield f"{method} {target} {how}: {error!r}"
                else:
                    if status >= 500:
                        yield f"{method} {target} {how}: {status}"

    def plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        """What a reference stands for; of alternatives, the first."""
        while "properties" not in schema:
            if "$ref" in schema:
                schema = self.described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            elif "anyOf" in schema:
                schema = schema["anyOf"][0]
            else:
                break
        return schema

    def sensible(self, body: dict[str, Any], amount: str) -> dict[str, Any]:
        made = {
            **self.known,
            "amount": amount,
            "budget": amount,
            "budgets": [amount],
            "expires": "30d",
            "grace": "1h",
            "timezone": "Europe/Berlin",
            "models": ["claude-*"],
            "kinds": ["budget.*"],
            "url": "https://example.org/hook",
            "key": self.key["key"],
            "scope": "user",
            "scope_id": "ann",
            "without_own_key": "free",
        }
        return {name: made.get(name, value) for name, value in body.items()}

    def ask(self, case: Case, caller: Caller | None) -> httpx.Response:
        how = case.as_transport_kwargs(base_url="http://tollhouse:4000")
        headers = {name: value.encode("utf-8", "surrogatepass") for name, value in how.pop("headers").items()}
        headers.pop("Authorization", None)
        content = how.pop("data", None)
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        if content is not None:
            how["content"] = content
        how.pop("cookies", None)
        return self.desk.ask(
            how.pop("method"), how.pop("url"), caller=caller, bearer=MASTER_KEY, headers=headers, **how
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    until_s = time.monotonic() + arguments.seconds
    with tempfile.TemporaryDirectory() as place:
        player = Player(Path(place))
        for start in itertools.count(arguments.seed):
            for name, mode in player.plays:
                player.play(name, 20, mode, start)
            print(f"{sum(player.seen.values())} answers: {dict(sorted(player.seen.items()))}", flush=True)
            if time.monotonic() > until_s:
                break
        player.desk.deps.database.close()


if __name__ == "__main__":
    main()

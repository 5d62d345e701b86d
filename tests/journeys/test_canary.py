"""A canary: secrets are planted wherever there is a place for one, the gateway lives through a day, and none of them is
seen anywhere but where it was given out on purpose.
"""

import base64
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests import tokens
from tests.canary import canary, files, sightings
from tests.journeys.calls import body, end_events, message, start_event, streamed, text_event
from tests.postgres import Postgres
from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway, database_at, eventually
from tollhouse.terms.sessions import CSRF_HEADER, SESSION_COOKIE

SIGNER = tokens.key("RSA", "canary")
TAIL = '"/é +%41'
"""What is written otherwise in JSON, URLs and bytes."""
API = "/api/v1"
LOOKS = (
    *("/healthz", "/readyz", "/metrics", "/api/docs", "/api/openapi.json"),
    *(f"{API}/{noun}" for noun in ("status", "models", "providers", "users", "keys", "budgets", "plans", "teams")),
    *(f"{API}/{noun}" for noun in ("requests", "usage?by=key", "sessions", "invitations", "credentials", "webhooks")),
    *(f"{API}/{noun}" for noun in ("notices", "audit", "vault", "sign-in/oidc")),
)
COMMANDS = (("doctor", "--json"), ("audit", "export"))


def settings(provider: ScriptedUpstream) -> dict[str, Any]:
    row = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK_KEY"}
    issuer = {"name": "acme", "issuer": "http://127.0.0.1:9", "client_id": "us", "client_secret": "env:OIDC_SECRET"}
    trusted = {"name": "app", "issuer": tokens.ISSUER, "jwks_url": f"{provider.url}/jwks", "audience": tokens.AUDIENCE}
    return {
        "local": {"enabled": False},
        "providers": [{**row, "models": ["claude-*"]}],
        "jwt": [trusted],
        "sign_in": {"sign_up": "open", "issuers": [issuer]},
        "vault": {"master_keys": "env:VAULT_KEYS"},
        "notices": {"allow_loopback": True},
        "webhooks": [{"name": "ops", "url": f"{provider.url}/ops", "secret": "env:HOOK_SECRET"}],
    }


class Day:
    """What happens to a gateway in one. `planted` are the secrets; `seen` is where none of them may be."""

    def __init__(self, place: Path, provider: ScriptedUpstream, location: str) -> None:
        vault_key = secrets.token_bytes(32)
        self.provider = provider
        self.planted: dict[str, str | bytes] = {
            "master key": canary("master"),
            "provider key": canary("provider"),
            "client secret of an issuer": canary("oidc"),
            "webhook secret of the settings": base64.b64encode(secrets.token_bytes(24)).decode(),
            "vault master key": vault_key,
            "vault master key as written": base64.b64encode(vault_key).decode(),
            "question": canary("question", TAIL),
            "answer": canary("answer", TAIL),
            "password": canary("password", TAIL),
            "another password": canary("other", TAIL),
            "wrong password": canary("wrong", TAIL),
            "own key": f"sk-ant-api03-{canary('own')}",
            "managed key": f"sk-ant-api03-{canary('managed')}",
            "code of an issuer": canary("code"),
            "a key in the query": canary("query"),
            "somebody else's key": canary("stranger"),
        }
        self.seen: list[tuple[str, bytes]] = []
        variables = {
            "TOLLHOUSE_MASTER_KEY": self.text("master key"),
            "MOCK_KEY": self.text("provider key"),
            "OIDC_SECRET": self.text("client secret of an issuer"),
            "HOOK_SECRET": f"whsec_{self.text('webhook secret of the settings')}",
            "VAULT_KEYS": f"1:{self.text('vault master key as written')}",
        }
        self.gateway = Gateway(place, settings(provider), **variables, **database_at(location))
        self.http = httpx.Client(timeout=30, trust_env=False)

    def text(self, name: str) -> str:
        secret = self.planted[name]
        assert isinstance(secret, str)
        return secret

    def ask(self, method: str, path: str, status: int, *, given: bool = False, **how: Any) -> Any:
        """One request. `given`: its answer holds a secret on purpose, for whom it is."""
        answer = self.http.request(method, self.gateway.url + path, **how)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        if not given:
            self.seen.append((f"the answer to {method} {path.partition('?')[0]}", answer.content))
            self.seen.append((f"its headers, {method}", repr(answer.headers.multi_items()).encode()))
        return answer

    # --- the day

    def people(self) -> dict[str, str]:
        """Sets up, invites, signs up and in, rightly and wrongly; the headers of a session."""
        self.planted["setup token"] = token = self.gateway.setup_url.rpartition("/")[2]
        of = {"email": "ola@acme.example", "password": self.text("password")}
        self.ask("POST", f"{API}/setup", 201, given=True, json={**of, "token": token, "name": "Ola"})
        wrong = {**of, "password": self.text("wrong password")}
        self.ask("POST", f"{API}/sign-in", 401, json=wrong)
        session = self.ask("POST", f"{API}/sign-in", 200, given=True, json=of)
        self.planted["session"] = cookie = session.cookies[SESSION_COOKIE]
        self.planted["csrf token"] = csrf = session.json()["csrf_token"]
        self.http.cookies.clear()
        headers = {"cookie": f"{SESSION_COOKIE}={cookie}", CSRF_HEADER: csrf, "origin": self.gateway.url}
        to = {"email": "mia@acme.example"}
        invited = self.ask("POST", f"{API}/invitations", 201, given=True, json=to, headers=headers).json()
        self.planted["invitation token"] = invited["token"]
        accepted = {"token": invited["token"], "password": self.text("another password")}
        self.ask("POST", f"{API}/invitations/accept", 201, given=True, json=accepted)
        self.http.cookies.clear()
        self.ask("POST", f"{API}/invitations/accept", 404, json=accepted)
        code = f"code={self.planted['code of an issuer']!s}&state={self.planted['code of an issuer']!s}"
        self.ask("GET", f"{API}/sign-in/oidc/acme/callback?{code}", 400)
        return headers

    def secrets_of_others(self, session: dict[str, str]) -> str:
        """Stored credentials and webhooks; the id of one."""
        own = {"secret": self.planted["own key"]}
        self.ask("PUT", f"{API}/me/credentials/mock", 200, json=own, headers=session)
        managed = {"provider": "mock", "secret": self.planted["managed key"], "name": "managed"}
        made = self.ask("POST", f"{API}/credentials", 201, json=managed, headers=session).json()
        self.ask("POST", f"{API}/credentials/{made['credential_id']}/test", 200, headers=session)
        hook = {"url": f"{self.provider.url}/hook"}
        hooked = self.ask("POST", f"{API}/webhooks", 201, given=True, json=hook, headers=session).json()
        self.planted["webhook secret"] = hooked["secret"].removeprefix("whsec_")
        path = f"{API}/webhooks/{hooked['webhook_id']}"
        self.ask("POST", f"{path}/test", 200, headers=session)
        self.ask("GET", f"{path}/deliveries", 200, headers=session)
        return str(hooked["webhook_id"])

    def calls(self, session: dict[str, str]) -> None:
        """Whole and streamed, kept and not, by key and token; refused ones, with secrets where they do not belong."""
        asked = body(messages=[{"role": "user", "content": self.text("question")}], metadata={"user_id": "u"})
        for days in (0, 1):
            new = {"user_id": "mia", "capture_days": days}
            key = self.ask("POST", f"{API}/keys", 201, given=True, json=new, headers=session).json()["key"]
            self.planted[f"virtual key {days}"] = key
            for fields in (asked, {**asked, "stream": True}):
                got = self.ask("POST", "/v1/messages", 200, given=True, headers={"x-api-key": key}, json=fields)
                assert ("x-tollhouse-captured" in got.headers) is bool(days)
                self.seen.append(("headers of an answer", repr(got.headers.multi_items()).encode()))
        kept = f"{API}/requests/{got.headers['x-tollhouse-request-id']}/content"
        content = self.ask("GET", kept, 200, given=True, headers=session).json()
        assert json.loads(content["request"]["body"]) == {**asked, "stream": True}
        assert json.dumps(self.text("answer")) in content["answer"]["body"]
        self.ask("POST", "/v1/messages", 400, headers={"x-api-key": key}, json={**asked, "model": "nobody-has-this"})
        self.ask("POST", "/v1/messages", 400, headers={"x-api-key": key}, json={**asked, "max_tokens": "x"})
        now_s = int(time.time())
        token = tokens.mint(tokens.claims("app-user", iat=now_s, exp=now_s + 600), SIGNER, "RS256")
        self.planted["signature of a token"] = token.rpartition(".")[2]
        bearer = {"authorization": f"Bearer {token}"}
        self.ask("POST", "/v1/messages", 200, given=True, headers=bearer, json=asked)
        self.ask("POST", "/v1/messages", 401, headers={"authorization": f"Bearer {token[:-8]}AAAAAAAA"}, json=asked)
        for name in ("provider key", "own key", "somebody else's key", "password"):
            shown = {"x-api-key": self.text(name).encode()}
            self.ask("POST", "/v1/messages", 401, headers=shown, json=asked)
            self.ask("GET", f"{API}/keys", 401, headers={"authorization": b"Bearer " + shown["x-api-key"]})
        lost = f"api_key={self.planted['a key in the query']!s}"
        self.ask("POST", f"/v1/messages?{lost}", 401, json=asked)
        self.ask("GET", f"/nowhere/{self.planted['a key in the query']!s}?{lost}", 404, given=True)
        self.ask("PATCH", f"{API}/users/mia", 400, given=True, headers=session, json={"secret": self.text("password")})

    def looks(self, session: dict[str, str]) -> None:
        """All that there is to see, by whoever may see everything."""
        for path in ("/sign-in", "/sign-up", *LOOKS):
            headers = session if path in LOOKS else {}  # to who is signed in, a page gives their own token
            answer = self.http.get(self.gateway.url + path, headers=headers)
            assert answer.status_code == 200, (path, answer.text)
            self.seen.append((f"GET {path}", answer.content))
        for words in COMMANDS:
            done = self.gateway.type(*words)
            self.seen.append((f"tollhouse {' '.join(words)}", (done.stdout + done.stderr).encode()))
        process = self.gateway.process
        assert process is not None
        for name in ("cmdline", "status", "comm"):
            self.seen.append((name, Path(f"/proc/{process.pid}/{name}").read_bytes()))
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            self.seen.append(("a thread's name", (task / "comm").read_bytes()))

    def leavings(self) -> None:
        """What is left of the day: files, log, standard output, and what webhooks were told."""
        self.seen += files(self.gateway.home)
        self.seen.append(("the log", self.gateway.log.read_bytes()))
        self.seen.append(("standard output", self.gateway.said))
        self.seen += [
            (f"a webhook's message to {one.target}", one.head + one.body)
            for one in self.provider.received
            if one.target in ("/hook", "/ops")
        ]


def script(day: Callable[[], Day]) -> Callable[[Received], list[Step]]:
    """Model, provider of keys and receiver of webhooks in one."""

    def play(received: Received) -> list[Step]:
        if received.target == "/jwks":
            return [reply(200, tokens.key_set(SIGNER))]
        if received.target in ("/hook", "/ops"):
            return [reply(200, b"")]
        if received.method == "GET":
            return [reply(200, b'{"data": []}')]
        text = day().text("answer")
        if b'"stream": true' in received.body or b'"stream":true' in received.body:
            return streamed(start_event(), text_event(text), end_events())
        return [reply(200, message(content=[{"type": "text", "text": text}]))]

    return play


def test_no_secret_is_seen_where_it_does_not_belong(
    engine: str, empty: Callable[[], str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location = empty()
    days: list[Day] = []
    with ScriptedUpstream() as provider:
        provider.script = script(lambda: days[0])
        day = Day(tmp_path / "day", provider, location)
        days.append(day)
        if engine == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            day.planted["database password"] = server.password
        with day.http:
            try:
                day.gateway.start()
                session = day.people()
                webhook = day.secrets_of_others(session)
                day.calls(session)
                eventually(lambda: [one for one in provider.received if one.target == "/hook"])
                day.looks(session)
                day.seen += files(day.gateway.home)  # with what is not in the database yet
                assert webhook
            finally:
                day.gateway.close()
        day.leavings()
    if engine == "postgresql":
        day.seen.append(("the database", server.dump(location).encode()))
    assert len(day.planted) > 20
    names = {name for name, _ in day.seen}
    assert {"the log", "standard output", "a webhook's message to /hook", "cmdline"} <= names
    assert list(sightings(day.planted, day.seen)) == []


@pytest.mark.parametrize(
    "written", [repr, lambda secret: repr(json.dumps(secret).encode()), lambda secret: quote(quote(secret)), str.encode]
)
def test_a_secret_is_found_however_it_is_written(written: Callable[[str], str | bytes]) -> None:
    secret = canary("looked-for", TAIL)
    text = written(secret)
    data = text.encode() if isinstance(text, str) else text
    for place in (data, data.hex().encode(), base64.b64encode(b"x" + data)):
        assert next(sightings({"it": secret}, [("there", place)]), "") != ""
    assert secret not in str(list(sightings({"it": secret}, [("there", data)])))

"""Tokens of the application's own identity provider: good ones name their user, and nothing else does."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from tests import tokens
from tests.planes.plane import MESSAGE, T0_NS, Running, ask, image, plane
from tests.planes.wire import Answer, Peer, reply, run, until, upstream
from tests.tokens import AUDIENCE, ISSUER, NOW_S, claims, mint
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.dataplane.tokens import Issuer, IssuerOptions, TokenScheme
from tollhouse.rules.claims import Claimed, ClaimRules
from tollhouse.rules.tokens import Trust, read_public_key, shared_secret
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, Role, User
from tollhouse.upstream.issuer_keys import FetchedKeys, FetchOptions, IssuerKeys, WrittenKeys

assert NOW_S == T0_NS // 10**9
EC, EC2, RSA = tokens.key("EC", "ec-1"), tokens.key("EC", "ec-2"), tokens.key("RSA", "rsa-1")
ALGORITHMS = frozenset(("RS256", "ES256", "EdDSA"))
ORGANISATION = Budget("bud_org", ScopeKind.ORGANISATION, "default", 10**12)


class KeyServer:
    """A JWKS URL; what it answers can be changed, and it can be made to wait."""

    def __init__(self, *keys: Any) -> None:
        self.answer = reply(tokens.key_set(*keys))
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    def publish(self, *keys: Any) -> None:
        self.answer = reply(tokens.key_set(*keys))

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.asked += 1
            await self.open.wait()
            peer.send(self.answer)


class World:
    """A plane with one issuer; users are made in a directory that is a dict."""

    def __init__(self) -> None:
        self.now_s = 0.0
        """Of the monotonic clock."""
        self.users: dict[str, User] = {"alice": User("alice")}
        self.made: list[Claimed] = []
        self.refuses = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.running: Running

    async def provision(self, claimed: Claimed) -> None:
        await self.gate.wait()
        self.made.append(claimed)
        if self.refuses:
            raise ValueError(self.refuses)
        known = self.users.get(claimed.user_id, User(claimed.user_id))
        if known.blocked_at_ns is None:
            self.users[claimed.user_id] = msgspec.structs.replace(known, plan_id=claimed.plan_id)
        self.tell()

    def tell(self) -> None:
        here = image(ORGANISATION)
        self.running.change(msgspec.structs.replace(here, users=tuple(self.users.values())))

    @property
    def asked(self) -> int:
        """Tokens that are being looked at."""
        issuer = self.running.plane.schemes[1]._issuers[ISSUER]  # type: ignore[attr-defined]
        return len(issuer.waiting) + len(issuer.unchecked)

    async def call(self, token: str, *lines: bytes, header: bytes = b"authorization: Bearer %b") -> Answer:
        async with await self.running.client() as client:
            body = ask()
            fields = b"".join(line + b"\r\n" for line in (header % token.encode(), *lines))
            client.send(
                b"POST /v1/messages HTTP/1.1\r\nhost: tollhouse\r\n%bcontent-length: %d\r\n\r\n%b"
                % (fields, len(body), body)
            )
            return await client.answer()

    async def refused(self, token: str, status: int = 401) -> dict[str, Any]:
        answer = await self.call(token)
        assert answer.status == status, answer.body
        error: dict[str, Any] = json.loads(answer.body)["error"]
        assert token[-40:] not in answer.body.decode(), "no token is ever repeated"
        assert not self.running.accounts.holds
        return error


async def provider(peer: Peer) -> None:
    while True:
        await peer.request()
        peer.send(reply(MESSAGE))


@contextlib.asynccontextmanager
async def world(
    keys: Callable[[World, int], IssuerKeys] | None = None,
    *,
    server: KeyServer | None = None,
    trust: dict[str, Any] | None = None,
    rules: ClaimRules | None = None,
    fetching: FetchOptions | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """Signed by EC or RSA, whose public keys `server` tells."""
    built = World()
    trusted = Trust(**{"issuer": ISSUER, "algorithms": ALGORITHMS, "audiences": frozenset((AUDIENCE,))} | (trust or {}))
    async with upstream(provider) as model, upstream(server or KeyServer(EC, RSA)) as jwks:

        def fetched(world: World, port: int) -> IssuerKeys:
            url = f"http://127.0.0.1:{port}/.well-known/jwks.json"
            return FetchedKeys(url, fetching or FetchOptions(), ssl.create_default_context(), lambda: world.now_s)

        issuer = Issuer(
            "app", trusted, rules or ClaimRules(), (keys or fetched)(built, jwks.port), IssuerOptions(**options)
        )

        def schemes(snapshot: Snapshot) -> list[TokenScheme]:
            return [TokenScheme([issuer], snapshot, built.provision, lambda: T0_NS)]

        async with plane(model.port, people=image(ORGANISATION), schemes=schemes) as running:
            built.running = running
            yield built


# ------------------------------------------------------------------------------------------------------------ good ones


@pytest.mark.parametrize(("algorithm", "kind"), [("ES256", "EC"), ("RS256", "RSA"), ("PS256", "RSA"), ("EdDSA", "OKP")])
def test_a_good_token_is_its_user(algorithm: str, kind: str) -> None:
    async def story() -> None:
        signer = tokens.key(kind, f"{kind}-good")
        trust = {"algorithms": frozenset((algorithm,))}
        async with world(server=KeyServer(EC, signer), trust=trust) as here:
            answer = await here.call(mint(claims(), signer, algorithm))
            assert answer.status == 200, answer.body
            hold = here.running.settlements[0].hold
            assert (hold.user_id, hold.key_id) == ("alice", "app")
            answer = await here.call(mint(claims(), signer, algorithm), header=b"x-api-key: %b")
            assert answer.status == 200

    run(story())


def test_a_page_costs_one_look_at_a_signature_and_one_fetch_of_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        server = KeyServer(EC)
        async with world(server=server) as here:
            token = mint(claims(), EC)
            looks = 0
            real = here.running.plane.schemes[1]._is_good  # type: ignore[attr-defined]

            def counted(*facts: Any) -> Any:
                nonlocal looks
                looks += 1
                return real(*facts)

            monkeypatch.setattr(here.running.plane.schemes[1], "_is_good", counted)
            for _ in range(5):
                assert (await here.call(token)).status == 200
            assert (server.asked, len(here.made)) == (1, 1)
            assert looks == 3, "before the keys were here, after, and never again"

    run(story())


def test_fifty_first_calls_of_an_unknown_user_make_one_user() -> None:
    async def story() -> None:
        async with world() as here:
            here.gate.clear()
            token = mint(claims("carol"), EC)
            others = [mint(claims("carol", jti=str(number)), EC) for number in range(25)]
            calls = [asyncio.ensure_future(here.call(one)) for one in [token] * 25 + others]
            await until(lambda: here.asked >= 26)
            here.gate.set()
            answers = await asyncio.gather(*calls)
            assert {answer.status for answer in answers} == {200}
            assert len(here.made) == 1
            assert {settled.hold.user_id for settled in here.running.settlements} == {"carol"}
            standing = here.running.accounts.standing(ORGANISATION)
            assert standing.posted == sum(settled.settle.amount_nusd for settled in here.running.settlements)

    run(story())


def test_a_body_that_comes_while_its_sender_is_looked_up_is_kept() -> None:
    async def story() -> None:
        async with world() as here, await here.running.client() as client:
            here.gate.clear()
            token = mint(claims("carol"), EC).encode()
            body = ask()
            head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n"
            client.send(head % (token, len(body)), body[:10])
            await until(lambda: here.asked)
            here.gate.set()
            await until(lambda: here.made)
            client.send(body[10:])
            assert (await client.answer()).status == 200
            client.send(head % (token, len(body)), body)
            assert (await client.answer()).status == 200, "and the connection goes on"

    run(story())


def test_who_leaves_while_being_looked_up_costs_nothing() -> None:
    async def story() -> None:
        async with world() as here:
            here.gate.clear()
            async with await here.running.client() as client:
                token = mint(claims("carol"), EC).encode()
                head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nauthorization: Bearer %b\r\ncontent-length: 3\r\n\r\n"
                client.send(head % token, b"{}\n")
                await until(lambda: here.asked)
            here.gate.set()
            await until(lambda: here.made)
            assert not here.running.settlements

    run(story())


def test_what_newer_claims_say_reaches_the_user_and_older_ones_take_nothing_back() -> None:
    async def story() -> None:
        rules = ClaimRules(plan_claim="plan", default_plan="free")
        async with world(rules=rules) as here:
            steps = ((0, "free", "free"), (10, "premium", "premium"), (5, "free", "premium"), (20, None, "free"))
            for at_s, plan, holds in steps:
                assert (await here.call(mint(claims(iat=NOW_S + at_s, plan=plan), EC))).status == 200
                assert here.users["alice"].plan_id == holds
            assert len(here.made) == 3

    run(story())


def test_blocked_users_are_refused_however_good_their_token_is() -> None:
    async def story() -> None:
        async with world() as here:
            token = mint(claims(), EC)
            assert (await here.call(token)).status == 200
            here.users["alice"] = User("alice", blocked_at_ns=1)
            here.tell()
            assert (await here.refused(token))["code"] == "user_blocked"
            assert (await here.refused(mint(claims(jti="new"), EC)))["code"] == "user_blocked"
            assert here.running.refused[-1].user_id == "alice"

    run(story())


def test_no_token_speaks_for_an_owner() -> None:
    async def story() -> None:
        async with world() as here:
            token = mint(claims(), EC)
            assert (await here.call(token)).status == 200
            here.users["alice"] = User("alice", role=Role.OWNER)
            here.tell()
            assert (await here.refused(token))["code"] == "owner_by_token"
            assert (await here.refused(mint(claims(jti="new"), EC)))["code"] == "owner_by_token"

    run(story())


def test_users_are_not_made_where_tokens_may_not() -> None:
    async def story() -> None:
        async with world(makes_users=False) as here:
            assert (await here.call(mint(claims(), EC))).status == 200
            assert (await here.refused(mint(claims("carol"), EC)))["code"] == "unknown_user"
            assert "carol" not in here.users

    run(story())


def test_claims_that_give_what_is_not_there_are_refused_in_words() -> None:
    async def story() -> None:
        async with world() as here:
            here.refuses = "there is no plan 'gold', which the claims or the settings give"
            error = await here.refused(mint(claims("carol"), EC))
            assert (error["code"], "there is no plan 'gold'" in error["message"]) == ("claims_refused", True)
            assert (await here.refused(mint(claims(sub=None), EC)))["code"] == "claims_refused"

    run(story())


def test_a_bug_in_making_users_is_answered_and_the_next_call_tries_again() -> None:
    async def story() -> None:
        async with world() as here:
            scheme = here.running.plane.schemes[1]
            scheme._provision = None  # type: ignore[attr-defined]
            token = mint(claims("carol"), EC)
            assert (await here.refused(token, 500))["code"] == "internal_error"
            scheme._provision = here.provision  # type: ignore[attr-defined]
            assert (await here.call(token)).status == 200

    run(story())


def test_a_flood_of_tokens_that_nobody_signed_takes_no_place_of_a_new_user() -> None:
    async def story() -> None:
        server = KeyServer(EC)
        async with world(server=server, max_waiting=3) as here:
            assert (await here.call(mint(claims(), EC))).status == 200
            here.now_s += 31
            server.open.clear()
            forged = [mint(claims(jti=str(number)), EC2) for number in range(5)]
            calls = [asyncio.ensure_future(here.call(token)) for token in forged]
            await until(lambda: here.asked == 3 and sum(call.done() for call in calls) == 2)
            assert (await here.call(mint(claims("carol"), EC))).status == 200
            server.open.set()
            answers = await asyncio.gather(*calls)
            assert sorted(answer.status for answer in answers) == [401, 401, 401, 503, 503]
            assert here.asked == 0

    run(story())


# -------------------------------------------------------------------------------------------------------------- attacks

PUBLIC_PEM: bytes = RSA.as_pem(private=False)


def spliced(token: str, part: int, data: bytes) -> str:
    parts = token.split(".")
    parts[part] = tokens.encode(data).decode()
    return ".".join(parts)


def raw_hmac(what: dict[str, Any], secret: bytes) -> str:
    """As an attacker makes it, whatever libraries think of the secret."""
    signed = (
        tokens.encode(json.dumps({"alg": "HS256", "kid": "rsa-1"}).encode())
        + b"."
        + tokens.encode(json.dumps(what).encode())
    )
    return (signed + b"." + tokens.encode(hmac.new(secret, signed, hashlib.sha256).digest())).decode()


JWK = EC2.as_dict(private=False)
ATTACKS: dict[str, str] = {
    "alg none": tokens.unsigned(claims()),
    "alg None": tokens.unsigned(claims(), alg="None"),
    "alg none behind a good head": mint(claims(), EC).rpartition(".")[0] + ".",
    "alg is missing": mint(claims(), EC, alg=None),
    "alg is a list": mint(claims(), EC, alg=["ES256"]),
    "the public key as a secret": raw_hmac(claims(), PUBLIC_PEM),
    "the public key as a secret, stripped": raw_hmac(claims(), PUBLIC_PEM.strip()),
    "the modulus as a secret": raw_hmac(claims(), base64.urlsafe_b64decode(RSA.as_dict(private=False)["n"] + "==")),
    "another key under a good name": mint(claims(), EC2, kid="ec-1"),
    "a key of its own within (jwk)": mint(claims(), EC2, kid="ec-1", jwk=JWK),
    "a key of its own elsewhere (jku)": mint(claims(), EC2, kid="ec-1", jku="http://127.0.0.1:1/jwks"),
    "a key of its own elsewhere (x5u)": mint(claims(), EC2, kid="ec-1", x5u="http://127.0.0.1:1/x5u"),
    "a certificate within (x5c)": mint(claims(), EC2, kid="ec-1", x5c=["MIIB"]),
    "a kid that is a path": mint(claims(), EC2, kid="../../../../dev/null"),
    "a kid that is SQL": mint(claims(), EC2, kid="x' UNION SELECT 'secret"),
    "a kid that is a number": mint(claims(), EC, kid=1),
    "a kid that is huge": mint(claims(), EC, kid="k" * 300),
    "no kid, and no key that fits": mint(claims(), EC2, kid=None),
    "another algorithm of the same key": mint(claims(), RSA, "PS256"),
    "an algorithm of another key": mint(claims(), EC, kid="rsa-1"),
    "critical extensions": mint(claims(), EC, crit=["exp"], exp=1),
    "an unencoded payload": mint(claims(), EC, b64=False),
    "another issuer": mint(claims(iss="https://evil.example/"), EC),
    "no issuer": mint(claims(iss=None), EC),
    "issuers": mint(claims(iss=[ISSUER]), EC),
    "almost the issuer": mint(claims(iss=ISSUER.rstrip("/")), EC),
    "another audience": mint(claims(aud="https://other.example"), EC),
    "no audience": mint(claims(aud=None), EC),
    "an audience that is an object": mint(claims(aud={AUDIENCE: 1}), EC),
    "expired": mint(claims(exp=NOW_S - 61), EC),
    "no end": mint(claims(exp=None), EC),
    "an end that is a text": mint(claims(exp=str(NOW_S + 60)), EC),
    "an end that is true": mint(claims(exp=True), EC),
    "an end that is not a number": mint(
        b'{"iss":"https://id.example/","aud":"https://llm.example","sub":"a","exp":NaN}', EC
    ),
    "not yet": mint(claims(nbf=NOW_S + 61), EC),
    "made in the future": mint(claims(iat=NOW_S + 61), EC),
    "claims of another token": spliced(mint(claims(), EC), 1, json.dumps(claims("root")).encode()),
    "a claim twice": mint(b'{"sub":"alice","sub":"root",' + json.dumps(claims())[1:].encode(), EC),
    "a head that says alg twice": spliced(mint(claims(), EC), 0, b'{"alg":"none","alg":"ES256","kid":"ec-1"}'),
    "encrypted": "eyJhbGciOiJkaXIifQ..a.b.c",
    "four parts": mint(claims(), EC) + ".e30",
    "two parts": mint(claims(), EC).rpartition(".")[0],
    "not base64": "eyJ+/=.e30.e30",
    "claims that are a list": mint(b"[]", EC),
    "nested for ever": spliced(mint(claims(), EC), 1, b"[" * 5_000),
    "a number without end": mint(b'{"exp":' + b"9" * 5_000 + b"}", EC),
    "huge": mint(claims(pad="x" * 9_000), EC),
    "a signature of nothing": mint(claims(), EC).rpartition(".")[0] + "." + "A" * 86,
    "a signature of no letters": mint(claims(), EC).rpartition(".")[0] + ".\xff",
    "a signature in another form": mint(claims(), EC) + "=",
    "a user without a name": mint(claims(""), EC),
    "a user of control characters": mint(claims("a\r\nx-evil: 1"), EC),
}


@pytest.fixture(scope="module")
def attacked() -> dict[str, dict[str, Any]]:
    """What each attack was answered, from one plane for all."""
    found: dict[str, dict[str, Any]] = {}

    async def story() -> None:
        server = KeyServer(EC, RSA)
        async with world(server=server) as here:
            assert (await here.call(mint(claims(), EC))).status == 200
            for name, token in ATTACKS.items():
                found[name] = await here.refused(token)
            assert (await here.call(mint(claims(), EC))).status == 200, "a good one is still let in"
            assert [made.user_id for made in here.made] == ["alice"]
            assert len(here.running.settlements) == 2
            assert server.asked == 1, "no token makes us ask again within the interval"

    run(story())
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails(attacked: dict[str, dict[str, Any]], name: str) -> None:
    code = attacked[name]["code"]
    special = {
        "expired": "token_expired",
        "a user without a name": "claims_refused",
        "a user of control characters": "claims_refused",
    }
    unknown_key = ("a kid that is a path", "a kid that is SQL", "an algorithm of another key")
    assert code == special.get(name, "unknown_key" if name in unknown_key else "invalid_token"), attacked[name]


def test_where_no_issuer_is_set_a_token_is_told_so() -> None:
    async def story() -> None:
        async with plane() as running, await running.client() as client:
            head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-api-key: %b\r\ncontent-length: 0\r\n\r\n"
            client.send(head % mint(claims(), EC).encode())
            answer = await client.answer()
            assert answer.status == 401
            assert "no issuer of tokens is set here" in json.loads(answer.body)["error"]["message"]

    run(story())


def test_the_login_of_a_subscription_is_told_what_it_is_whether_or_not_tokens_are_let_in() -> None:
    login = claims() | {"iss": "https://auth.openai.com", "https://api.openai.com/auth": {"chatgpt_plan_type": "plus"}}

    async def story() -> None:
        async with world() as here:
            error = await here.refused(mint(login, EC))
            assert error["code"] == "subscription_token"
            assert "OpenAI permits what Anthropic forbids; we relay neither" in error["message"]
        async with plane() as running, await running.client() as client:
            head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-api-key: %b\r\ncontent-length: 0\r\n\r\n"
            client.send(head % mint(login, EC).encode())
            assert json.loads((await client.answer()).body)["error"]["code"] == "subscription_token"

    run(story())


def test_a_head_larger_than_a_token_may_be_is_not_even_decoded() -> None:
    async def story() -> None:
        async with world() as here:
            assert (await here.refused("eyJ" + "." * 40_000))["message"].startswith("The token has 40,003 bytes")

    run(story())


# ----------------------------------------------------------------------------------------------------- keys come and go


def test_a_new_key_is_fetched_once_an_old_one_that_is_gone_counts_no_more() -> None:
    async def story() -> None:
        server = KeyServer(EC)
        async with world(server=server) as here:
            old = mint(claims(), EC)
            assert (await here.call(old)).status == 200
            server.publish(EC2)
            new = mint(claims(jti="new"), EC2)
            assert (await here.refused(new))["code"] == "unknown_key", "asked a moment ago"
            here.now_s += 31
            answers = await asyncio.gather(*(here.call(new) for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
            assert server.asked == 2
            assert (await here.refused(old))["code"] == "unknown_key", "remembered, but its key was taken back"
            assert (await here.refused(mint(claims(jti="x"), EC)))["code"] == "unknown_key"
            assert server.asked == 2

    run(story())


def test_old_keys_are_looked_for_again_and_last_while_nothing_newer_can_be_had() -> None:
    async def story() -> None:
        server = KeyServer(EC)
        async with world(server=server) as here:
            token = mint(claims(), EC)
            assert (await here.call(token)).status == 200
            server.answer = b"HTTP/1.1 500 Sorry\r\ncontent-length: 0\r\n\r\n"
            here.now_s += 601
            assert (await here.call(token)).status == 200
            await until(lambda: server.asked >= 2)
            here.now_s += 86_400
            error = await here.refused(token, 503)
            assert error["code"] == "issuer_unavailable"
            server.publish(EC)
            here.now_s += 31
            assert (await here.call(token)).status == 200

    run(story())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        reply(b"<html>"),
        reply(b'{"keys":{}}'),
        reply(b"[" * 100_000),
        reply(b'{"keys":[' + b" " * 300_000 + b"]}"),
        b"what?\r\n\r\n",
    ],
)
def test_what_is_no_key_set_changes_nothing(answer: bytes) -> None:
    async def story() -> None:
        server = KeyServer(EC)
        async with world(server=server) as here:
            server.answer = answer
            assert (await here.refused(mint(claims(), EC), 503))["code"] == "issuer_unavailable"

    run(story())


def test_keys_that_take_too_long_are_given_up() -> None:
    async def story() -> None:
        server = KeyServer(EC)
        server.open.clear()
        async with world(server=server, fetching=FetchOptions(timeout_s=0.1)) as here:
            assert (await here.refused(mint(claims(), EC), 503))["code"] == "issuer_unavailable"
            server.open.set()

    run(story())


def test_keys_that_are_not_for_signatures_are_no_keys() -> None:
    async def story() -> None:
        secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
        rows = json.loads(tokens.key_set(EC2, use="enc"))["keys"]
        rows += [{"kty": "oct", "k": secret, "kid": "oct-1"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "tiny"}]
        rows += [{"kty": "EC"}, 7, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off"}]
        rows += json.loads(tokens.key_set(EC))["keys"]
        server = KeyServer(EC)
        server.answer = reply(json.dumps({"keys": rows}).encode())
        trust = {"algorithms": ALGORITHMS | {"HS256"}}  # settings refuse this; the keys do too
        async with world(server=server, trust=trust) as here:
            assert (await here.refused(mint(claims(), EC2)))["code"] == "unknown_key"
            assert (await here.refused(tokens.by_secret(claims(), b"s" * 32, kid="oct-1")))["code"] == "unknown_key"
            assert (await here.call(mint(claims(), EC))).status == 200

    run(story())


def test_a_written_key_is_for_tokens_of_any_kid() -> None:
    async def story() -> None:
        pem = RSA.as_pem(private=False).decode()
        async with world(lambda _world, _port: WrittenKeys(read_public_key(pem))) as here:
            assert (await here.call(mint(claims(), RSA, "RS256"))).status == 200
            assert (await here.call(mint(claims(), RSA, "RS256", kid=None))).status == 200
            assert (await here.refused(mint(claims(), EC)))["code"] == "unknown_key"
            assert (await here.refused(raw_hmac(claims(), pem.encode())))["code"] == "invalid_token"

    run(story())


def test_a_shared_secret_is_for_hmac_alone_and_long() -> None:
    async def story() -> None:
        secret = "a secret of the operator and the application"
        trust = {"algorithms": frozenset(("HS256",))}
        async with world(lambda _world, _port: WrittenKeys(shared_secret(secret, ["HS256"])), trust=trust) as here:
            assert (await here.call(tokens.by_secret(claims(), secret.encode()))).status == 200
            assert (await here.refused(tokens.by_secret(claims(), b"x" * 32)))["code"] == "invalid_token"
            assert (await here.refused(mint(claims(), EC)))["code"] == "invalid_token"

    run(story())
    with pytest.raises(ValueError, match="has 5 bytes; these algorithms need 32"):
        shared_secret("short", ["HS256"])
    with pytest.raises(ValueError, match="private key"):
        read_public_key(EC.as_pem(private=True).decode())
    with pytest.raises(ValueError, match="not the PEM"):
        read_public_key("hello")


# -------------------------------------------------------------------------------- as Auth0, Clerk and Auth.js make them


def test_auth0() -> None:
    """An access token for an API of one's own: the issuer ends in a slash, `aud` lists the API and /userinfo, `azp` is
    the application, and claims of one's own have URLs for names.
    """

    async def story() -> None:
        signer = tokens.key("RSA", "Zk9mM0dXc1RfQ2x1YjE")
        rules = ClaimRules(plan_claim="https://app.example/plan", default_plan="free", user_prefix="auth0:")
        trust = {"issuer": "https://dev-x1.eu.auth0.com/", "audiences": frozenset(("https://llm.example",))}
        async with world(server=KeyServer(signer), rules=rules, trust=trust) as here:
            token = {
                "https://app.example/plan": "premium",
                "iss": "https://dev-x1.eu.auth0.com/",
                "sub": "auth0|64f0c2a9be1d4b0012ab34cd",
                "aud": ["https://llm.example", "https://dev-x1.eu.auth0.com/userinfo"],
                "iat": NOW_S,
                "exp": NOW_S + 86_400,
                "azp": "h7Jk2mQ9sXw1",
                "scope": "openid profile email",
            }
            assert (await here.call(mint(token, signer, "RS256"))).status == 200
            made = here.made[0]
            assert (made.user_id, made.plan_id) == ("auth0:auth0|64f0c2a9be1d4b0012ab34cd", "premium")
            userinfo = {**token, "aud": "https://dev-x1.eu.auth0.com/userinfo"}
            assert (await here.refused(mint(userinfo, signer, "RS256")))["code"] == "invalid_token"

    run(story())


def test_clerk() -> None:
    """A session token: no `aud` at all, `azp` is the page's origin, it lives a minute, and its head has a `cat`."""

    async def story() -> None:
        signer = tokens.key("RSA", "ins_2ZkTq0L0aXbS6f")
        rules = ClaimRules(plan_claim="metadata.plan", plans={"pro": "premium"}, default_plan="free")
        trust = {
            "issuer": "https://clerk.app.example",
            "audiences": frozenset(),
            "parties": frozenset(("https://app.example",)),
        }
        async with world(server=KeyServer(signer), rules=rules, trust=trust) as here:
            token = {
                "azp": "https://app.example",
                "exp": NOW_S + 60,
                "fva": [3, -1],
                "iat": NOW_S,
                "iss": "https://clerk.app.example",
                "metadata": {"plan": "pro"},
                "nbf": NOW_S - 10,
                "sid": "sess_2ZkUcM",
                "sts": "active",
                "sub": "user_2ZkUbQ",
                "v": 2,
            }
            assert (await here.call(mint(token, signer, "RS256", cat="cl_B7d4PD111AAA"))).status == 200
            assert (here.made[0].user_id, here.made[0].plan_id) == ("user_2ZkUbQ", "premium")
            for azp in ("https://evil.example", None):
                foreign = {name: value for name, value in {**token, "azp": azp}.items() if value is not None}
                assert (await here.refused(mint(foreign, signer, "RS256")))["code"] == "invalid_token"

    run(story())


def test_auth_js() -> None:
    """Its own cookie is encrypted and refused in words; the recipe signs a short token with a shared secret instead."""

    async def story() -> None:
        secret = "the secret that the Next.js server and the gateway share"
        rules = ClaimRules(user_claim="email", plan_claim="plan", default_plan="free")
        trust = {"issuer": "https://app.example", "algorithms": frozenset(("HS256",))}
        async with world(lambda *_: WrittenKeys(shared_secret(secret, ["HS256"])), rules=rules, trust=trust) as here:
            cookie = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoieCJ9..qM3x9Yb1sVfQ2cBw.b2s.c3RhZw"
            assert "encrypted (JWE), as Auth.js" in (await here.refused(cookie))["message"]
            token = claims("1", iss="https://app.example", email="Alice@App.example", plan="premium", exp=NOW_S + 60)
            assert (await here.call(tokens.by_secret(token, secret.encode()))).status == 200
            assert (here.made[0].user_id, here.made[0].plan_id) == ("Alice@App.example", "premium")

    run(story())

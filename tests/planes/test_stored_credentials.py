"""Stored credentials over the management API: who may, what is told, and that no secret ever comes out."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import select

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import HOSTS, MASTER_KEY, SECRET, START_NS, Desk, Providers, open_desk, settled
from tollhouse.client import AsyncClient, NotFound
from tollhouse.client import credentials as client
from tollhouse.client.credentials import MyCredentials
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.credential_terms import CredentialOptions, ProviderWord
from tollhouse.controlplane.credential_tests import scrubbed
from tollhouse.controlplane.storing import fingerprint
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.storage import credentials as stored
from tollhouse.storage.database import Database
from tollhouse.storage.ledger import SqlLedger
from tollhouse.storage.schema import metadata
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import SettleKind
from tollhouse.terms.people import Role
from tollhouse.vault import Binding, Vault

MINE = "/api/v1/me/credentials"
ALL = "/api/v1/credentials"
FIRST = "sk-ant-api03-first-secret-0123456789-WXYZ"
SECOND = "sk-ant-api03-other-secret-9876543210-KLMN"
ANN = Caller(Role.MEMBER, "ann")
BOB = Caller(Role.MEMBER, "bob")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what is refused: nothing comes to be stored in it."""
    yield from people(tmp_path_factory.mktemp("untouched"))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Desk]:
    """On SQLite alone: what the database has no part in."""
    yield from people(tmp_path)


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    yield from people(location)


def people(place: Path | str) -> Iterator[Desk]:
    opened = open_desk(place)
    for user_id in ("ann", "bob"):
        opened.make("/api/v1/users", user_id=user_id)
    yield opened
    opened.deps.database.close()


def store(desk: Desk, secret: str = FIRST, provider: str = "anthropic", caller: Caller = ANN, **more: Any) -> Any:
    answer = desk.ask("PUT", f"{MINE}/{provider}", {"secret": secret, **more}, caller=caller)
    assert answer.status_code == 200, answer.text
    return answer.json()


def row(desk: Desk, credential_id: str) -> Any:
    found = desk.deps.database.run_sync(lambda connection: stored.get_credential(connection, credential_id))
    assert found is not None
    return found


def opened(desk: Desk, credential_id: str) -> str:
    one = row(desk, credential_id)
    binding = Binding(one.org_id, one.credential_id, one.provider, one.host)
    return desk.deps.vault.unseal(one.sealed, binding).decode()


def test_one_stores_looks_replaces_and_removes(desk: Desk) -> None:
    told = store(desk, f"  {FIRST}\n", name="mine")
    assert told == {
        "credential_id": told["credential_id"],
        "provider": "anthropic",
        "user_id": "ann",
        "name": "mine",
        "host": HOSTS["anthropic"],
        "base_url": None,
        "kind": "anthropic_api",
        "hint": "WXYZ",
        "fingerprint": fingerprint(SECRET, FIRST),
        "stored_by": "ann",
        "stored_at": told["stored_at"],
        "last_used_at": None,
        "refused_at": None,
    }
    assert opened(desk, told["credential_id"]) == FIRST
    assert desk.plane.image.credentials[0].sealed == row(desk, told["credential_id"]).sealed  # effective already
    listed = desk.get(MINE, caller=ANN)
    assert listed == {"items": [told], "assigned": [], "providers": ["anthropic", "openai"], "can_store": True}
    again = store(desk, SECOND)
    assert (again["credential_id"], again["name"], again["hint"]) == (told["credential_id"], "mine", "KLMN")
    assert opened(desk, told["credential_id"]) == SECOND
    assert desk.ask("DELETE", f"{MINE}/anthropic", caller=ANN).status_code == 204
    assert desk.get(MINE, caller=ANN)["items"] == []
    assert desk.plane.image.credentials == ()
    desk.problem(404, "DELETE", f"{MINE}/anthropic", caller=ANN)


def test_a_key_may_look_but_not_store(quick: Desk) -> None:
    key = quick.make("/api/v1/keys", user_id="ann")["key"]
    told = store(quick)
    assert quick.get(MINE, bearer=key)["items"] == [told]
    for method, path, body in (
        ("PUT", f"{MINE}/anthropic", {"secret": SECOND}),
        ("DELETE", f"{MINE}/anthropic", None),
        ("POST", f"{MINE}/anthropic/test", None),
        ("GET", ALL, None),
        ("GET", f"{ALL}/{told['credential_id']}", None),
    ):
        assert quick.problem(403, method, path, body, bearer=key)["code"] == "owner_only"
    assert quick.problem(400, "PUT", f"{MINE}/anthropic", {"secret": SECOND})["code"] == "session_only"


def test_a_session_stores_only_from_a_page_of_ours(quick: Desk) -> None:
    browser = Browser(quick)
    invited = quick.make("/api/v1/invitations", email="carl@example.org")
    browser.done("POST", "/api/v1/invitations/accept", {"token": invited["token"], "password": GOOD})
    body = {"secret": FIRST}
    assert browser.problem(403, "PUT", f"{MINE}/anthropic", body, headers={"origin": "https://evil.example"})
    assert browser.problem(403, "PUT", f"{MINE}/anthropic", body, headers={"x-csrf-token": "x"})
    assert browser.done("PUT", f"{MINE}/anthropic", body)["hint"] == "WXYZ"


@pytest.mark.parametrize(
    ("secret", "code", "words"),
    [
        ("sk-ant-oat01-abcdefgh", "not_an_api_key", "subscription"),
        ("Bearer sk-ant-ort01-abcdefgh", "not_an_api_key", "subscription"),
        ("sessionKey=sk-ant-sid01-abcdefgh", "not_an_api_key", "subscription"),
        ("sk-ant-admin01-abcdefgh", "not_an_api_key", "admin"),
        ("   ", "not_an_api_key", "empty"),
        ("sk-ant-api03-a\r\nx-evil: 1", "invalid_request", "header"),
        ("sk-ant-api03-é", "invalid_request", "header"),
        ("sk-ant-api03-" + "x" * 5_000, "invalid_request", "bytes"),
    ],
)
def test_what_is_no_api_key_is_refused_with_the_way_out_and_not_repeated(
    untouched: Desk, secret: str, code: str, words: str
) -> None:
    problem = untouched.problem(400, "PUT", f"{MINE}/anthropic", {"secret": secret}, caller=ANN)
    assert (problem["code"], problem["field"]) == (code, "secret")
    assert words in problem["detail"]
    assert "abcdefgh" not in str(problem)
    assert "x-evil" not in str(problem)
    assert untouched.get(MINE, caller=ANN)["items"] == []


@pytest.mark.parametrize(("provider", "secret"), [("openai", FIRST), ("anthropic", "sk-proj-first-secret-0123456789")])
def test_no_vendor_is_told_anothers_key(untouched: Desk, provider: str, secret: str) -> None:
    problem = untouched.problem(400, "PUT", f"{MINE}/{provider}", {"secret": secret}, caller=ANN)
    assert problem["code"] == "another_providers_key"
    assert "Store it for the provider it is of" in problem["detail"]
    assert "first-secret" not in problem["detail"]


def test_a_body_that_is_wrong_does_not_come_back(untouched: Desk) -> None:
    for body in ({"secret": [FIRST]}, {"secret": FIRST, "more": FIRST}, {"secret": FIRST, "name": FIRST * 9}):
        answer = untouched.ask("PUT", f"{MINE}/anthropic", body, caller=ANN)
        assert answer.status_code == 400
        assert "first-secret" not in answer.text


def test_nothing_is_stored_without_a_master_key(untouched: Desk) -> None:
    bare = untouched.with_deps(vault=Vault())
    problem = bare.problem(409, "PUT", f"{MINE}/anthropic", {"secret": FIRST}, caller=ANN)
    assert problem["code"] == "no_master_key"
    assert "tollhouse vault init" in problem["detail"]
    assert bare.problem(409, "POST", ALL, {"provider": "anthropic", "secret": FIRST})["code"] == "no_master_key"
    assert bare.get(MINE, caller=ANN)["can_store"] is False
    assert untouched.get(ALL)["items"] == []


def test_a_provider_must_be_there_and_take_credentials(untouched: Desk) -> None:
    for name in ("nobody", "local"):
        assert untouched.problem(404, "PUT", f"{MINE}/{name}", {"secret": FIRST}, caller=ANN)["code"] == "not_found"
        assert untouched.problem(400, "POST", ALL, {"provider": name, "secret": FIRST})["field"] == "provider"


def test_an_endpoint_of_ones_own_is_refused_unless_allowed(untouched: Desk) -> None:
    body = {"secret": FIRST, "base_url": "https://llm.example"}
    assert untouched.problem(403, "PUT", f"{MINE}/anthropic", body, caller=ANN)["code"] == "own_base_url"


OWN = "https://LLM.example:8443/v1/"


def test_an_endpoint_of_ones_own_binds_the_secret_to_it(quick: Desk) -> None:
    asked: list[tuple[str, ...]] = []

    async def ask(*what: str) -> ProviderWord:
        asked.append(what)
        return ProviderWord(200, "", 1.0)

    allowing = quick.with_deps(credentials=CredentialOptions(own_base_urls=True), ask_provider=ask)
    told = store(allowing, base_url=OWN)
    assert (told["base_url"], told["host"]) == ("https://llm.example:8443/v1", "https://llm.example:8443")
    assert opened(quick, told["credential_id"]) == FIRST
    assert allowing.make_as(ANN, f"{MINE}/anthropic/test")["ok"] is True
    assert asked == [("user ann", "anthropic", told["host"], FIRST, told["base_url"])]
    path = f"{ALL}/{told['credential_id']}/secret"
    again = allowing.ask("PUT", path, {"secret": SECOND}).json()
    assert (again["base_url"], again["host"]) == (told["base_url"], told["host"])
    assert opened(quick, told["credential_id"]) == SECOND
    back = store(allowing)  # without one: at the provider again
    assert (back["base_url"], back["host"]) == (None, HOSTS["anthropic"])
    assert opened(quick, told["credential_id"]) == FIRST


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://llm.example", "https://"),
        ("https://user:secret-word@llm.example", "names a user"),
        ("https://llm.example?key=secret-word", "query"),
        ("https://127.0.0.1/v1", "this machine itself"),
        ("https://[::1]", "this machine itself"),
        ("https://169.254.169.254", "of a cloud's metadata"),
        ("https://10.0.0.5", "of a private network"),
        ("https://0x7f.1", "odd spelling"),
        ("https://chatgpt.com/backend-api/codex", "site for people"),
    ],
)
def test_what_is_no_endpoint_is_not_stored(untouched: Desk, url: str, says: str) -> None:
    allowing = untouched.with_deps(credentials=CredentialOptions(own_base_urls=True))
    body = {"secret": FIRST, "base_url": url}
    problem = allowing.problem(400, "PUT", f"{MINE}/anthropic", body, caller=ANN)
    assert (problem["code"], problem["field"]) == ("bad_base_url", "base_url")
    assert says in problem["detail"]
    assert "secret-word" not in problem["detail"]
    assert untouched.get(MINE, caller=ANN)["items"] == []


def test_networks_may_be_allowed_and_operators_write_theirs_elsewhere(quick: Desk) -> None:
    rules = AddressRules(read_networks(["10.0.0.0/24"]))
    allowing = quick.with_deps(credentials=CredentialOptions(own_base_urls=True, addresses=rules))
    assert store(allowing, base_url="https://10.0.0.5")["host"] == "https://10.0.0.5:443"
    body = {"provider": "openai", "secret": "sk-proj-0123456789", "base_url": "https://llm.example"}
    assert allowing.problem(400, "POST", ALL, body)["field"] == "base_url"
    assert allowing.ask("POST", ALL, body | {"user_id": "ann"}).json()["base_url"] == "https://llm.example"


def test_one_stores_so_many_and_no_more(quick: Desk) -> None:
    narrow = quick.with_deps(credentials=CredentialOptions(per_user=1))
    store(narrow)
    store(narrow, SECOND)
    problem = narrow.problem(409, "PUT", f"{MINE}/openai", {"secret": "sk-proj-0123456789"}, caller=ANN)
    assert problem["code"] == "too_many_credentials"
    answer = narrow.problem(409, "POST", ALL, {"provider": "openai", "secret": "sk-proj-01", "user_id": "ann"})
    assert answer["code"] == "too_many_credentials"


def test_others_credentials_are_not_there(desk: Desk) -> None:
    path = f"{ALL}/{store(desk)['credential_id']}"
    for method, tail, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("PUT", "/secret", {"secret": SECOND}),
        ("POST", "/test", None),
        ("DELETE", "", None),
    ):
        assert desk.problem(404, method, path + tail, body, caller=BOB)["code"] == "not_found"
    assert desk.get(ALL, caller=BOB)["items"] == desk.get(f"{ALL}?user=ann", caller=BOB)["items"] == []
    desk.problem(403, "POST", ALL, {"provider": "anthropic", "secret": FIRST}, caller=BOB)  # the operator's
    body = {"provider": "anthropic", "secret": FIRST, "user_id": "ann"}
    desk.problem(404, "POST", ALL, body, caller=BOB)
    assert desk.get(ALL, caller=ANN)["items"] == desk.get(ALL)["items"]


def test_the_operator_stores_assigns_and_takes_back(desk: Desk) -> None:
    made = desk.make(ALL, provider="anthropic", secret=FIRST, name="pool")
    assert made["credential_id"].startswith("cred_")
    assert made["user_id"] is None
    taken = desk.problem(409, "POST", ALL, {"provider": "anthropic", "secret": FIRST, "name": "other"})
    assert taken["code"] == "same_secret"
    assert desk.problem(409, "POST", ALL, {"provider": "openai", "secret": "sk-x", "name": "pool"})["field"] == "name"
    path, body = "/api/v1/users/ann/credentials/anthropic", {"credential_id": made["credential_id"]}
    assert desk.ask("PUT", path, body).json() == {"user_id": "ann", "provider": "anthropic", **body}
    assert desk.plane.image.assigned == (("ann", made["credential_id"]),)
    assert desk.get(f"{ALL}/{made['credential_id']}")["assigned_to"] == ["ann"]
    assert desk.get(MINE, caller=ANN)["assigned"] == ["anthropic"]
    desk.problem(404, "GET", f"{ALL}/{made['credential_id']}", caller=ANN)  # given to, not theirs
    desk.problem(403, "PUT", path, body, caller=ANN)
    desk.problem(404, "PUT", "/api/v1/users/nobody/credentials/anthropic", body)
    desk.problem(400, "PUT", "/api/v1/users/ann/credentials/openai", body)
    own = store(desk, SECOND)
    desk.problem(400, "PUT", path, {"credential_id": own["credential_id"]})
    assert desk.ask("DELETE", path).status_code == 204
    desk.problem(404, "DELETE", path)
    desk.ask("PUT", path, body)
    assert desk.ask("DELETE", f"{ALL}/{made['credential_id']}").status_code == 204
    assert desk.plane.image.assigned == ()


def test_the_operator_stores_for_a_user_once(desk: Desk) -> None:
    body = {"provider": "anthropic", "secret": FIRST, "user_id": "ann"}
    made = desk.make(ALL, **body)
    assert made["credential_id"].startswith("own_")
    assert desk.problem(409, "POST", ALL, {**body, "secret": SECOND})["code"] == "credential_exists"
    desk.problem(404, "POST", ALL, {**body, "user_id": "nobody"})
    replaced = desk.ask("PUT", f"{ALL}/{made['credential_id']}/secret", {"secret": SECOND})
    assert replaced.json()["hint"] == "KLMN"
    assert desk.get(MINE, caller=ANN)["items"][0]["hint"] == "KLMN"


def test_an_edit_meets_the_version_that_was_read(quick: Desk) -> None:
    made = quick.make(ALL, provider="anthropic", secret=FIRST, name="pool")
    path = f"{ALL}/{made['credential_id']}"
    tag = quick.ask("GET", path).headers["etag"]
    used = {made["credential_id"]: START_NS}
    quick.deps.database.run_sync(lambda connection: stored.note_used(connection, used))
    assert quick.ask("PATCH", path, {"name": "b"}, headers={"if-match": tag}).status_code == 200  # use is no edit
    assert quick.ask("PUT", f"{path}/secret", {"secret": SECOND}, headers={"if-match": tag}).status_code == 412
    assert quick.ask("DELETE", path, headers={"if-match": tag}).status_code == 412


def test_it_is_bound_to_where_its_provider_was(quick: Desk) -> None:
    told = store(quick)
    moved = Providers()
    moved.hosts["anthropic"] = "https://elsewhere.example:443"
    elsewhere = quick.with_deps(providers=moved)
    problem = elsewhere.problem(409, "POST", f"{MINE}/anthropic/test", caller=ANN)
    assert problem["code"] == "provider_moved"
    assert "https://elsewhere.example:443" in problem["detail"]
    assert store(elsewhere)["host"] == "https://elsewhere.example:443"  # stored again, it is meant for there
    assert elsewhere.ask("POST", f"{MINE}/anthropic/test", caller=ANN).status_code == 200
    assert opened(quick, told["credential_id"]) == FIRST


def test_a_test_shows_the_providers_words_without_the_secret(quick: Desk) -> None:
    asked: list[tuple[str, ...]] = []
    word = ProviderWord(401, f"Incorrect API key provided: {FIRST}. \x1b[31mFind {FIRST[:20]} …\n" + "x" * 900, 12.5)

    async def ask(*what: str) -> ProviderWord:
        asked.append(what)
        return word

    scripted = quick.with_deps(ask_provider=ask)
    told = store(scripted)
    found = scripted.make_as(ANN, f"{MINE}/anthropic/test")
    assert asked == [("user ann", "anthropic", HOSTS["anthropic"], FIRST, "")]
    assert (found["ok"], found["status"], found["host"]) == (False, 401, HOSTS["anthropic"])
    assert found["message"].startswith("Incorrect API key provided: …")
    assert len(found["message"]) <= 500
    assert "\x1b" not in found["message"]
    assert "first-secret" not in found["message"]
    assert quick.get(MINE, caller=ANN)["items"][0]["refused_at"] is not None
    word = ProviderWord(200, "", 3.0)
    assert scripted.make_as(ANN, f"{MINE}/anthropic/test")["ok"] is True
    assert quick.get(MINE, caller=ANN)["items"][0] == told
    word = ProviderWord(0, "It could not be asked: connection refused", 3.0)
    assert scripted.make_as(ANN, f"{MINE}/anthropic/test")["ok"] is False
    assert quick.get(MINE, caller=ANN)["items"][0]["refused_at"] is None  # nobody refused it


def test_who_tests_too_often_is_told_when_to_come_back(quick: Desk) -> None:
    async def too_often(*_what: str) -> ProviderWord:
        raise Refusal(429, "rate_limited", "Too often.", retry_after_s=7)

    store(quick)
    answer = quick.with_deps(ask_provider=too_often).ask("POST", f"{MINE}/anthropic/test", caller=ANN)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    unserved = quick.with_deps(ask_provider=None).problem(503, "POST", f"{MINE}/anthropic/test", caller=ANN)
    assert unserved["code"] == "no_server"


@pytest.mark.parametrize("words", [FIRST, f"key {FIRST[:-4]}****", f"…{FIRST[4:]}", FIRST + FIRST])
def test_no_part_of_a_secret_is_passed_on(words: str) -> None:
    assert "first-secret" not in scrubbed(words, FIRST)


def test_a_secret_stands_nowhere_but_in_its_envelope(desk: Desk, tmp_path: Path) -> None:
    """In no answer, header, replayed answer, and in no column of any table."""
    key = {"idempotency-key": "0f9d6a1c-once"}
    told = [desk.ask("POST", ALL, {"provider": "anthropic", "secret": FIRST, "name": "pool"}, headers=key)]
    again = desk.ask("POST", ALL, {"provider": "anthropic", "secret": FIRST, "name": "pool"}, headers=key)
    assert again.headers["idempotency-replayed"] == "true"
    path = f"{ALL}/{told[0].json()['credential_id']}"
    told += [
        again,
        desk.ask("PUT", f"{path}/secret", {"secret": SECOND}),
        desk.ask("PUT", f"{MINE}/openai", {"secret": "sk-proj-third-secret-0123456789"}, caller=ANN),
        desk.ask("GET", path),
        desk.ask("GET", ALL),
        desk.ask("POST", f"{path}/test"),
        desk.ask("GET", "/api/v1/status"),
    ]
    told_text = "".join(answer.text + repr(answer.headers) for answer in told)
    dump = dumped(desk.deps.database)
    assert "sealed" in dump
    assert "pool" in dump
    for part in ("first-secret", "other-secret", "third-secret"):
        assert part not in told_text
        assert part not in dump
    if desk.deps.database.facts["kind"] == "SQLite":
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or b"-secret-0" not in file.read_bytes()


def dumped(database: Database) -> str:
    def query(connection: Any) -> str:
        return repr(
            {
                table.name: [row._asdict() for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
            }
        )

    return database.run_sync(query)


def test_use_is_noted_once_a_minute_and_never_set_back(desk: Desk) -> None:
    told = store(desk)
    key = desk.make("/api/v1/keys", user_id="ann")
    ledger = SqlLedger(desk.deps.database)

    def used_at(at_ns: int, *, kind: SettleKind = SettleKind.EXACT) -> int | None:
        call = settled(f"req_{at_ns}_{kind}", key, at_ns=at_ns, kind=kind)
        hold = msgspec.structs.replace(call.hold, credential_id=told["credential_id"])
        asyncio.run(ledger.ship([msgspec.structs.replace(call, hold=hold)], ()))
        at: int | None = row(desk, told["credential_id"]).last_used_at_ns
        return at

    second = 10**9
    assert used_at(START_NS, kind=SettleKind.VOIDED) is None  # nothing was sent
    assert used_at(START_NS) == START_NS
    assert used_at(START_NS + 59 * second) == START_NS
    assert used_at(START_NS + 60 * second) == START_NS + 60 * second
    fresh = SqlLedger(desk.deps.database)  # after a start, what a crash left is shipped late
    ledger = fresh
    assert used_at(START_NS + second) == START_NS + 60 * second
    assert asyncio.run(fresh.ship([settled("req_shared", key)], ())) is None


def test_the_client_has_a_verb_for_each(quick: Desk) -> None:
    async def story() -> None:
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(quick.api),
            base_url="http://tollhouse:4000",
            headers={"authorization": f"Bearer {MASTER_KEY}"},
        )
        async with AsyncClient("http://tollhouse:4000", http=http) as ask, http:
            storing = client.create("anthropic", FIRST, name="pool")
            assert FIRST not in repr(storing)
            pool = await ask(storing)
            assert [one async for one in ask.all(client.find(managed=True))] == [pool]
            assert (await ask(client.rename(pool.credential_id, "spare"))).name == "spare"
            assert (await ask(client.replace(pool.credential_id, SECOND))).hint == SECOND[-4:]
            assert (await ask(client.test(pool.credential_id))).ok
            assert (await ask(client.assign("ann", "anthropic", pool.credential_id))).user_id == "ann"
            assert (await ask(client.get(pool.credential_id))).assigned_to == ("ann",)
            await ask(client.unassign("ann", "anthropic"))
            await ask(client.remove(pool.credential_id))
            with pytest.raises(NotFound):
                await ask(client.get(pool.credential_id))

    asyncio.run(story())
    key = quick.make("/api/v1/keys", user_id="ann")["key"]
    store(quick)

    async def mine() -> MyCredentials:
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(quick.api),
            base_url="http://tollhouse:4000",
            headers={"authorization": f"Bearer {key}"},
        )
        async with AsyncClient("http://tollhouse:4000", http=http) as ask, http:
            return await ask(client.mine())

    found = asyncio.run(mine())
    assert ([one.provider for one in found.items], found.can_store) == (["anthropic"], True)

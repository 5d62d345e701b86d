"""Every route that may change something, played once so that it does: a small world in which each finds its thing.

A route without a play here fails the tests that go by this table.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import Desk
from tests.planes.test_sign_in_pages import fill_in, hidden, post
from tollhouse.app.notices import HooksAtRest
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.sign_in.inviting import first_owner
from tollhouse.settings import Settings
from tollhouse.terms.people import Role
from tollhouse.vault import MasterKeys, Vault

CANARY = "canary-7f3e9b"
"""Stands in every secret that is handed in: it must come out nowhere."""
PASSWORD = f"{CANARY} wardrobe plinth"
BOSS = Caller(Role.OWNER, "boss")
API = "/api/v1"
OWN = f"sk-ant-api03-{CANARY}-0123456789-WXYZ"
HOOK = "https://hooks.example.org/services/canary-7f3e9b-path"
WHSEC = "whsec_Y2FuYXJ5LTdmM2U5YmNhbmFyeS03ZjNlOWI="
"""The canary in Base64."""


@dataclass
class World:
    desk: Desk
    secrets: set[str] = field(default_factory=lambda: {CANARY, PASSWORD, GOOD, WHSEC, "Y2FuYXJ5LTdmM2U5YmNhbmFye"})
    made: int = 0
    """Credentials: no two have one secret."""

    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> httpx.Response:
        """As the owner Boss."""
        return self.desk.ask(method, f"{API}{path}", body, bearer=None, caller=BOSS, **how)

    def make(self, path: str, **body: Any) -> Any:
        answer = self.ask("POST", path, body)
        assert answer.status_code in (200, 201), answer.text
        made = answer.json()
        self.secrets |= {made[name] for name in ("key", "token", "secret", "link") if made.get(name)}
        return made

    def litellm(self, path: str, **fields: Any) -> httpx.Response:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = self.desk.ask("POST", path, headers=headers, content=json.dumps(fields))
        said = answer.json()
        if isinstance(said, dict) and str(said.get("key", "")).startswith("sk-"):  # else its id
            self.secrets.add(said["key"])
        return answer

    def browser(self, email: str = "", password: str = PASSWORD) -> Browser:
        """Somebody's, signed in."""
        browser = Browser(self.desk)
        if email:
            browser.sign_in(email, password)
            self.secrets |= {browser.token, browser.csrf}
        return browser

    def key(self, name: str) -> str:
        made = self.make("/keys", user_id="ann", name=name)
        return str(made["key_id"])

    def webhook(self) -> str:
        return str(self.make("/webhooks", url=HOOK, secret=WHSEC)["webhook_id"])

    def credential(self) -> str:
        self.made += 1
        made = self.make("/credentials", provider="anthropic", secret=f"{OWN}{self.made}", name=f"n{self.made}")
        return str(made["credential_id"])

    def link(self, **body: Any) -> str:
        return str(self.make("/invitations", **body)["token"])

    def session(self, email: str) -> str:
        self.browser(email)
        rows = self.ask("GET", "/sessions").json()["items"]
        return str(rows[0]["session_id"])

    def owner_link(self) -> str:
        keeper = self.desk.deps.doorkeeper
        assert keeper is not None
        for owner in self.ask("GET", "/users?role=owner").json()["items"]:
            if owner["email"]:  # with one who can sign in there is no such link
                self.ask("POST", f"/users/{owner['user_id']}/block")
        token = asyncio.run(first_owner(keeper))
        assert token is not None
        self.secrets.add(token)
        return token


def world_of(desk: Desk) -> World:
    hooks = HooksAtRest(Settings(), Vault(MasterKeys({1: b"m" * 32})))
    world = World(desk.with_deps(hooks=hooks))
    world.make("/users", user_id="boss", role="owner")
    world.make("/plans", plan_id="free")
    world.make("/teams", team_id="red")
    for name in ("ann", "bob"):
        world.make("/users", user_id=name, email=f"{name}@example.org")
    Browser(world.desk).sign_up("mia@example.org", PASSWORD)
    return world


def _signed(method: str, path: str, body: Any = None) -> Callable[[World], httpx.Response]:
    """Mia does it, signed in."""
    return lambda world: world.browser("mia@example.org").ask(method, f"{API}{path}", body)


def _typed(path: str, **fields: str) -> Callable[[World], httpx.Response]:
    """Somebody who is not signed in."""
    return lambda world: world.browser().ask("POST", f"{API}{path}", fields)


def _accept(world: World) -> httpx.Response:
    fields = {"token": world.link(email="carl@example.org"), "password": PASSWORD}
    return world.browser().ask("POST", f"{API}/invitations/accept", fields)


def _sign_out_page(world: World) -> httpx.Response:
    browser = world.browser("mia@example.org")
    return post(browser, "/sign-out", hidden(browser.ask("GET", "/sign-in")))


def _set_up(world: World) -> httpx.Response:
    fields = {"token": world.owner_link(), "email": "first@example.org", "password": PASSWORD}
    return world.browser().ask("POST", f"{API}/setup", fields)


def _change_password(world: World) -> httpx.Response:
    world.secrets.add(f"another {PASSWORD}")
    changed = world.browser("mia@example.org").ask(
        "POST", f"{API}/password", {"current_password": PASSWORD, "new_password": f"another {PASSWORD}"}
    )
    back = Browser(world.desk)
    back.sign_in("mia@example.org", f"another {PASSWORD}")
    back.done("POST", f"{API}/password", {"current_password": f"another {PASSWORD}", "new_password": PASSWORD})
    return changed


def _own_credential(world: World) -> httpx.Response:
    return _signed("PUT", "/me/credentials/anthropic", {"secret": OWN})(world)


def _made(path: str, **body: Any) -> Callable[[World], httpx.Response]:
    return lambda world: world.ask("POST", path, body)


def _budget(world: World, amount: str) -> str:
    return str(world.make("/budgets", scope="user", scope_id="bob", amount=amount)["budget_id"])


def _declare(world: World) -> httpx.Response:
    resources = {
        "plans": [{"plan_id": "declared"}],
        "users": [{"user_id": "dora", "metadata": {"seat": 7}}],
        "keys": [{"name": "ci", "user_id": "dora", "budgets": ["5/day"]}],
        "providers": [
            {"name": "gw", "kind": "openai", "base_url": f"https://llm.example/{CANARY}", "models": ["own-*"]}
        ],
    }
    answer = world.ask("POST", "/declarations", {"owner": "it.yaml", "resources": resources})
    world.secrets |= {key["key"] for key in answer.json().get("keys", ())}
    return answer


def _rewrap(world: World) -> httpx.Response:
    world.credential()
    vault = world.desk.deps.vault
    vault.keys = MasterKeys({version: vault.keys[version] for version in vault.keys.versions} | {9: b"n" * 32})
    return world.ask("POST", "/vault/rewrap", {})


def _assign(world: World) -> httpx.Response:
    body = {"credential_id": world.credential()}
    return world.ask("PUT", "/users/ann/credentials/anthropic", body)


def _litellm_key(path: str, name: str = "key", **more: Any) -> Callable[[World], httpx.Response]:
    def play(world: World) -> httpx.Response:
        made = world.litellm("/key/generate", user_id="ann", key_alias=path).json()["key"]
        return world.litellm(path, **{name: [made] if name == "keys" else made}, **more)

    return play


def _unblock(world: World) -> httpx.Response:
    key = world.litellm("/key/generate", user_id="ann").json()["key"]
    world.litellm("/key/block", key=key)
    return world.litellm("/key/unblock", key=key)


def _resume(world: World) -> httpx.Response:
    key_id = world.key("f")
    world.ask("POST", f"/keys/{key_id}/pause", {})
    return world.ask("POST", f"/keys/{key_id}/resume")


def _erase(world: World) -> httpx.Response:
    world.make("/users", user_id="erika-the-erased", email="erika@example.org", name="Erika E", metadata={"x": "erika"})
    world.make("/keys", user_id="erika-the-erased", name="erika's laptop", budget="5/day")
    world.make("/invitations", user_id="erika-the-erased")
    world.secrets |= {"erika-the-erased", "erika@example.org", "Erika E", "erika's laptop"}
    return world.ask("POST", "/users/erika-the-erased/erase")


PLAYS: dict[tuple[str, str], Callable[[World], httpx.Response]] = {
    ("POST", "/api/v1/sign-in"): _typed("/sign-in", email="mia@example.org", password=PASSWORD),
    ("POST", "/api/v1/sign-up"): _typed("/sign-up", email="new@example.org", password=PASSWORD),
    ("POST", "/api/v1/sign-out"): _signed("POST", "/sign-out"),
    ("POST", "/api/v1/password"): _change_password,
    ("POST", "/api/v1/setup"): _set_up,
    ("POST", "/setup/{token}"): lambda world: fill_in(
        world.browser(), f"/setup/{world.owner_link()}", email="second@example.org", password=PASSWORD
    ),
    ("POST", "/api/v1/invitations"): _made("/invitations", email="dan@example.org"),
    ("DELETE", "/api/v1/invitations/{invitation_id}"): lambda world: world.ask(
        "DELETE", f"/invitations/{world.make('/invitations')['invitation_id']}"
    ),
    ("POST", "/api/v1/invitations/accept"): _accept,
    ("POST", "/sign-in"): lambda world: fill_in(
        world.browser(), "/sign-in", email="mia@example.org", password=PASSWORD
    ),
    ("POST", "/sign-up"): lambda world: fill_in(
        world.browser(), "/sign-up", email="page@example.org", password=PASSWORD
    ),
    ("POST", "/sign-out"): _sign_out_page,
    ("POST", "/invitation/{token}"): lambda world: fill_in(
        world.browser(), f"/invitation/{world.link(email='eva@example.org')}", password=PASSWORD
    ),
    ("DELETE", "/api/v1/sessions"): lambda world: world.browser("mia@example.org").ask("DELETE", f"{API}/sessions"),
    ("DELETE", "/api/v1/sessions/{session_id}"): lambda world: world.ask(
        "DELETE", f"/sessions/{world.session('mia@example.org')}"
    ),
    ("PUT", "/api/v1/me/credentials/{provider}"): _own_credential,
    ("POST", "/api/v1/me/credentials/{provider}/test"): _signed("POST", "/me/credentials/anthropic/test"),
    ("DELETE", "/api/v1/me/credentials/{provider}"): _signed("DELETE", "/me/credentials/anthropic"),
    ("POST", "/api/v1/credentials"): _made("/credentials", provider="openai", secret=f"sk-proj-{CANARY}0123456789"),
    ("PATCH", "/api/v1/credentials/{credential_id}"): lambda world: world.ask(
        "PATCH", f"/credentials/{world.credential()}", {"name": "other"}
    ),
    ("PUT", "/api/v1/credentials/{credential_id}/secret"): lambda world: world.ask(
        "PUT", f"/credentials/{world.credential()}/secret", {"secret": f"{OWN}-new"}
    ),
    ("POST", "/api/v1/credentials/{credential_id}/test"): lambda world: world.ask(
        "POST", f"/credentials/{world.credential()}/test"
    ),
    ("DELETE", "/api/v1/credentials/{credential_id}"): lambda world: world.ask(
        "DELETE", f"/credentials/{world.credential()}"
    ),
    ("POST", "/api/v1/vault/reload"): _made("/vault/reload"),
    ("POST", "/api/v1/vault/rewrap"): _rewrap,
    ("POST", "/api/v1/declarations"): _declare,
    ("POST", "/api/v1/keys"): _made("/keys", user_id="ann", name="laptop", budget="5/day"),
    ("POST", "/api/v1/keys/mint"): _made("/keys/mint", user_id="ann"),
    ("PATCH", "/api/v1/keys/{key_id}"): lambda world: world.ask("PATCH", f"/keys/{world.key('a')}", {"name": "b"}),
    ("DELETE", "/api/v1/keys/{key_id}"): lambda world: world.ask("DELETE", f"/keys/{world.key('c')}"),
    ("POST", "/api/v1/keys/{key_id}/rotate"): lambda world: world.ask(
        "POST", f"/keys/{world.key('d')}/rotate", {"grace": "1h"}
    ),
    ("POST", "/api/v1/keys/{key_id}/pause"): lambda world: world.ask(
        "POST", f"/keys/{world.key('e')}/pause", {"reason": "too loud"}
    ),
    ("POST", "/api/v1/keys/{key_id}/resume"): _resume,
    ("POST", "/api/v1/providers/{name}/refresh"): _made("/providers/anthropic/refresh"),
    ("POST", "/api/v1/budgets"): _made("/budgets", scope="organisation", amount="500/month"),
    ("PATCH", "/api/v1/budgets/{budget_id}"): lambda world: world.ask(
        "PATCH", f"/budgets/{_budget(world, '7/day')}", {"amount": "8"}
    ),
    ("DELETE", "/api/v1/budgets/{budget_id}"): lambda world: world.ask(
        "DELETE", f"/budgets/{_budget(world, '9/week')}"
    ),
    ("POST", "/api/v1/users"): _made("/users", user_id="new", email="n@example.org", metadata={"a": 1}),
    ("POST", "/api/v1/users/{user_id:path}/block"): _made("/users/bob/block"),
    ("POST", "/api/v1/users/{user_id:path}/unblock"): _made("/users/bob/unblock"),
    ("POST", "/api/v1/users/{user_id:path}/erase"): _erase,
    ("PATCH", "/api/v1/users/{user_id:path}"): lambda world: world.ask("PATCH", "/users/bob", {"name": "Bob"}),
    ("PUT", "/api/v1/users/{user_id:path}/credentials/{provider}"): _assign,
    ("DELETE", "/api/v1/users/{user_id:path}/credentials/{provider}"): lambda world: world.ask(
        "DELETE", "/users/ann/credentials/anthropic"
    ),
    ("POST", "/api/v1/teams"): _made("/teams", team_id="blue", metadata={"b": 2}, budget="100/month"),
    ("PATCH", "/api/v1/teams/{team_id}"): lambda world: world.ask("PATCH", "/teams/red", {"name": "Red"}),
    ("POST", "/api/v1/teams/{team_id}/block"): _made("/teams/red/block"),
    ("POST", "/api/v1/teams/{team_id}/unblock"): _made("/teams/red/unblock"),
    ("PUT", "/api/v1/teams/{team_id}/members/{user_id:path}"): lambda world: world.ask(
        "PUT", "/teams/red/members/ann", {"role": "admin"}
    ),
    ("DELETE", "/api/v1/teams/{team_id}/members/{user_id:path}"): lambda world: world.ask(
        "DELETE", "/teams/red/members/ann"
    ),
    ("POST", "/api/v1/plans"): _made("/plans", plan_id="gold", budgets=["1M tokens/month"]),
    ("PATCH", "/api/v1/plans/{plan_id}"): lambda world: world.ask("PATCH", "/plans/gold", {"description": "more"}),
    ("DELETE", "/api/v1/plans/{plan_id}"): lambda world: world.ask("DELETE", "/plans/gold"),
    ("POST", "/api/v1/webhooks"): _made("/webhooks", url=HOOK, secret=WHSEC, kinds=["budget.*"]),
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): lambda world: world.ask(
        "PATCH", f"/webhooks/{world.webhook()}", {"name": "other", "url": f"{HOOK}/2"}
    ),
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): lambda world: world.ask("DELETE", f"/webhooks/{world.webhook()}"),
    ("POST", "/api/v1/webhooks/{webhook_id}/test"): lambda world: world.ask(
        "POST", f"/webhooks/{world.webhook()}/test"
    ),
    ("POST", "/key/generate"): lambda world: world.litellm("/key/generate", user_id="lite", max_budget=5),
    ("POST", "/key/update"): _litellm_key("/key/update", max_budget=7),
    ("POST", "/key/delete"): _litellm_key("/key/delete", "keys"),
    ("POST", "/key/block"): _litellm_key("/key/block"),
    ("POST", "/key/unblock"): _unblock,
    ("POST", "/user/new"): lambda world: world.litellm("/user/new", user_id="lite2", user_email="l@example.org"),
    ("POST", "/team/new"): lambda world: world.litellm("/team/new", team_id="green", team_alias="Green"),
}
"""Method and path as in `permissions.PERMISSIONS`; later ones may stand on what earlier ones made."""

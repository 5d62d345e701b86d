"""Provider rows from settings and environment: what is listed, which credential is read, what is refused at load."""

import asyncio
from pathlib import Path

import pytest

from tollhouse.app import providers
from tollhouse.app.fleet import Fleet
from tollhouse.app.key_sources import open_keyring
from tollhouse.app.store import Store
from tollhouse.settings import Settings
from tollhouse.settings.sections import ProviderSettings
from tollhouse.terms.providers import ProviderRow


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def failure(row: ProviderSettings, settings: Settings | None = None) -> str:
    """Why a gateway with this row does not start; empty when it does."""

    async def hold() -> str:
        keyring = open_keyring(settings or Settings(), lambda _: None)
        failures = await keyring.hold([providers.wanted(row)])
        await keyring.stop()
        return failures.get(row.name, "")

    return asyncio.run(hold())


def test_keys_of_the_environment_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert providers.provider_rows(Settings()) == ()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "x" * 40)
    (row,) = providers.provider_rows(Settings())
    assert providers.wanted(row).reference == "env:ANTHROPIC_API_KEY"
    spec = providers.provider_spec(row)
    assert (spec.name, spec.kind) == ("anthropic", "anthropic")
    assert "claude-sonnet-4-5" in spec.advertised
    assert not any("*" in name or name.startswith("gpt") for name in spec.advertised)


def test_rows_list_what_they_state_and_what_their_globs_admit() -> None:
    row = ProviderSettings(name="a", kind="anthropic", base_url="http://127.0.0.1:1", models=("mine", "claude-opus-*"))
    listed = providers.listed_models(row)
    assert listed[0] == "mine"
    assert all(name.startswith("claude-opus-") for name in listed[1:])
    assert len(listed) > 1


@pytest.mark.parametrize("token", ["sk-ant-oat01-abc", "sk-ant-ort01-abc", "sk-ant-sid01-abc", "sk-ant-admin01-abc"])
def test_what_is_no_api_key_is_refused_at_load(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", token)
    said = failure(providers.provider_rows(Settings())[0])
    assert "providers.anthropic.api_key" in said
    assert token not in said


def test_a_vault_needs_a_token_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable will not come; the file of an agent may."""
    row = ProviderSettings(name="o", kind="openai", models=("gpt-*",), api_key="vault:kv/a#b")
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    assert "providers.o.api_key: the environment variable VAULT_TOKEN is not set" in failure(row)
    monkeypatch.setenv("VAULT_ADDR", "http://vault.example")
    assert "would send the token in clear text" in failure(row)
    server = {"address": "http://127.0.0.1:9", "token": f"file:{tmp_path}/token"}
    assert failure(row, Settings(key_sources={"hashicorp": server})) == ""


def test_a_missing_key_names_its_variable() -> None:
    row = ProviderSettings(name="o", kind="openai", models=("gpt-*",))
    assert "OPENAI_API_KEY is not set" in failure(row)


def test_only_local_leaves_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "x" * 40)
    settings = Settings(only_local=True)
    assert providers.provider_rows(settings) == ()


@pytest.mark.parametrize(
    ("variable", "proxied"),
    [("https_proxy", True), ("HTTPS_PROXY", True), ("all_proxy", True), ("http_proxy", False)],
)
def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str, proxied: bool) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://user:word@proxy.example:3128")
    proxy = providers.proxy_for("https", "api.anthropic.com")
    assert (proxy is not None) is proxied
    if proxy is not None:
        assert (proxy.host, proxy.port, proxy.authorization) == ("proxy.example", 3128, b"Basic dXNlcjp3b3Jk")
    assert providers.proxy_for("https", "127.0.0.1") is None
    monkeypatch.setenv("no_proxy", "api.anthropic.com")
    assert providers.proxy_for("https", "api.anthropic.com") is None


@pytest.mark.parametrize(
    ("reference", "listed", "allowed"),
    [
        ("env:SOME_KEY", None, True),
        ("env:SOME_KEY", "env:OTHER_*", False),
        ("file:/nowhere/key", None, False),  # it cannot be read
        ("cmd:touch ran", None, False),
        ("cmd:touch ran", "*", False),
        ("vault:kv/a#b", None, False),
        ("vault:kv/a#b", "vault:kv/*", True),
        ("stored:main", None, True),
        ("env:TOLLHOUSE_MASTER_KEY", "*", False),
        ("env:SIGN_IN_SECRET", "*", False),
        ("env:VAULT_TOKEN", "*", False),
        ("file:{}/theirs/key", "file:{}/theirs/*", True),
        ("file:{}/theirs/../operators-key", "file:{}/theirs/*", False),
        ("file:{}/operators-key", "file:{}/theirs/*", False),
        ("file:{}/master-keys-elsewhere", "*", False),
        ("file:{}/theirs/link-to-master-keys", "*", False),
        ("file:{}/home/server-secret", "*", False),
        ("file:{}/master-key", "*", False),
        ("sk-ant-api03-a-key-itself", "*", False),
    ],
)
def test_what_a_row_of_the_database_may_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reference: str, listed: str | None, allowed: bool
) -> None:
    """Whoever wrote it there: a helper is never run for it, whatever the settings list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_KEY", "sk-ant-api03-" + "x" * 40)
    for name in ("TOLLHOUSE_MASTER_KEY", "SIGN_IN_SECRET", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "sk-ant-api03-" + "x" * 40)
    monkeypatch.setenv("LITELLM_MASTER_KEY_FILE", f"{tmp_path}/master-key")
    for name in ("home/server-secret", "theirs/key", "operators-key", "master-keys-elsewhere", "master-key"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("sk-ant-api03-" + "x" * 40)
    (tmp_path / "theirs/link-to-master-keys").symlink_to(tmp_path / "master-keys-elsewhere")
    reference, listed = (None if text is None else text.replace("{}", str(tmp_path)) for text in (reference, listed))
    assert reference is not None
    upstream = {} if listed is None else {"declared_secrets": listed}
    sources = {"hashicorp": {"address": "http://127.0.0.1:9", "token": "file:/nowhere/token"}}
    sign_in = {
        "issuers": [{"name": "google", "preset": "google", "client_id": "x", "client_secret": "env:SIGN_IN_SECRET"}]
    }
    settings = Settings(
        home=tmp_path / "home",
        local={"enabled": False},
        upstream=upstream,
        key_sources=sources,
        sign_in=sign_in,
        vault={"master_keys": f"file:{tmp_path}/master-keys-elsewhere"},
    )
    fleet = Fleet(settings, Store(settings), open_keyring(settings, lambda _: None))
    faults = fleet.faults([ProviderRow("x", "anthropic", ("*",), api_key=reference)])
    assert [fault[:2] for fault in faults] == ([] if allowed else [("x", "api_key")])
    assert "a-key-itself" not in str(faults)
    assert not (tmp_path / "ran").exists()

"""What the documents say must be so: settings that load, files that exist, commands that are there."""

import ast
import re
from importlib import import_module
from pathlib import Path

import yaml

from tollhouse import client
from tollhouse.cli import COMMANDS
from tollhouse.cli.declared_file import DeclaredFile
from tollhouse.controlplane.declared_fields import Resources
from tollhouse.controlplane.permissions import permission_of
from tollhouse.rules.secret_references import SCHEMES
from tollhouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_settings_of_the_readme_load() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    settings = Settings(**yaml.safe_load(block))
    assert [row.name for row in settings.providers] == ["anthropic", "openrouter"]
    assert settings.money.organisation_budgets == ("500/month",)


def test_the_settings_and_numbers_of_the_sign_in_guide_are_so() -> None:
    text = (ROOT / "docs" / "guide" / "sign-in.md").read_text("utf-8")
    loaded = [Settings(**yaml.safe_load(block)) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert [row.name for row in loaded[-1].sign_in.issuers] == ["acme", "google", "github"]
    usual = Settings().sign_in
    assert (usual.sign_up, usual.password.min_chars, usual.password.min_score) == ("closed", 12, 3)
    assert (usual.session.idle_s, usual.session.max_s) == (3_600, 12 * 3_600)
    assert (usual.account_lockout.free, usual.address_lockout.free) == (5, 30)
    assert (usual.account_lockout.first_s, usual.account_lockout.longest_s) == (30, 15 * 60)
    assert (usual.invitation_s, usual.setup_s) == (7 * 86_400, 86_400)


def test_the_settings_of_the_own_endpoints_page_load() -> None:
    text = (ROOT / "docs" / "guide" / "own-endpoints.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    vault = Settings(**yaml.safe_load(block)).vault
    usual = Settings().vault
    assert (vault.own_base_urls, usual.own_base_urls, usual.allowed_networks) == (True, False, ())
    assert vault.own_endpoint_connections == usual.own_endpoint_connections == 32


def test_the_settings_and_routes_of_the_guide_to_own_keys_are_so() -> None:
    text = (ROOT / "docs" / "guide" / "own-keys.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    told = Settings(**yaml.safe_load(block)).vault
    assert told == Settings().vault.model_copy(update={"master_keys": told.master_keys})
    for method, path in re.findall(r"^ +(GET|PUT|POST|DELETE) +(/api\S+)", text, re.MULTILINE):
        assert permission_of(method, path)
    verbs = {
        name: set(re.findall(rf"^    tollhouse {name} (\w+)", text, re.MULTILINE)) for name in ("vault", "credentials")
    }
    for name, found in verbs.items():
        known = {one.name for one in import_module(f"tollhouse.cli.{name}").app.registered_commands}
        assert found
        assert found <= known


def test_the_settings_and_sources_of_the_key_guide_are_so() -> None:
    text = (ROOT / "docs" / "guide" / "key-sources.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown, usual = Settings(**yaml.safe_load(block)), Settings().key_sources
    assert [row.name for row in shown.providers] == ["anthropic", "openai", "spare"]
    theirs = {"command", "hashicorp"}  # helpers' variables and the server are the operator's to say
    assert shown.key_sources.model_dump(exclude=theirs) == usual.model_dump(exclude=theirs)
    assert shown.key_sources.command.model_copy(update={"environment": usual.command.environment}) == usual.command
    assert shown.key_sources.hashicorp.ttl_s == usual.hashicorp.ttl_s
    assert re.findall(r"^\| `(\w+:[^`]+)` \|", text, re.MULTILINE) == [scheme.form for scheme in SCHEMES.values()]
    settings_only = [line.split("`")[1] for line in text.splitlines() if line.endswith("| settings only |")]
    assert settings_only == [scheme.form for scheme in SCHEMES.values() if not scheme.declared]
    globs = tuple(f"{name}:*" for name in ("env", "file", "stored"))
    assert Settings().upstream.declared_secrets == globs
    assert all(f"`{glob}`" in text for glob in globs)


def test_the_numbers_of_the_privacy_guide_are_so() -> None:
    usual = Settings()
    assert (usual.capture.max_days, usual.storage.keep_requests_days, usual.notices.keep_days) == (30, 90, 90)
    assert (usual.capture.max_request_bytes, usual.capture.max_answer_bytes) == (1 << 20, 1 << 20)
    assert (usual.management.idempotency_keep_s, usual.sign_in.session.max_s) == (86_400, 12 * 3_600)


def test_links_lead_somewhere() -> None:
    broken = [
        f"{document.name}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_commands_and_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        assert set(re.findall(r"`make ([a-z]+)", text)) <= targets, document.name
        assert set(re.findall(r"^tollhouse ([a-z]+)", text, re.MULTILINE)) <= COMMANDS.keys(), document.name


def test_rooms_of_the_architecture_exist() -> None:
    source = ROOT / "src" / "tollhouse"
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8")
    way = text[text.index("## The way of a call") : text.index("## Money")]
    words = {word.split(".")[0].split("/")[-1] for word in re.findall(r"`([a-z_./]+)`", way)}
    files = {path.stem for path in source.rglob("*.py")} | {path.name for path in source.iterdir()}
    assert words - files - {"tell", "settle"} == set()


def test_the_declared_file_of_its_page_is_one() -> None:
    text = (ROOT / "docs" / "guide" / "declared-files.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    rows = Resources.model_validate(DeclaredFile("page", block).tree)
    assert all(len(getattr(rows, noun)) for noun in Resources.model_fields)


def test_the_clients_page_names_what_is_there() -> None:
    text = (ROOT / "docs" / "guide" / "python-client.md").read_text("utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert {name.name for name in node.names} <= set(client.__all__)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                noun = getattr(client, node.value.id, None)
                assert noun is None or hasattr(noun, node.attr), f"{node.value.id}.{node.attr}"

"""`tollhouse import litellm`: what a configuration becomes, what is said of the rest, and never a key."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tollhouse.cli import main
from tollhouse.cli.from_litellm import convert
from tollhouse.controlplane.declared_fields import Resources

CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 480}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: sk-ant-api03-very-secret}
  - model_name: anthropic/*
    litellm_params: {model: anthropic/*, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt4o-eu, api_base: "https://x.openai.azure.com", api_key: os.environ/AZ}
  - model_name: own
    litellm_params: {model: openai/own-7b, api_base: "http://127.0.0.1:8000/v1", api_key: none,
                     input_cost_per_token: 0.0000005}
  - model_name: openrouter/meta-llama/llama-3-70b
    litellm_params: {model: openrouter/meta-llama/llama-3-70b}
  - model_name: claude-haiku-4-5
    litellm_params: {model: claude-haiku-4-5, timeout: 30}
  - model_name: hidden
    litellm_params: {model: openai/x, api_base: "https://user:secret-password@llm.example/v1"}
general_settings: {master_key: sk-very-secret-1234, database_url: "postgresql://u:secret-password@h/db"}
litellm_settings:
  max_budget: 100
  budget_duration: 30d
  drop_params: true
  callbacks: [otel]
  default_internal_user_params: {max_budget: 0.5, budget_duration: 1d, user_role: internal_user, rpm_limit: 7}
router_settings: {model_group_alias: {gpt-4: gpt-4o}, routing_strategy: usage-based-routing-v2}
environment_variables: {LANGFUSE_SECRET: sk-lf-very-secret}
credential_list: [{credential_name: x, credential_values: {api_key: sk-very-secret}}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_what_it_becomes() -> None:
    found = convert(yaml.safe_load(CONFIG))
    Resources.model_validate(found.declared)  # as the server reads it
    assert found.declared["budgets"] == [{"scope": "organisation", "amount": "100/month"}]
    [plan] = found.declared["plans"]
    assert (plan["budgets"], plan["limits"]) == (["0.5/day"], {"requests_per_minute": 7})
    rows = {row["name"]: row for row in found.declared["providers"]}
    assert rows == {
        "openai": {"name": "openai", "kind": "openai", "api_key": "env:OPENAI_API_KEY", "models": ["gpt-4o"]},
        "anthropic": {
            "name": "anthropic",
            "kind": "anthropic",
            "api_key": "env:ANTHROPIC_API_KEY",
            "models": ["claude-sonnet-4-5", "claude-*", "claude-haiku-4-5"],
        },
        "openai-2": {
            "name": "openai-2",
            "kind": "openai",
            "base_url": "http://127.0.0.1:8000/v1",
            "models": ["own-7b"],
        },
        "openrouter": {
            "name": "openrouter",
            "kind": "openai",
            "base_url": "https://openrouter.ai/api/v1",
            "api_key": "env:OPENROUTER_API_KEY",
            "models": ["meta-llama/llama-3-70b"],
        },
    }


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("model_list[0] (gpt-4o)", "rpm limits a deployment"),
        ("model_list[1] (claude)", "variable ANTHROPIC_API_KEY"),
        ("model_list[1] (claude)", "ask for claude-sonnet-4-5 instead of claude"),
        ("model_list[3] (gpt-4o)", "no kind of provider for azure"),
        ("model_list[4] (own)", 'prices: {"own-7b": {input_usd_per_mtok: "0.5"}}'),
        ("model_list[7] (hidden)", "holds a password"),
        ("general_settings.master_key", "TOLLHOUSE_MASTER_KEY"),
        ("general_settings.database_url", "make them anew"),
        ("litellm_settings.callbacks", "nothing is sent elsewhere"),
        ("litellm_settings.default_internal_user_params", "litellm-default"),
        ("router_settings.model_group_alias", "ask for gpt-4o instead of gpt-4"),
        ("router_settings.routing_strategy", "the first provider"),
        ("environment_variables", "LANGFUSE_SECRET"),
        ("credential_list", "no counterpart"),
    ],
)
def test_what_is_not_taken_over_is_said(place: str, said: str) -> None:
    notes = convert(yaml.safe_load(CONFIG)).notes
    assert any(note.startswith(f"{place}: ") and said in note for note in notes), notes


def test_no_secret_leaves_the_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("--json",)):
        assert main(("import", "litellm", str(config), *more)) == 0
        printed = capsys.readouterr()
        assert "secret" not in (printed.out + printed.err).replace("LANGFUSE_SECRET", "")
    assert json.loads(printed.out)["declared"]["providers"]


def test_what_is_printed_is_a_file_to_apply(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("import", "litellm", str(config))) == 0
    printed = capsys.readouterr()
    Resources.model_validate(yaml.safe_load(printed.out))
    assert "Not taken over" in printed.err


def test_it_can_be_applied_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("TOLLHOUSE_URL", "TOLLHOUSE_CONFIG", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOCK_KEY", "a-key")
    path = tmp_path / "litellm.yaml"
    path.write_text(
        textwrap.dedent("""
            model_list:
              - {model_name: own, litellm_params: {model: openai/own, api_base: "http://127.0.0.1:1/v1",
                                                   api_key: os.environ/MOCK_KEY}}
            litellm_settings: {max_budget: 3}
        """)
    )

    def typed(*words: str) -> Any:
        assert main(("import", "litellm", str(path), "--apply", "--yes", "--json", *words)) == 0
        return json.loads(capsys.readouterr().out)

    assert typed()["summary"]["create"] == 2
    assert typed()["summary"]["unchanged"] == 2
    monkeypatch.delenv("MOCK_KEY")
    path.write_text(path.read_text().replace("openai/own", "openai/other"))
    assert main(("import", "litellm", str(path), "--apply", "--yes")) == 2
    assert "MOCK_KEY is not set" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["users: []", "model_list: {}", "", "general_settings: [", "- a"])
def test_what_is_no_configuration_of_litellms(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    assert main(("import", "litellm", str(path))) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    "entry",
    [
        *(None, 1, "x", [], {}, {"model_name": "a"}, {"model_name": "a", "litellm_params": {}}),
        {"model_name": 1, "litellm_params": {"model": "x"}},
        {"model_name": "a", "litellm_params": {"model": "hosted_vllm/x"}},
        {"model_name": "a", "litellm_params": {"model": "openai/x", "api_base": "os.environ/BASE"}},
        {"model_name": "a", "litellm_params": {"model": "bedrock/anthropic.claude"}},
    ],
)
def test_a_model_that_cannot_be_read_is_named(entry: Any) -> None:
    found = convert({"model_list": [entry]})
    assert found.declared == {}
    assert found.notes[0].startswith("model_list[0]")

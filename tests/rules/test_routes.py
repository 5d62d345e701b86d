"""Which provider a model goes to: prefix, then order and dialect; refusals that say what to do."""

import pytest

from tollhouse.rules.routes import MAX_LISTED, MAX_MODEL_CHARS, Resolved, RouteRow, resolve
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName

ANTHROPIC, CHAT = DialectName.ANTHROPIC, DialectName.OPENAI_CHAT
ROWS = (
    RouteRow("anthropic", ("claude-*",), (ANTHROPIC,)),
    RouteRow("openai", ("gpt-5", "o3*"), (CHAT,)),
    RouteRow("local", ("smollm2", "claude-local"), (ANTHROPIC, CHAT)),
    RouteRow("both", ("claude-*",), (CHAT,)),
    RouteRow("groq", ("openai/gpt-oss-*", "vendor/*"), (CHAT,)),
)


@pytest.mark.parametrize(
    ("model", "dialect", "provider", "upstream_model"),
    [
        ("claude-opus-5", ANTHROPIC, "anthropic", "claude-opus-5"),
        ("claude-opus-5", CHAT, "both", "claude-opus-5"),
        ("claude-local", ANTHROPIC, "anthropic", "claude-local"),
        ("local/claude-local", ANTHROPIC, "local", "claude-local"),
        ("local/not-in-its-patterns", CHAT, "local", "not-in-its-patterns"),
        ("smollm2", ANTHROPIC, "local", "smollm2"),
        ("gpt-5-2025-08-07", CHAT, "openai", "gpt-5-2025-08-07"),
        ("openai/gpt-oss-20b", CHAT, "openai", "gpt-oss-20b"),
        ("groq/openai/gpt-oss-20b", CHAT, "groq", "openai/gpt-oss-20b"),
        ("vendor/m", CHAT, "groq", "vendor/m"),
    ],
)
def test_resolved(model: str, dialect: DialectName, provider: str, upstream_model: str) -> None:
    assert resolve(ROWS, model, dialect) == Resolved(provider, upstream_model)


@pytest.mark.parametrize("model", ["gpt-5", "openai/gpt-5"])
def test_another_dialect_is_named_with_its_endpoint(model: str) -> None:
    with pytest.raises(Refusal) as caught:
        resolve(ROWS, model, ANTHROPIC)
    assert (caught.value.status, caught.value.code) == (400, "wrong_dialect")
    assert "/v1/chat/completions" in caught.value.message
    assert caught.value.details["endpoints"] == ["/v1/chat/completions"]


def test_vectors_are_not_offered_instead_of_an_answer() -> None:
    spoken = (CHAT, DialectName.OPENAI_RESPONSES, DialectName.OPENAI_EMBEDDINGS)
    with pytest.raises(Refusal) as caught:
        resolve((RouteRow("openai", ("gpt-*",), spoken),), "gpt-5", ANTHROPIC)
    assert caught.value.details["endpoints"] == ["/v1/chat/completions", "/v1/responses"]


@pytest.mark.parametrize("model", ["", "llama", "local/", "/smollm2", "unknown/claude-opus-5", "GPT-5"])
def test_an_unknown_model_is_told_what_there_is(model: str) -> None:
    with pytest.raises(Refusal) as caught:
        resolve(ROWS, model, CHAT)
    assert (caught.value.status, caught.value.code) == (400, "unknown_model")
    assert "anthropic/claude-*" in caught.value.message
    assert "local/smollm2" in caught.value.details["available"]


def test_the_list_is_bounded() -> None:
    rows = (RouteRow("many", tuple(f"model-{number}" for number in range(1000)), (CHAT,)),)
    with pytest.raises(Refusal) as caught:
        resolve(rows, "other", CHAT)
    assert len(caught.value.details["available"]) == MAX_LISTED
    assert f"and {1000 - MAX_LISTED} more" in caught.value.message


def test_an_endless_name_is_not_repeated() -> None:
    with pytest.raises(Refusal, match=f"at most {MAX_MODEL_CHARS}") as caught:
        resolve(ROWS, "x" * 100_000, CHAT)
    assert len(caught.value.message) < 200


def test_without_providers_the_refusal_says_so() -> None:
    with pytest.raises(Refusal, match="no provider is configured"):
        resolve((), "claude-opus-5", ANTHROPIC)


def test_a_prefix_takes_the_row_of_that_provider_that_speaks_the_dialect() -> None:
    rows = (RouteRow("p", ("a",), (ANTHROPIC,)), RouteRow("p", ("b",), (CHAT,)))
    assert resolve(rows, "p/x", CHAT) == Resolved("p", "x")

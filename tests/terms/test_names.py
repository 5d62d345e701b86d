"""The closed sets of words are stored and sent: their spelling is a contract."""

from tollhouse.terms.names import DEFAULT_ORG, DialectName, Endpoint, ScopeKind
from tollhouse.terms.people import BudgetEdge, BudgetUnit, BudgetWindow


def test_the_words_that_are_stored() -> None:
    assert DEFAULT_ORG == "default"
    assert list(ScopeKind) == ["organisation", "team", "user", "key"]
    assert list(DialectName) == ["anthropic", "openai_chat", "openai_responses", "openai_embeddings", "page"]
    assert list(BudgetUnit) == ["usd", "tokens", "requests"]
    assert list(BudgetWindow) == ["total", "5h", "hour", "day", "week", "month"]
    assert list(BudgetEdge) == ["clamp", "refuse"]


def test_every_endpoint_has_a_word_of_its_own() -> None:
    assert len(set(Endpoint)) == len(Endpoint)
    assert all(word == word.lower() for word in Endpoint)

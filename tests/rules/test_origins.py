"""Which requests are of our own pages, and which paths stay here."""

import pytest

from tollhouse.rules.origins import is_local_path, is_same_origin, own_origins

OWN = own_origins("http", "LLM.example:4000", "https://llm.example")


@pytest.mark.parametrize(
    ("origin", "site", "same"),
    [
        ("http://llm.example:4000", None, True),
        ("https://llm.example", None, True),
        ("https://LLM.example", "cross-site", True),
        ("http://llm.example", None, False),
        ("https://llm.example.evil.example", None, False),
        ("https://evil.example", "same-origin", False),
        ("null", None, False),
        ("", "same-origin", False),
        (None, "same-origin", True),
        (None, "same-site", False),
        (None, "cross-site", False),
        (None, "none", False),
        (None, None, None),
    ],
)
def test_same_origin(origin: str | None, site: str | None, same: bool | None) -> None:
    assert is_same_origin(origin, site, OWN) is same


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("/", True),
        ("/chat?a=//b#c", True),
        ("/ü", True),
        ("", False),
        ("chat", False),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("\\/evil.example", False),
        ("/\t/evil.example", False),
        ("/\n/evil.example", False),
        (" //evil.example", False),
        ("https://evil.example", False),
        ("https:evil.example", False),
        ("javascript:alert(1)", False),
    ],
)
def test_a_path_that_stays_here(path: str, stays: bool) -> None:
    assert is_local_path(path) is stays

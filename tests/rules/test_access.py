"""Which names an entry admits: itself, globs, snapshots, with and without a prefix; never another family."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.access import admits, matches


@pytest.mark.parametrize(
    ("pattern", "model"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5@20250929"),
        ("gpt-5", "gpt-5-2025-08-07"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-latest"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-latest"),
        ("claude-*", "claude-opus-5-5"),
        ("claude-*-4-5", "claude-haiku-4-5-20251001"),
        ("gpt-?", "gpt-5"),
        ("gpt-?", "gpt-5-2025-08-07"),
        ("*", "anything/at:all"),
        ("claude-opus-5", "anthropic/claude-opus-5"),
        ("claude-opus-*", "anthropic/claude-opus-5-20260801"),
        ("anthropic/*", "anthropic/claude-opus-5"),
        ("anthropic/claude-opus-5", "anthropic/claude-opus-5-20260801"),
        ("a[b]c+", "a[b]c+"),
    ],
)
def test_admitted(pattern: str, model: str) -> None:
    assert admits((pattern,), model)


@pytest.mark.parametrize(
    ("pattern", "model"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5-fast"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-fast-20250929"),
        ("claude-sonnet-4", "claude-sonnet-4-5"),
        ("claude-sonnet-4", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5", "claude-sonnet-4"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20251101"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("gpt-5", "gpt-5-mini"),
        ("gpt-5", "gpt-5-mini-2025-08-07"),
        ("gpt-5", "gpt-5.1"),
        ("gpt-4", "gpt-4-0613"),
        ("llama3-8b", "llama3-8b-8192"),
        ("gpt-5", "gpt-5-20251301"),
        ("gpt-5", "gpt-5-2025-08-07-2025-08-07"),
        ("gpt-5", "gpt-5-20250807\n"),
        ("gpt-5", "gpt-5-20٢٥0807"),
        ("gpt-5", "GPT-5"),
        ("gpt.5", "gpt-5"),
        ("gpt-?", "gpt-"),
        ("a[b]c", "abc"),
        ("claude", "not-claude"),
        ("claude", "claude-x"),
        ("anthropic/claude-*", "claude-opus-5"),
        ("anthropic/claude-*", "bedrock/claude-opus-5"),
        ("claude-*", "a/b/claude-opus-5"),
        ("", "-20250929"),
        ("", "-latest"),
        ("claude-*", "anthropic/"),
    ],
)
def test_not_admitted(pattern: str, model: str) -> None:
    assert not admits((pattern,), model)


def test_none_admits_every_model_and_an_empty_list_none() -> None:
    assert admits(None, "any")
    assert not admits((), "any")
    assert admits(("no", "yes"), "yes")


def _glob(pattern: str, text: str) -> bool:
    """The definition, letter by letter."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_glob(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _glob(pattern[1:], text[1:])


@given(st.text("ab?*", max_size=7), st.text("ab\n", max_size=7))
def test_a_glob_means_what_its_definition_says(pattern: str, text: str) -> None:
    assert matches(pattern, text) == _glob(pattern, text)


@given(st.text(max_size=10), st.text(max_size=12))
def test_no_entry_and_no_name_is_an_error(pattern: str, model: str) -> None:
    admits((pattern,), model)


@given(
    st.from_regex(r"[a-z]{1,4}(-[0-9a-z]{1,4}){0,3}", fullmatch=True),
    st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True),
)
def test_nothing_but_a_date_or_latest_may_follow_a_name(name: str, rest: str) -> None:
    dated = re.fullmatch(r"-20\d\d(-?)(0[1-9]|1[0-2])\1(0[1-9]|[12]\d|3[01])|-latest", rest)
    latest = name.endswith("-latest")
    if not latest:
        assert matches(name, name + rest) == bool(dated)


def test_a_hostile_glob_takes_no_time() -> None:
    began = time.thread_time()
    assert not admits(("*a" * 100 + "b", "*?" * 100 + "b"), "a" * 250)
    assert time.thread_time() - began < 1

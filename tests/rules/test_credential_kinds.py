"""Logins of subscriptions are recognised however they are wrapped, and no message repeats a credential."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.credential_kinds import CredentialKind, classify, client_refusal, upstream_problem

SECRET = "tHiSiSmAdEuP"
KINDS = {
    "sk-ant-oat01-": CredentialKind.ANTHROPIC_OAUTH_ACCESS,
    "sk-ant-ort01-": CredentialKind.ANTHROPIC_OAUTH_REFRESH,
    "sk-ant-sid02-": CredentialKind.ANTHROPIC_SESSION,
    "sk-ant-api03-": CredentialKind.ANTHROPIC_API,
    "sk-ant-admin01-": CredentialKind.ANTHROPIC_ADMIN,
    "sk-ant-new01-": CredentialKind.UNKNOWN,
    "sk-": CredentialKind.OPENAI_API,
    "sk-proj-": CredentialKind.OPENAI_PROJECT,
    "sk-svcacct-": CredentialKind.OPENAI_SERVICE_ACCOUNT,
    "sk-admin-": CredentialKind.OPENAI_ADMIN,
    "sk-or-v1-": CredentialKind.UNKNOWN,
    "sk-th-": CredentialKind.TOLLHOUSE,
    "AIza": CredentialKind.UNKNOWN,
}
SUBSCRIPTIONS = ("sk-ant-oat01-", "sk-ant-ort01-", "sk-ant-sid02-")
UNFIT_UPSTREAM = (*SUBSCRIPTIONS, "sk-ant-admin01-", "sk-admin-", "sk-th-")


@pytest.mark.parametrize("prefix", KINDS)
@pytest.mark.parametrize("around", ["{}", "  {}\r\n", "Bearer {}", "bearer   {} ", "BEARER\t{}", '"{}"', "'Bearer {}'"])
def test_the_prefix_tells_the_kind(prefix: str, around: str) -> None:
    for text in (prefix + SECRET, (prefix + SECRET).upper()):
        assert classify(around.format(text)) is KINDS[prefix]


@given(st.text(max_size=8), st.sampled_from(SUBSCRIPTIONS), st.booleans(), st.text(max_size=8))
def test_a_subscription_login_counts_wherever_it_stands(before: str, mark: str, upper: bool, after: str) -> None:
    text = before + (mark.upper() if upper else mark) + after
    assert client_refusal(text) is not None
    assert upstream_problem(text) is not None


@pytest.mark.parametrize("prefix", KINDS)
def test_what_a_client_may_not_send(prefix: str) -> None:
    refusal = client_refusal(f"Bearer {prefix}{SECRET}")
    assert (refusal is not None) == (prefix in SUBSCRIPTIONS)
    if refusal is not None:
        assert (refusal.status, refusal.code, refusal.should_retry) == (401, "subscription_token", False)
        assert "sk-th-" in refusal.message
        assert SECRET.lower() not in f"{refusal.message} {refusal.scope} {refusal.details}".lower()


@pytest.mark.parametrize("prefix", KINDS)
def test_what_is_no_credential_for_a_provider(prefix: str) -> None:
    problem = upstream_problem(f" {prefix}{SECRET}\n")
    assert (problem is not None) == (prefix in UNFIT_UPSTREAM)
    assert SECRET not in (problem or "")


@pytest.mark.parametrize("text", ["", "  ", '""'])
def test_an_empty_credential_is_a_problem(text: str) -> None:
    assert "empty" in (upstream_problem(text) or "")


@given(st.text(max_size=30))
def test_any_text_has_a_kind(text: str) -> None:
    assert classify(text) in CredentialKind

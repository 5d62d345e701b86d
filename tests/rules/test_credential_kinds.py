"""Logins of subscriptions are recognised however they are wrapped, API keys are never refused, and no message repeats a
credential.
"""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.credential_kinds import CredentialKind, classify, client_refusal, upstream_problem
from tollhouse.rules.credential_rows import Use
from tollhouse.rules.credential_table import TABLE

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
    "sk-or-v1-": CredentialKind.OPENROUTER_API,
    "sk-th-": CredentialKind.TOLLHOUSE,
    "AIza": CredentialKind.GOOGLE_API,
    "AQ.Ab8": CredentialKind.GOOGLE_API,
    "ya29.a0": CredentialKind.GOOGLE_OAUTH_ACCESS,
    "xai-": CredentialKind.XAI_API,
    "gsk_": CredentialKind.GROQ_API,
    "tgp_v1_": CredentialKind.TOGETHER_API,
    "fw_": CredentialKind.FIREWORKS_API,
    "pplx-": CredentialKind.PERPLEXITY_API,
    "bedrock-api-key-": CredentialKind.BEDROCK_SESSION,
    "ghp_": CredentialKind.GITHUB_TOKEN,
    "github_pat_": CredentialKind.GITHUB_TOKEN,
    "ghs_": CredentialKind.GITHUB_TOKEN,
    "gho_": CredentialKind.GITHUB_LOGIN,
    "ghu_": CredentialKind.GITHUB_LOGIN,
    "ghr_": CredentialKind.GITHUB_LOGIN,
    "hf_": CredentialKind.HUGGINGFACE_API,
    "": CredentialKind.UNKNOWN,  # Mistral's keys, for one, have no form
}
ANTHROPIC = ("sk-ant-oat01-", "sk-ant-ort01-", "sk-ant-sid02-")
SUBSCRIPTIONS = (*ANTHROPIC, "gho_", "ghu_", "ghr_")
UNFIT_UPSTREAM = (*SUBSCRIPTIONS, "sk-ant-admin01-", "sk-admin-", "sk-th-")
WHOLE = {
    "1//0" + "gAbCdEfGh-" * 4: CredentialKind.GOOGLE_OAUTH_REFRESH,
    "ABSK" + "QmVkcm9ja0" * 11 + "==": CredentialKind.BEDROCK_API,
    "AKIA" + "ABCDEFGH23456777": CredentialKind.AWS_ACCESS_KEY,
    "ASIA" + "ABCDEFGH23456777": CredentialKind.AWS_ACCESS_KEY,
    "a1B2" * 13 + "JQQJ99" + "b" * 26: CredentialKind.AZURE_API,
    "tid=abc;exp=1790000000": CredentialKind.COPILOT_SESSION,
    "tid=a;ol=b;exp=1790000000;sku=pro;proxy-ep=proxy.individual.githubcopilot.com:9f": CredentialKind.COPILOT_SESSION,
    "sess-" + "a1B2c3D4" * 5: CredentialKind.OPENAI_SESSION,
    "__Secure-next-auth.session-token=eyJhbGciOi..x": CredentialKind.OPENAI_SESSION,
    "Cookie: a=b; __Secure-1PSID=g.a000": CredentialKind.GOOGLE_SESSION,
    "rt_" + "aB3" * 14 + "." + "cD4" * 14: CredentialKind.OPENAI_OAUTH_REFRESH,
}
NOT_QUITE = (
    "AKIA",
    "ASIAtic-model-key",
    "1//0short",
    "ABSKshort",
    "sess-ion",
    "tid=1",
    "rt_me.you",
    "eyJ",
    "eyJ.eyJ.eyJ",
)
CODEX: dict[str, Any] = {
    "iss": "https://auth.openai.com",
    "aud": ["https://api.openai.com/v1"],
    "https://api.openai.com/auth": {"chatgpt_plan_type": "plus", "chatgpt_account_id": "a"},
}
TOKENS: list[tuple[dict[str, Any], CredentialKind]] = [
    (CODEX, CredentialKind.OPENAI_OAUTH_ACCESS),
    (CODEX | {"iss": "https://auth0.openai.com/"}, CredentialKind.OPENAI_OAUTH_ACCESS),
    ({"iss": "https://auth.openai.com/", "scp": ["openid", "offline_access"]}, CredentialKind.OPENAI_OAUTH_ACCESS),
    ({"iss": "https://auth.openai.com", "scope": "model.request"}, CredentialKind.UNKNOWN),  # of a workload: no login
    ({"iss": "https://auth.x.ai", "scope": "openid grok-cli:access"}, CredentialKind.XAI_OAUTH_ACCESS),
    ({"iss": "https://auth.x.ai", "scope": 7, "scp": [[], None]}, CredentialKind.UNKNOWN),
    ({"iss": "https://sts.windows.net/tenant/"}, CredentialKind.AZURE_TOKEN),
    ({"iss": "https://id.example", "scope": "offline_access"}, CredentialKind.UNKNOWN),
    ({"iss": ["https://auth.openai.com"], "scope": "offline_access"}, CredentialKind.UNKNOWN),
]


def jwt(claims: Any) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2lnbmF0dXJl"])


@pytest.mark.parametrize("prefix", KINDS)
@pytest.mark.parametrize("around", ["{}", "  {}\r\n", "Bearer {}", "bearer   {} ", "BEARER\t{}", '"{}"', "'Bearer {}'"])
def test_the_prefix_tells_the_kind(prefix: str, around: str) -> None:
    for text in (prefix + SECRET, (prefix + SECRET).upper()):
        assert classify(around.format(text)) is KINDS[prefix]


@pytest.mark.parametrize("text", WHOLE)
def test_a_whole_form_tells_the_kind(text: str) -> None:
    assert classify(text) is WHOLE[text]
    assert classify(f" Bearer {text}\n") is WHOLE[text]


@pytest.mark.parametrize("text", NOT_QUITE)
def test_what_only_begins_like_one_is_none(text: str) -> None:
    assert classify(text) is CredentialKind.UNKNOWN


@pytest.mark.parametrize(("claims", "kind"), TOKENS)
def test_a_token_is_told_by_its_claims(claims: dict[str, Any], kind: CredentialKind) -> None:
    token = jwt(claims)
    assert classify(token) is kind
    assert classify(f'{{"access_token": "{token}"}}') is kind
    refused = kind in (CredentialKind.OPENAI_OAUTH_ACCESS, CredentialKind.XAI_OAUTH_ACCESS)
    assert (client_refusal(token) is not None) == (upstream_problem(token) is not None) == refused


def test_openai_permits_what_anthropic_forbids_and_we_relay_neither() -> None:
    refusal = client_refusal(jwt(CODEX))
    assert refusal is not None
    for said in (refusal.message, upstream_problem(jwt(CODEX)) or ""):
        assert "OpenAI permits what Anthropic forbids; we relay neither." in said
        assert jwt(CODEX)[:8] not in said
    assert "Codex" in refusal.message


@given(st.text(max_size=8), st.sampled_from(ANTHROPIC), st.booleans(), st.text(max_size=8))
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


def test_who_sends_a_login_of_claude_is_told_what_to_do_in_claude_code() -> None:
    refusal = client_refusal("sk-ant-oat01-x")
    assert refusal is not None
    assert refusal.message == (
        "This request carries the login of a Claude subscription, which is not accepted here and was not stored. "
        "Use a key of this gateway (it begins with sk-th-): in Claude Code set ANTHROPIC_AUTH_TOKEN to it "
        "and sign out with /logout."
    )


@pytest.mark.parametrize("prefix", KINDS)
def test_what_is_no_credential_for_a_provider(prefix: str) -> None:
    problem = upstream_problem(f" {prefix}{SECRET}\n")
    assert (problem is not None) == (prefix in UNFIT_UPSTREAM)
    assert SECRET not in (problem or "")


@pytest.mark.parametrize("text", WHOLE)
def test_only_what_the_table_refuses_is_refused(text: str) -> None:
    (use,) = (row.use for row in TABLE if row.kind is WHOLE[text])
    assert (upstream_problem(text) is not None) == (use is not Use.UPSTREAM)
    assert (client_refusal(text) is not None) == (use is Use.REFUSED)


@pytest.mark.parametrize("text", ["", "  ", '""'])
def test_an_empty_credential_is_a_problem(text: str) -> None:
    assert "empty" in (upstream_problem(text) or "")


@given(st.text(max_size=30) | st.text("eyJ.=;tidxp019 ", max_size=60))
def test_any_text_has_a_kind(text: str) -> None:
    assert classify(text) in CredentialKind


@pytest.mark.parametrize(
    "piece", ["eyJ", ".eyJ", "tid=;", "tid=;a=b;", "rt_a.", "1//0", "bearer ", "sk-an", "ABSK", "é"]
)
def test_no_text_takes_long(piece: str) -> None:
    """A head of 64 KiB of the worst: a second for what would take hours if it grew as the square."""
    assert classify(piece * (65_536 // len(piece))) in CredentialKind


def test_every_row_says_where_it_comes_from_and_ends_its_sentences() -> None:
    for row in TABLE:
        assert row.source
        assert not row.way_out or row.way_out.endswith(".")
        assert not row.instead or row.instead.endswith(".")
        assert row.what.startswith(("a ", "an ", "the "))  # goes on after "This is"

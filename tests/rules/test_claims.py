"""What claims say, read by rules: in their order, never more than they say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.claims import MAX_USER_ID_CHARS, Claimed, ClaimRules, claim, normal_email, read_claims
from tollhouse.terms.people import Role

MIA = {"sub": "mia", "email": "Mia@Acme.example", "email_verified": True, "name": " Mia\x00 Ł "}


def test_plain_claims() -> None:
    assert read_claims(MIA, ClaimRules(source="jwt:app")) == Claimed(
        "mia", "mia@acme.example", "Mia Ł", verified=True, source="jwt:app"
    )


def test_a_claim_is_found_by_its_name_or_its_path() -> None:
    claims = {"https://app.example/plan": "pro", "metadata": {"plan": "free", "a.b": 1}, "a.b": 2}
    assert claim(claims, "https://app.example/plan") == "pro"
    assert claim(claims, "metadata.plan") == "free"
    assert claim(claims, "a.b") == 2
    for missing in ("metadata.none.deeper", "metadata.plan.deeper", "none", ""):
        assert claim(claims, missing) is None


@pytest.mark.parametrize("sub", [None, "", [], {}, True, 1.5, "x" * (MAX_USER_ID_CHARS + 1), "a\nb", "a/../b", ".."])
def test_what_names_no_user_is_refused(sub: Any) -> None:
    with pytest.raises(ValueError, match="claim 'sub'") as refused:
        read_claims({"sub": sub}, ClaimRules())
    assert "xxx" not in str(refused.value)


def test_user_ids_of_numbers_prefixes_and_none() -> None:
    assert read_claims({"id": 7}, ClaimRules(user_claim="id", user_prefix="gh:")).user_id == "gh:7"
    assert read_claims({}, ClaimRules(user_claim="")).user_id == ""


def test_groups_give_teams_roles_and_plans() -> None:
    rules = ClaimRules(
        teams={"red": "team-red", "also-red": "team-red", "blue": "team-blue"},
        roles={"bosses": Role.ADMIN, "all": Role.VIEWER},
        plans={"all": "pro", "bosses": "max"},
    )
    found = read_claims({"sub": "a", "groups": ["all", "bosses", "red", "also-red", 7, None]}, rules)
    assert (found.team_ids, found.role, found.plan_id) == (("team-red",), Role.ADMIN, "pro")
    one = read_claims({"sub": "a", "groups": "all"}, rules)
    assert (one.team_ids, one.role, one.plan_id) == ((), Role.VIEWER, "pro")


def test_a_plan_is_named_by_the_claim_a_table_or_the_default() -> None:
    assert read_claims({"sub": "a", "plan": "pro"}, ClaimRules(plan_claim="plan")).plan_id == "pro"
    rules = ClaimRules(plan_claim="plan", plans={"gold": "pro"}, default_plan="free")
    for said, plan in (("gold", "pro"), (["tin", "gold"], "pro"), ("pro", "free"), (None, "free"), (7, "free")):
        assert read_claims({"sub": "a", "plan": said}, rules).plan_id == plan
    strict = ClaimRules(plan_claim="plan", plans={"gold": "pro"})
    for said in ("pro", None, "", []):
        with pytest.raises(ValueError, match="names no plan"):
            read_claims({"sub": "a", "plan": said}, strict)
    assert read_claims({"sub": "a"}, ClaimRules(default_plan="free")) == Claimed("a", new_plan_id="free")


@pytest.mark.parametrize("role", [Role.OWNER, Role.SERVICE])
def test_no_claim_makes_an_owner(role: Role) -> None:
    with pytest.raises(ValueError, match="cannot make somebody"):
        ClaimRules(roles={"x": role})


@pytest.mark.parametrize(
    ("claims", "admitted"),
    [
        ({"email": "a@acme.example", "email_verified": True}, True),
        ({"email": "A@ACME.example", "email_verified": "true"}, True),
        ({"email": "a@acme.example"}, False),
        ({"email": "a@acme.example", "email_verified": "false"}, False),
        ({"email": "a@acme.example", "email_verified": 1}, False),
        ({"email": "a@evil.example", "email_verified": True}, False),
        ({"email": "a@sub.acme.example", "email_verified": True}, False),
        ({"email": "a@evil.example@acme.example", "email_verified": True}, False),
        ({"email": ["a@acme.example"], "email_verified": True}, False),
        ({"email_verified": True}, False),
    ],
)
def test_domains_admit_verified_addresses_only(claims: dict[str, Any], admitted: bool) -> None:
    rules = ClaimRules(domains=("acme.example",))
    if admitted:
        assert read_claims({"sub": "a", **claims}, rules).verified
    else:
        with pytest.raises(ValueError, match=r"acme\.example"):
            read_claims({"sub": "a", **claims}, rules)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("MIA@Acme.Example", "mia@acme.example"),
        ("ÄNNE@ÖL.example", "änne@öl.example"),
        ("a@faß.example", "a@faß.example"),  # not fass.example, whose owner is somebody else
        ("a@FAẞ.example", "a@faẞ.example"),
        ("mi\N{KELVIN SIGN}e@a.example", "mi\N{KELVIN SIGN}e@a.example"),
        ("\N{LATIN SMALL LIGATURE FI}n@a.example", "\N{LATIN SMALL LIGATURE FI}n@a.example"),
        ("\N{LATIN SMALL LETTER LONG S}am@a.example", "\N{LATIN SMALL LETTER LONG S}am@a.example"),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}da@a.example",) * 2,
    ],
)
def test_an_address_is_nobody_elses_by_another_letter(text: str, normal: str) -> None:
    assert normal_email(text) == normal == normal_email(normal)
    rules = ClaimRules(domains=("fass.example",))
    with pytest.raises(ValueError, match=r"fass\.example"):
        read_claims({"sub": "a", "email": text, "email_verified": True}, rules)


def test_an_issuer_may_vouch_for_its_addresses() -> None:
    assert read_claims({"sub": "a", "email": "a@b.c"}, ClaimRules(vouches=True)).verified
    assert not read_claims({"sub": "a", "email": "nonsense"}, ClaimRules(vouches=True)).verified


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("sub", "email", "email_verified", "name", "groups", "plan", "metadata")


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_any_claims_are_read_or_refused(claims: dict[str, Any]) -> None:
    rules = ClaimRules(teams={"red": "r"}, roles={"a": Role.ADMIN}, plan_claim="metadata.plan", default_plan="free")
    try:
        found = read_claims(claims, rules)
    except ValueError:
        return
    assert found.user_id
    assert found.role in (None, Role.ADMIN)
    assert found.email == (normal_email(found.email) if found.email else "")

"""From the claims of somebody's token to what they are here: one reading for people who sign in by OpenID Connect and
for tokens that an application's own identity provider has signed.

A claim is found by its whole name first (Auth0's are URLs), then as a path (`metadata.plan`). What a claim says that
no rule knows gives nothing, with one exception: where the rules read plans, a token that names none of them is
refused unless there is a `default_plan`, for somebody without a plan has no limits.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tollhouse.terms.people import Role

MAX_USER_ID_CHARS: Final = 256
MAX_EMAIL_CHARS: Final = 254
"""RFC 5321, 4.5.3.1.3: a path of 256 octets without its angle brackets."""
MAX_NAME_CHARS: Final = 200
MAX_GROUPS: Final = 1000
"""More in one token are not looked at."""

GIVEN_ROLES: Final = (Role.ADMIN, Role.MEMBER, Role.VIEWER)
"""What claims may make of somebody: owners are made by owners."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_NO_WORDS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_ROLES: Final[Mapping[str, Role]] = MappingProxyType({})


class ClaimRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which claim says what.

    source        whose claims these are, such as `jwt:app`: what one source gave, another does not take away
    user_claim    the user's id; empty where somebody else knows it
    user_prefix   stands before that id, to keep the users of several issuers apart
    groups_claim  a list of groups, or one
    plan_claim    what names the plan; empty: the groups do
    teams         group → team id
    roles         group → admin, member or viewer; of several the first in this order counts
    plans         what the claim says → plan id; empty: it says the plan id
    default_plan  for who is new, and where the claims name no plan that is known
    domains       only verified e-mail addresses in one of these; empty: anybody
    vouches       every e-mail address of this issuer counts as verified
    """

    source: str = ""
    user_claim: str = "sub"
    user_prefix: str = ""
    email_claim: str = "email"
    verified_claim: str = "email_verified"
    name_claim: str = "name"
    groups_claim: str = "groups"
    plan_claim: str = ""
    teams: Mapping[str, str] = _NO_WORDS
    roles: Mapping[str, Role] = _NO_ROLES
    plans: Mapping[str, str] = _NO_WORDS
    default_plan: str = ""
    domains: tuple[str, ...] = ()
    vouches: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a role that no claim may give."""
        for group, role in self.roles.items():
            if role not in GIVEN_ROLES:
                raise ValueError(f"roles: {group!r} cannot make somebody {role}; claims give {', '.join(GIVEN_ROLES)}")


class Claimed(msgspec.Struct, frozen=True):
    """What claims say of somebody; None and empty: nothing."""

    user_id: str
    email: str = ""
    name: str = ""
    team_ids: tuple[str, ...] = ()
    role: Role | None = None
    plan_id: str | None = None
    new_plan_id: str | None = None
    """For somebody who is new here."""
    verified: bool = False
    """Whether the e-mail address is known to be theirs."""
    source: str = ""


def read_claims(claims: Mapping[str, Any], rules: ClaimRules) -> Claimed:
    """Raises ValueError with what is wrong: for a person, without what the claims say."""
    email, verified = _email(claims, rules)
    if rules.domains and not (verified and domain_of(email) in rules.domains):
        raise ValueError("an e-mail address is needed that is verified and in one of: " + ", ".join(rules.domains))
    name = claim(claims, rules.name_claim)
    groups = tuple(_words(claim(claims, rules.groups_claim)))
    return Claimed(
        user_id=_user_id(claims, rules),
        email=email,
        name=_CONTROL.sub("", name)[:MAX_NAME_CHARS].strip() if isinstance(name, str) else "",
        team_ids=tuple(sorted({rules.teams[group] for group in groups if group in rules.teams})),
        role=next((role for group, role in rules.roles.items() if group in groups), None),
        plan_id=_plan(claims, groups, rules),
        new_plan_id=rules.default_plan or None,
        verified=verified,
        source=rules.source,
    )


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name or its path; None when it is not there."""
    if not name:
        return None
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def normal_email(text: str) -> str:
    """The form by which an address is compared and kept: people do not mean another person by a capital letter. Letters
    that are alike in any other way (ß and ss, the sign of Kelvin and k) make another address, and may make another
    domain, whose owner is somebody else. Raises ValueError.
    """
    email = "".join(map(_small, text.strip()))
    if len(email) > MAX_EMAIL_CHARS or _CONTROL.search(email) or not _EMAIL.fullmatch(email):
        raise ValueError("is not an e-mail address")
    return email


def _small(letter: str) -> str:
    """The small form of a letter that has one for itself alone."""
    small = letter.lower()
    return small if small.upper() == letter else letter


def domain_of(email: str) -> str:
    return email.rpartition("@")[2]


def _user_id(claims: Mapping[str, Any], rules: ClaimRules) -> str:
    if not rules.user_claim:
        return ""
    found = claim(claims, rules.user_claim)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found:
        raise ValueError(f"the claim {rules.user_claim!r}, which names the user, is missing or no text")
    user_id = rules.user_prefix + found
    if len(user_id) > MAX_USER_ID_CHARS or _CONTROL.search(user_id):
        raise ValueError(
            f"the claim {rules.user_claim!r} is no user id: at most {MAX_USER_ID_CHARS} characters, none of control"
        )
    if any(part in (".", "..") for part in user_id.split("/")):  # no URL could carry it
        raise ValueError(f"the claim {rules.user_claim!r} holds a part that is `.` or `..`")
    return user_id


def _email(claims: Mapping[str, Any], rules: ClaimRules) -> tuple[str, bool]:
    found = claim(claims, rules.email_claim)
    try:
        email = normal_email(found) if isinstance(found, str) else ""
    except ValueError:
        email = ""
    said = claim(claims, rules.verified_claim)
    return email, bool(email) and (rules.vouches or said is True or said == "true")


def _plan(claims: Mapping[str, Any], groups: tuple[str, ...], rules: ClaimRules) -> str | None:
    if not rules.plan_claim and not rules.plans:
        return None
    said = tuple(_words(claim(claims, rules.plan_claim))) if rules.plan_claim else groups
    if not rules.plans:
        found = next(iter(said), None)
    else:
        found = next((plan_id for word, plan_id in rules.plans.items() if word in said), None)
    if found or rules.default_plan:
        return found or rules.default_plan
    name = rules.plan_claim or rules.groups_claim
    raise ValueError(f"the claim {name!r} names no plan that is known, and there is no default_plan")


def _words(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, list | tuple):
        for word in found[:MAX_GROUPS]:
            if isinstance(word, str):
                yield word

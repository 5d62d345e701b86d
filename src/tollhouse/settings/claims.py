"""What an issuer's claims give, as an operator writes it; the same words for signing in and for tokens of one's own."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from tollhouse.rules.claims import ClaimRules
from tollhouse.settings.sections import Names, Section
from tollhouse.terms.people import Role

Group = Annotated[str, Field(min_length=1, max_length=256)]
GivenRole = Annotated[Literal[Role.ADMIN, Role.MEMBER, Role.VIEWER], BeforeValidator(lambda value: Role(value))]


class Claims(Section):
    """Which claim says what; see `rules.claims`. A claim is named whole or as a path: `metadata.plan`."""

    user_claim: str = "sub"
    user_prefix: str = ""
    """Stands before the user id, to keep the users of several issuers apart."""
    email_claim: str = "email"
    verified_claim: str = "email_verified"
    name_claim: str = "name"
    groups_claim: str = "groups"
    plan_claim: str = ""
    """Empty: the groups say the plan."""
    teams: dict[Group, str] = Field(default_factory=dict)
    """Group → team."""
    roles: dict[Group, GivenRole] = Field(default_factory=dict)
    """Group → admin, member or viewer; of several the first of this list counts."""
    plans: dict[Group, str] = Field(default_factory=dict)
    """What the claim says → plan; empty: it says the plan's name."""
    default_plan: str = ""
    """For who is new, and where the claims name no plan that is known (else they are refused)."""
    domains: Names = ()
    """Only people with a verified e-mail address in one of these."""
    vouches: bool = False
    """Count every e-mail address of this issuer as verified: only where it cannot be chosen by its user."""

    @field_validator("domains")
    @classmethod
    def _plain(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if "@" in domain or "." not in domain or "*" in domain:
                raise ValueError(f"{domain!r} is not a domain; write it as in acme.example")
        return tuple(domain.casefold() for domain in domains)

    def rules(self, source: str) -> ClaimRules:
        """`source` is whose claims they are, such as `jwt:app`."""
        return ClaimRules(source=source, **{name: getattr(self, name) for name in Claims.model_fields})

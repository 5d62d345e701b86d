"""How people sign in."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tollhouse.settings.claims import Claims
from tollhouse.settings.sections import Names, Section

PRESETS = ("google", "github")


class Lockout(Section):
    """`free` tries, then a wait that doubles with each, from `first_s` to `longest_s`; forgotten after `forget_s`."""

    free: int = Field(5, ge=1, le=1_000)
    first_s: float = Field(30.0, gt=0)
    longest_s: float = Field(900.0, gt=0)
    forget_s: float = Field(86_400.0, gt=0)


class Password(Section):
    """What a password must be, and what a hash of one costs (Argon2id)."""

    min_chars: int = Field(12, ge=8, le=128)
    min_score: int = Field(3, ge=0, le=4)
    """zxcvbn's: 3 withstands 10^8 guesses, 4 10^10; 0 takes any that is long enough."""
    argon2_passes: int = Field(2, ge=1, le=64)
    argon2_memory_kib: int = Field(19_456, ge=8_192, le=4_194_304)
    argon2_lanes: int = Field(1, ge=1, le=64)
    max_waiting: int = Field(32, ge=1, le=10_000)
    """Passwords waiting to be looked at; with more, people are told to come back."""


class Sessions(Section):
    """How long somebody stays signed in."""

    idle_s: float = Field(3_600.0, ge=60)
    """Without use."""
    max_s: float = Field(43_200.0, ge=60)
    """In any case."""
    max_per_user: int = Field(20, ge=1, le=1_000)
    """One more ends the oldest."""
    max_total: int = Field(100_000, ge=1)


class IssuerSettings(Claims):
    """Who vouches for people: an OpenID provider, or a preset."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Stands in the redirect URI: …/api/v1/sign-in/oidc/NAME/callback."""
    label: str = Field("", max_length=60)
    """On the sign-in page; empty: the name."""
    preset: Literal["", "google", "github"] = ""
    issuer: str = ""
    """Its discovery document is at ISSUER/.well-known/openid-configuration."""
    client_id: str = Field(min_length=1)
    client_secret: str = Field("", repr=False)
    """`env:NAME` or `file:/path`; empty for a public client."""
    scopes: str = ""
    """Empty: `openid email profile`, and what the preset needs."""
    algorithms: Names = ("RS256", "ES256", "EdDSA", "PS256", "RS384", "RS512", "ES384", "ES512", "PS384", "PS512")
    """Of the ID token's signature; never `none`, and never one with a shared key."""
    user_claim: str = ""
    """Empty: users get an id of their own here, and are known by issuer and subject."""
    sign_up: bool = True
    """Whether who is new gets an account; else only who is here already."""
    link_by_email: bool = False
    """Whether an account of the same verified e-mail address becomes theirs: only for issuers that would never let
    somebody have another's address.
    """
    capture: bool = False
    """People of `domains` sign in here and no other way; owners may also by password, to get back in."""
    leeway_s: float = Field(60.0, ge=0, le=600)
    timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("client_secret")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path; a secret itself never stands in a settings file")
        return value

    @field_validator("algorithms")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for algorithm in value:
            if algorithm[:2] not in ("RS", "PS", "ES") and algorithm != "EdDSA":
                raise ValueError(f"{algorithm!r} is no signature with a public key; take RS256, PS256, ES256 or EdDSA")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "IssuerSettings":
        if bool(self.preset) == bool(self.issuer):
            raise ValueError("say either `preset` (google, github) or `issuer`")
        if self.issuer and not self.issuer.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("an issuer is reached by https://")
        if self.capture and not self.domains:
            raise ValueError("capture needs `domains`: whose people sign in here")
        return self


class SignIn(Section):
    """Signing in."""

    sign_up: Literal["closed", "open", "domains"] = "closed"
    """Who may make an account with a password: nobody without an invitation, anybody, or addresses of `domains`."""
    domains: Names = ()
    default_plan: str = ""
    """The plan of who signs up."""
    password: Password = Password()
    session: Sessions = Sessions()
    account_lockout: Lockout = Lockout()
    address_lockout: Lockout = Lockout(free=30, forget_s=3_600)
    sign_up_lockout: Lockout = Lockout(free=20, first_s=60, longest_s=3_600, forget_s=3_600)
    """Accounts that one address makes."""
    refusals_per_minute: int = Field(20, ge=0)
    """Who is not let in: so many a minute of one reason are told one by one in the audit trail, the others counted."""
    invitation_s: float = Field(604_800.0, ge=60)
    setup_s: float = Field(86_400.0, ge=60)
    """How long the link of the first run is good."""
    issuers: tuple[IssuerSettings, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> "SignIn":
        if self.sign_up == "domains" and not self.domains:
            raise ValueError("sign_up: domains needs `domains`")
        names = [issuer.name for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("issuers: their names differ")
        return self

"""Issuers whose signed tokens (JWT) are accepted on the data plane: the application's own identity provider."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tollhouse.settings.claims import Claims
from tollhouse.settings.sections import Names

SYMMETRIC = ("HS256", "HS384", "HS512")
ASYMMETRIC = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class JwtIssuer(Claims):
    """One issuer, its keys, and what its claims give."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    """Stands in the ledger where a key's id does."""
    issuer: str = Field(min_length=1, max_length=1024)
    """`iss`, letter for letter: Auth0's ends in a slash."""
    jwks_url: str = ""
    public_key: str = ""
    """`file:/path` or `env:NAME` of a public key in PEM, instead of `jwks_url`."""
    secret: str = Field("", repr=False)
    """`file:/path` or `env:NAME` of a secret that the issuer shares, for HS256 and its kin; instead of a key."""
    algorithms: Names = ()
    """By default RS256, ES256 and EdDSA, or HS256 where there is a secret."""
    audience: Names = ()
    """`aud` must name one of these."""
    azp: Names = ()
    """`azp` must be one of these. At least one of `audience` and `azp` is needed."""
    leeway_s: int = Field(60, ge=0, le=600)
    makes_users: bool = True
    """A user who is not known is made; else refused."""
    max_token_bytes: int = Field(8_192, ge=512, le=65_536)
    max_remembered: int = Field(10_000, ge=1)
    """Tokens that need not be looked at again."""
    max_waiting: int = Field(1_000, ge=1)
    """New tokens being looked at, at once."""
    jwks_ttl_s: float = Field(600.0, gt=0)
    jwks_keep_s: float = Field(86_400.0, gt=0)
    """How long the last keys count while no newer ones can be fetched."""
    jwks_min_refetch_s: float = Field(30.0, gt=0)
    """Never fetched twice within this, whatever keys tokens name."""
    jwks_timeout_s: float = Field(5.0, gt=0)
    jwks_max_bytes: int = Field(256 * 1024, ge=1024)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms, with the default."""
        return self.algorithms or (("HS256",) if self.secret else ("RS256", "ES256", "EdDSA"))

    @field_validator("name")
    @classmethod
    def _not_ours(cls, name: str) -> str:
        if name == "session":
            raise ValueError("this name stands for signed-in browsers; choose another one")
        return name

    @field_validator("public_key", "secret")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path; a key itself never stands in a settings file")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _fetched_safely(cls, url: str) -> str:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if url and not (safe and parts.hostname):
            raise ValueError("keys are fetched over https (or from this machine itself)")
        return url

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> "JwtIssuer":
        if sum(map(bool, (self.jwks_url, self.public_key, self.secret))) != 1:
            raise ValueError("give one of jwks_url, public_key and secret")
        allowed = SYMMETRIC if self.secret else ASYMMETRIC
        for name in self.accepted:
            if name not in allowed:
                raise ValueError(f"algorithms: {name!r} is none of {', '.join(allowed)} that this kind of key checks")
        if not (self.audience or self.azp):
            raise ValueError("give audience or azp: else tokens made for any other application would count here")
        return self

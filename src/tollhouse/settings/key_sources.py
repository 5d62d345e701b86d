"""Where secrets are read from, and how often."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tollhouse.settings.sections import Names, Section
from tollhouse.sources.command import PASSED_ON
from tollhouse.sources.hashicorp import LOOPBACK


class FileSource(Section):
    """`file:/path`."""

    poll_s: float = Field(5.0, gt=0)
    settle_s: float = Field(1.0, ge=0)
    """How long a changed file must stay as it is before it counts."""
    timeout_s: float = Field(10.0, gt=0)


class CommandSource(Section):
    """`cmd:HELPER arguments`."""

    ttl_s: float = Field(3600.0, ge=1)
    """How long what a helper printed is good; it is run again at 80 % of this."""
    timeout_s: float = Field(10.0, gt=0)
    max_bytes: int = Field(65_536, ge=1)
    environment: Names = PASSED_ON
    """The variables a helper gets, globs too. The gateway's own secrets are not for it."""


class HashiCorpSource(Section):
    """`vault:MOUNT/PATH#FIELD`."""

    address: str = ""
    """Empty: VAULT_ADDR."""
    token: str = Field("", repr=False)
    """`file:/path` (of an agent's sink, say) or `env:NAME`. Empty: VAULT_TOKEN."""
    namespace: str = ""
    """Empty: VAULT_NAMESPACE."""
    ca_file: Path | None = None
    """Empty: VAULT_CACERT, else the system's authorities."""
    allow_plain_http: bool = False
    """Beyond loopback the token crosses the network in clear without TLS."""
    ttl_s: float = Field(300.0, ge=1)
    """How long a secret is good that does not say so itself."""
    timeout_s: float = Field(5.0, gt=0)
    max_bytes: int = Field(256 * 1024, ge=1024)

    @field_validator("token")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path; a token itself never stands in a settings file")
        return value

    @model_validator(mode="after")
    def _readable(self) -> "HashiCorpSource":
        problem = address_problem(self.address, allow_plain_http=self.allow_plain_http) if self.address else None
        if problem is not None:
            raise ValueError(f"address: {problem}")
        return self


class KeySources(Section):
    """How the credentials of providers are kept fresh."""

    overlap_s: float = Field(600.0, ge=0)
    """How long the credential before is kept after a rotation, to go back to when the provider refuses the new one."""
    retry_s: float = Field(5.0, gt=0)
    """How soon a source that failed is read again; after each further failure twice as late, up to `longest_retry_s`.
    """
    longest_retry_s: float = Field(300.0, gt=0)
    refused_refresh_s: float = Field(10.0, gt=0)
    """A credential that its provider refuses is read again at once, but not more often than this."""
    file: FileSource = FileSource()
    command: CommandSource = CommandSource()
    hashicorp: HashiCorpSource = HashiCorpSource()


def address_problem(address: str, *, allow_plain_http: bool) -> str | None:
    """Why a Vault cannot be asked there."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        return f"{address!r} is not the address of a Vault; write https://vault.example:8200"
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not allow_plain_http:
        return f"{address} would send the token in clear text; use https://, or set allow_plain_http: true"
    return None

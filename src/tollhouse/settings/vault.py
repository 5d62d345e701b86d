"""Secrets that people store here: under which master keys, and how many."""

from pydantic import Field, field_validator

from tollhouse.rules.addresses import read_networks
from tollhouse.settings.sections import Names, Section

SOURCES = ("env:", "file:", "cmd:")


class Vault(Section):
    """Stored credentials (see `controlplane.storing.CredentialOptions`)."""

    master_keys: str = ""
    """`env:NAME`, `file:/path` or `cmd:helper args` that gives `VERSION:BASE64`, one a line; never a key itself. Empty:
    the file `master-keys` in the home, once `tollhouse vault init` has made it.
    """
    own_base_urls: bool = False
    """Whether users may have their own credential sent to an endpoint of their own: by https, and to public addresses
    alone.
    """
    allowed_networks: Names = ()
    """Networks that users' own endpoints may be in although they are not public, such as `10.20.0.0/16`. Where a cloud
    tells its credentials is allowed by its very address alone.
    """
    own_endpoint_connections: int = Field(32, ge=1, le=1_024)
    """To each endpoint of a user's own at once."""
    credentials_per_user: int = Field(20, ge=0, le=1_000)
    max_secret_bytes: int = Field(4_096, ge=64, le=32_768)
    tests_per_minute: int = Field(6, ge=1, le=1_000)
    """How often one caller may have a provider asked whether it takes a credential."""
    test_timeout_s: float = Field(10.0, gt=0, le=60)

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        read_networks(networks)
        return networks

    @field_validator("master_keys")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not (value.startswith(SOURCES) and value.partition(":")[2].strip()):
            raise ValueError("write env:NAME, file:/path or cmd:helper; a master key never stands in the settings")
        return value

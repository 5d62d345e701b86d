"""Which secrets are the gateway's own: what comes over the network or out of the database may not have them read, for
it may also say where they are sent.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tollhouse.rules import secret_references
from tollhouse.settings import Settings

OWN_VARIABLES = ("TOLLHOUSE_", "LITELLM_MASTER_KEY", "VAULT_TOKEN")
"""What their names begin with."""
NAMED_BY_VARIABLES = ("TOLLHOUSE_MASTER_KEY_FILE", "LITELLM_MASTER_KEY_FILE")


def is_own(settings: Settings, reference: str) -> bool:
    """Whether this names a secret of the gateway's, or a way around saying so: a path that goes up again."""
    scheme, name = secret_references.split(reference)
    name = name.strip()
    if scheme == "env":
        return name.upper().startswith(OWN_VARIABLES) or f"env:{name}" in _own(settings)
    if scheme != "file":
        return False
    if ".." in Path(name).parts:
        return True  # a glob that admits a directory admits nothing beside it
    path = _resolved(name)
    files = [_resolved(own.removeprefix("file:")) for own in _own(settings) if own.startswith("file:")]
    return path.is_relative_to(settings.home.resolve()) or path in files


def _own(settings: Settings) -> set[str]:
    """References in the settings to anything but providers' credentials."""
    return {
        settings.vault.master_keys,
        settings.key_sources.hashicorp.token,
        settings.storage.database_url,
        *(row.client_secret for row in settings.sign_in.issuers),
        *(row.secret for row in settings.jwt),
        *(row.secret for row in settings.webhooks),
        *(f"file:{path}" for path in _named_files()),
    }


def _named_files() -> Iterator[str]:
    yield from filter(None, map(os.environ.get, NAMED_BY_VARIABLES))


def _resolved(path: str) -> Path:
    return Path(path).expanduser().resolve()

"""From settings and environment to the sources of secrets, and to the keyring of the providers."""

import os
import ssl
from collections.abc import Awaitable, Callable
from functools import cache, partial

from tollhouse.app import providers as setup
from tollhouse.ports import Source
from tollhouse.settings import Settings
from tollhouse.settings.key_sources import HashiCorpSource, address_problem
from tollhouse.sources import CommandOptions, FileOptions, HashiCorpOptions, SourceOptions, open_source
from tollhouse.sources.environment import Variable
from tollhouse.sources.files import File
from tollhouse.sources.hashicorp import HashiCorp
from tollhouse.sources.registry import no_hashicorp
from tollhouse.sources.stored import StoredReader, nothing_stored
from tollhouse.terms.errors import SourceError
from tollhouse.terms.notices import Notice
from tollhouse.workers import Keyring, KeyringOptions, Wanted


def open_keyring(
    settings: Settings, tell: Callable[[Notice], None], stored: Callable[[str, str], Awaitable[str]] | None = None
) -> Keyring:
    """A keyring that holds nothing yet. `stored` gives the secret of one of the operator's stored credentials, by its
    name or id and the host it is for; raises SourceError.
    """
    options = source_options(settings)
    numbers = settings.key_sources.model_dump(include=set(KeyringOptions.__struct_fields__))

    def opened(wanted: Wanted) -> Source:
        async def reader(name: str) -> str:
            return await (nothing_stored(name) if stored is None else stored(name, wanted.host))

        return open_source(wanted.reference, options(reader), where=wanted.where)

    return Keyring(opened, setup.credential_problem, tell, KeyringOptions(**numbers))


def source_options(settings: Settings) -> Callable[[StoredReader], SourceOptions]:
    """What sources need to know, but for who reads stored credentials."""
    sources = settings.key_sources
    return partial(
        SourceOptions,
        FileOptions(**sources.file.model_dump()),
        CommandOptions(**sources.command.model_dump()),
        cache(partial(_hashicorp, sources.hashicorp)),
    )


def _hashicorp(section: HashiCorpSource) -> HashiCorp:
    """The Vault of the settings, or of the variables that its own command line knows. Raises SourceError."""
    address = section.address or os.environ.get("VAULT_ADDR", "")
    if not address:
        return no_hashicorp()
    problem = address_problem(address, allow_plain_http=section.allow_plain_http)
    if problem is not None:
        raise SourceError(f"key_sources.hashicorp.address (or VAULT_ADDR): {problem}")
    ca_file = section.ca_file or os.environ.get("VAULT_CACERT") or None
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"key_sources.hashicorp.ca_file: cannot load {ca_file}: {error}") from error
    options = HashiCorpOptions(
        address,
        section.namespace or os.environ.get("VAULT_NAMESPACE", ""),
        section.ttl_s,
        section.timeout_s,
        section.max_bytes,
    )
    scheme, _, rest = (section.token or "env:VAULT_TOKEN").partition(":")
    if scheme == "file":  # which an agent may write later
        return HashiCorp(options, File(rest).now, tls)
    variable = Variable(rest)
    variable.now()
    return HashiCorp(options, variable.now, tls)

"""Which kinds of sources there are: a line here and one in `rules.secret_references`, besides the kind's own file.

An opener gets what stands behind the scheme, and the options. It reads nothing yet.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from tollhouse.ports import Source
from tollhouse.rules import secret_references
from tollhouse.sources.command import Command, CommandOptions
from tollhouse.sources.environment import Variable
from tollhouse.sources.files import File, FileOptions
from tollhouse.sources.hashicorp import HashiCorp, HashiCorpSecret
from tollhouse.sources.stored import Stored, StoredReader, nothing_stored
from tollhouse.terms.errors import SettingsError, SourceError


def no_hashicorp() -> HashiCorp:
    """Where there is none."""
    raise SourceError("no HashiCorp Vault is configured: set key_sources.hashicorp.address, or VAULT_ADDR")


class SourceOptions(msgspec.Struct, frozen=True):
    """What sources need to know. `hashicorp` gives the server of all `vault:` sources; raises SourceError."""

    file: FileOptions = FileOptions()
    command: CommandOptions = CommandOptions()
    hashicorp: Callable[[], HashiCorp] = no_hashicorp
    stored: StoredReader = nothing_stored


OPENERS: Final[Mapping[str, Callable[[str, SourceOptions], Source]]] = MappingProxyType(
    {
        "env": lambda rest, _: Variable(rest),
        "file": lambda rest, options: File(rest, options.file),
        "cmd": lambda rest, options: Command(rest, options.command),
        "vault": lambda rest, options: HashiCorpSecret(rest, options.hashicorp()),
        "stored": lambda rest, options: Stored(rest, options.stored),
    }
)


def open_source(reference: str, options: SourceOptions, *, where: str) -> Source:
    """The source a reference names. Raises SettingsError that names `where`."""
    problem = secret_references.problem(reference)
    if problem is not None:
        raise SettingsError(f"{where}: {problem}")
    scheme, rest = secret_references.split(reference)
    try:
        return OPENERS[scheme](rest.strip(), options)
    except SourceError as error:
        raise SettingsError(f"{where}: {error}") from error

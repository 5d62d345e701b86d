"""A secret that is read once, while a program starts."""

from tollhouse.sources.command import DEFAULTS, Command, CommandOptions
from tollhouse.sources.environment import Variable
from tollhouse.sources.files import File
from tollhouse.terms.errors import SettingsError, SourceError


def read_once(reference: str, *, where: str, command: CommandOptions = DEFAULTS) -> str:
    """The secret behind `env:NAME`, `file:/path` or `cmd:HELPER arguments`, now. `reference` comes from the operator's
    own settings. Raises SettingsError that names `where`, never the secret.
    """
    scheme, _, rest = reference.partition(":")
    try:
        if scheme == "env":
            return Variable(rest).now()
        if scheme == "file":
            return File(rest).now()
        if scheme == "cmd":
            return Command(rest, command).now()
    except SourceError as error:
        raise SettingsError(f"{where}: {error}") from error
    raise SettingsError(f"{where}: write env:NAME, file:/path or cmd:HELPER arguments")

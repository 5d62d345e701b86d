"""`stored:NAME`: a credential that the operator stored in this gateway's own vault."""

from collections.abc import Awaitable, Callable

from tollhouse.ports import Reading
from tollhouse.terms.errors import SourceError

StoredReader = Callable[[str], Awaitable[str]]
"""From the name or id of a managed credential to its secret. Raises SourceError."""
POLL_S = 60.0
"""How often it is looked at; who changes one has it read at once."""


class Stored:
    """One managed credential."""

    def __init__(self, credential: str, reader: StoredReader) -> None:
        self._credential = credential
        self._reader = reader
        self.name = f"stored:{credential}"

    async def read(self) -> Reading:
        return Reading(await self._reader(self._credential), again_s=POLL_S)


async def nothing_stored(_credential: str) -> str:
    """Where there is no vault."""
    raise SourceError("stored credentials are read by a gateway that runs")

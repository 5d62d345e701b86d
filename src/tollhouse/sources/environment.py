"""`env:NAME`: a variable of this process's environment, which nobody can change from outside once it runs."""

import os

from tollhouse.ports import Reading
from tollhouse.terms.errors import SourceError


class Variable:
    """One variable."""

    def __init__(self, variable: str) -> None:
        self.variable = variable
        self.name = f"env:{variable}"

    def now(self) -> str:
        """Raises SourceError when it is not set, or empty."""
        value = os.environ.get(self.variable, "").strip()
        if not value:
            raise SourceError(f"the environment variable {self.variable} is not set")
        return value

    async def read(self) -> Reading:
        return Reading(self.now())

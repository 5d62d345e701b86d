"""Keeping what is asked and answered, for keys that say so."""

from pydantic import Field

from tollhouse.settings.sections import MIB, Section


class Capture(Section):
    """Nothing is kept unless a key says so, and a master key is there to seal it (see docs/guide/privacy.md)."""

    max_days: int = Field(30, ge=0, le=3_650)
    """How long a key may have its content kept; 0: none may, and what is kept goes by its time."""
    max_request_bytes: int = Field(MIB, ge=0, le=32 * MIB)
    """A longer request body is cut, and marked so."""
    max_answer_bytes: int = Field(MIB, ge=0, le=32 * MIB)
    """As above, of an answer."""
    max_waiting: int = Field(1_000, ge=1)
    """Calls whose content waits for the database; beyond it content is dropped and counted, calls never wait."""
    max_waiting_bytes: int = Field(64 * MIB, ge=1024)
    """As above, all of them together."""

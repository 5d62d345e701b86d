"""All kinds of rounds by name."""

from typing import Any

from chaos.faulted import faulted
from chaos.jumped import jumped
from chaos.kills import changed, killed, spent, stopped, storm
from chaos.parts import DRAIN_S, Kind
from chaos.starved import away, behind, gone, locked, nospace

LISTEN: dict[str, Any] = {"listen": {"drain_s": DRAIN_S}}
SMALL_BACKLOG: dict[str, Any] = {**LISTEN, "storage": {"max_backlog": 150}}
POSTGRES_BACKLOG: dict[str, Any] = {**LISTEN, "storage": {"max_backlog": 150, "owner_wait_s": 30}}
ANY_SPACE: dict[str, Any] = {**LISTEN, "storage": {"min_free_bytes": 0, "segment_bytes": 65_536}}
GROUP: dict[str, Any] = {**LISTEN, "storage": {"durability": "group"}}
"""As by default, on a home of its own: in a large database a commit makes more calls."""
STRICT: dict[str, Any] = {**LISTEN, "storage": {"durability": "strict"}}

KINDS: dict[str, Kind] = {
    "killed": Kind(killed, LISTEN),
    "storm": Kind(storm, LISTEN),
    "stopped": Kind(stopped, LISTEN),
    "spent": Kind(spent, LISTEN),
    "changed": Kind(changed, LISTEN),
    "locked": Kind(locked, LISTEN),
    "gone": Kind(gone, LISTEN),
    "behind": Kind(behind, SMALL_BACKLOG),
    "nospace": Kind(nospace, ANY_SPACE),
    "fulldisk": Kind(nospace, ANY_SPACE, tiny_disk=True),
    "faulted": Kind(faulted, GROUP),
    "strict": Kind(faulted, STRICT),
    "jumped": Kind(jumped, LISTEN),
    "away": Kind(away, POSTGRES_BACKLOG, postgres=True),
    "killed_postgres": Kind(killed, POSTGRES_BACKLOG, postgres=True),
}

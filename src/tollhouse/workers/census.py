"""The census: with which tools calls are made, and how many conversations and end users there are just now. It is for
metrics, and keeps no name of anybody: conversations and end users are hashes, soon forgotten.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from tollhouse.workers.tallies import Tally

KNOWN_CLIENTS: Final = frozenset(
    (
        *("claude-cli", "opencode", "kilo", "ai-sdk", "undici", "pi", "codex_exec", "codex_cli_rs", "litellm"),
        *("node-fetch", "Anthropic", "OpenAI", "Python", "python-httpx", "python-requests", "axios", "curl", "Mozilla"),
        *("Go-http-client", "okhttp", "aiohttp", "node", "got", "Zed", "goose", "Cline", "Roo-Code", "Continue"),
    )
)
"""As they name themselves in User-Agent. They have a label of their own, whoever else comes first."""
MAX_OTHERS: Final = 20
"""Further ones that get a label of their own, first come first served; all else is `other`."""
OTHER: Final = "other"
ACTIVE_S: Final = 600
"""Who made a call within this time is active."""
MAX_ACTIVE: Final = 100_000
_NS_PER_S: Final = 1_000_000_000
_WORD = re.compile(r"[A-Za-z0-9._-]{1,40}")


class Recent:
    """How many different ones were seen within ACTIVE_S; at most MAX_ACTIVE are told apart."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, int] = OrderedDict()

    def note(self, name: int, at_s: int) -> None:
        self._seen[name] = at_s
        self._seen.move_to_end(name)
        if len(self._seen) > MAX_ACTIVE:
            self._seen.popitem(last=False)

    def count(self, now_s: float) -> int:
        while self._seen and next(iter(self._seen.values())) < now_s - ACTIVE_S:
            self._seen.popitem(last=False)
        return len(self._seen)


class Census:
    def __init__(self) -> None:
        self.clients: dict[str, list[int]] = {}
        """Calls and nano-USD, by label."""
        self.sessions = Recent()
        self.end_users = Recent()
        self._labels: dict[str, str] = {}

    def take(self, tallies: Sequence[Tally]) -> None:
        """These calls stand in the ledger."""
        for one in tallies:
            hold = one.hold
            label = self._labels.get(hold.client) or self._label(hold.client)
            sums = self.clients.setdefault(label, [0, 0])
            sums[0] += one.calls
            sums[1] += one.nusd
            if hold.session:
                self.sessions.note(hash((hold.user_id, hold.session)), one.at_ns // _NS_PER_S)
            if hold.end_user:
                self.end_users.note(hash((hold.key_id, hold.end_user)), one.at_ns // _NS_PER_S)

    def _label(self, client: str) -> str:
        """Of a client that has none yet; what is no plain word gets no label, and is not remembered."""
        if not _WORD.fullmatch(client):
            return "none" if not client else OTHER
        if client in KNOWN_CLIENTS or len(self._labels.keys() - KNOWN_CLIENTS) < MAX_OTHERS:
            self._labels[client] = client
            return client
        return OTHER

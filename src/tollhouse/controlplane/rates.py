"""How often somebody may ask the management API, by name, in this process's memory.

One number a name (GCRA): the time at which everything asked for so far is paid off at one request every 60 s / N. A
burst of N is free, and in any minute at most 2 N pass. The limits of model calls are exact (`rules.limits`) and keep a
record of each call for that; here a name costs a few words, and of names there are at most `max_names`: beyond, the one
that asked longest ago is forgotten, and as a name is paid off after a minute, only a flood of that many names in one
minute can make it matter.
"""

from collections import OrderedDict
from collections.abc import Callable

import msgspec

MINUTE_S = 60.0


class ManagementOptions(msgspec.Struct, frozen=True):
    """Bounds of the management API.

    requests_per_minute   of one caller: a user, a key, the operator over the network
    failures_per_minute   missing and wrong credentials from one address (a /64 of IPv6)
    max_names             callers and addresses that are remembered, each
    idempotency_keep_s    how long an answer can be had again by its Idempotency-Key
    idempotency_rows      how many are kept at most
    secrets_of_user       secrets of one user's keys, ended ones too, beyond which only an admin makes more
    minted_living         short-lived keys of one user that work at once
    minted_ttl_s          how long one of them works at most
    """

    requests_per_minute: int = 1_200
    failures_per_minute: int = 60
    max_names: int = 10_000
    idempotency_keep_s: int = 86_400
    idempotency_rows: int = 10_000
    secrets_of_user: int = 5_000
    minted_living: int = 50
    minted_ttl_s: int = 86_400


DEFAULTS = ManagementOptions()


class Rates:
    """At most about `per_minute` a minute of each name."""

    def __init__(self, per_minute: int, max_names: int, monotonic: Callable[[], float]) -> None:
        self._each_s = MINUTE_S / per_minute
        self._max_names = max_names
        self._monotonic = monotonic
        self._paid_off_s: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """How long until this name may ask again; 0 when it may now. Counts nothing."""
        return max(0.0, self._paid_off_s.get(name, 0.0) - self._monotonic() - (MINUTE_S - self._each_s))

    def count(self, name: str) -> None:
        now_s = self._monotonic()
        names = self._paid_off_s
        names[name] = min(max(now_s, names.get(name, now_s)) + self._each_s, now_s + MINUTE_S)
        names.move_to_end(name)
        while len(names) > self._max_names:
            names.popitem(last=False)

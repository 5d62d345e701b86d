"""What is unusual in the use of a key, or of all keys of a user: four rules over a little memory of each.

    spend       this hour costs `spend_factor` times the usual one, and `spend_floor_nusd` at least. The usual hour is
                the median of those in which there was spend, of the last HOURS; it takes `spend_hours` of them to know
    new_client  a tool (User-Agent family) that a key was not used with before, once `new_client_calls` are known of it
    refusals    so many answers 400 to 499 within `refusals_s`, and fewer than twice as many that went well. 402 and 429
                do not count: they are budgets and limits doing what they are for
    addresses   so many networks (`networks`) in an hour from which the key was used

Use that stays below `spend_factor` times its own median never is unusual, however it goes up and down. Each finding has
a name under which it is told once: an hour's for spend, refusals and addresses, once for good for a tool.

Memory is bounded: `max_subjects` keys and as many users, who was not seen longest is forgotten; and each knows HOURS
numbers, CLIENTS tools, and no more networks than make a finding.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any, Final, Literal

import msgspec

from tollhouse.terms.money import format_usd

Rule = Literal["spend", "new_client", "refusals", "addresses"]
Kind = Literal["key", "user"]

HOURS: Final = 48
CLIENTS: Final = 32
"""A key that was used with so many tools has none that would be unusual."""
HOUR_S: Final = 3_600
_GOVERNED: Final = (402, 429)


class AnomalyRules(msgspec.Struct, frozen=True, kw_only=True):
    """A rule whose first number is 0 is off."""

    spend_factor: float = 10.0
    spend_floor_nusd: int = 10**9
    spend_hours: int = 6
    new_client_calls: int = 50
    refusals: int = 50
    refusals_s: int = 600
    addresses: int = 20
    max_subjects: int = 10_000


class Finding(msgspec.Struct, frozen=True):
    """Something unusual. `key_id` is empty where it is about all of a user's keys."""

    rule: Rule
    key_id: str
    user_id: str
    text: str
    data: dict[str, Any]
    once: str


class Batch(msgspec.Struct):
    """What some calls of one key have in common. `client` → calls."""

    user_id: str
    at_s: int
    nusd: int = 0
    calls: int = 0
    refused: int = 0
    clients: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, status: int, client: str, nusd: int, calls: int) -> None:
        """So many more calls that were answered so; `nusd` is of all of them."""
        self.nusd += nusd
        self.calls += calls
        if 400 <= status < 500 and status not in _GOVERNED:
            self.refused += calls
        self.clients[client] = self.clients.get(client, 0) + calls


class Spend:
    """What a key or a user spends by the hour."""

    __slots__ = ("hour", "past", "spent", "told")

    def __init__(self) -> None:
        self.hour = 0
        self.spent = 0
        self.past = array("q")
        self.told = -1
        """The hour that was found unusual last."""

    def add(self, nusd: int, hour: int) -> None:
        if hour > self.hour:
            if self.spent:
                self.past.append(min(self.spent, 1 << 62))
                del self.past[:-HOURS]
            self.hour, self.spent = hour, 0
        if hour == self.hour:  # a call of an hour that is over is late, and changes nothing
            self.spent += nusd

    def unusual(self, rules: AnomalyRules) -> float:
        """The usual hour in nano-USD where this one is beyond it; else 0."""
        if not rules.spend_factor or self.told == self.hour or self.spent < rules.spend_floor_nusd:
            return 0
        if len(self.past) < rules.spend_hours:
            return 0
        usual = median(self.past)
        if self.spent < rules.spend_factor * usual:
            return 0
        self.told = self.hour
        return usual


class KeyState:
    __slots__ = (
        "calls",
        "clients",
        "counts",
        "half",
        "network_hour",
        "networks",
        "spend",
        "told_networks",
        "told_refusals",
    )

    def __init__(self) -> None:
        self.spend = Spend()
        self.calls = 0
        self.clients: set[str] = set()
        self.half = 0
        self.counts = [0, 0, 0, 0]
        """Refused and other calls of this half of a window, and of the half before."""
        self.told_refusals = -1
        self.network_hour = -1
        self.networks: set[str] = set()
        self.told_networks = -1


class Watch:
    """All subjects. `called` is what people call a key (`laptop`)."""

    def __init__(self, rules: AnomalyRules, called: Callable[[str], str]) -> None:
        self.rules = rules
        self._called = called
        self._keys: OrderedDict[str, KeyState] = OrderedDict()
        self._users: OrderedDict[str, Spend] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys) + len(self._users)

    def remember(self, key_id: str, user_id: str, hour: int, nusd: int, clients: Iterable[str], calls: int) -> None:
        """What the ledger says of an hour; in the order of time, before any batch of a later hour."""
        if key_id:
            key = self._key(key_id)
            key.spend.add(nusd, hour)
            key.calls += calls
            key.clients.update(client for client in clients if client and len(key.clients) < CLIENTS)
        self._user(user_id).add(nusd, hour)

    def forget(self, user_id: str) -> None:
        """Whoever is known by this id from now on is somebody else."""
        self._users.pop(user_id, None)

    def take(self, key_id: str, batch: Batch) -> Iterator[Finding]:
        """What is unusual with these calls. `key_id` is empty for those without a key of their own."""
        rules, hour = self.rules, batch.at_s // HOUR_S
        of_user = self._user(batch.user_id)
        if key_id:
            key = self._key(key_id)
            for finding in self._spend(key.spend, batch, hour, key_id):
                of_user.told = hour  # once is enough
                yield finding
            yield from self._clients(key, key_id, batch)
            if rules.refusals:
                yield from self._refusals(key, key_id, batch, hour)
        if batch.nusd:
            yield from self._spend(of_user, batch, hour, "")

    def network(self, key_id: str, user_id: str, network: str, at_s: int) -> Finding | None:
        """A key is used from there."""
        rules, hour = self.rules, at_s // HOUR_S
        if not rules.addresses:
            return None
        key = self._key(key_id)
        if hour != key.network_hour:
            key.network_hour, key.networks = hour, set()
        if len(key.networks) < rules.addresses:
            key.networks.add(network)
        if len(key.networks) < rules.addresses or key.told_networks == hour:
            return None
        key.told_networks = hour
        text = f"{self._whose(key_id, user_id)} was used from {len(key.networks)} networks within an hour."
        return _finding("addresses", key_id, user_id, text, {"networks": len(key.networks)}, hour)

    def _spend(self, spend: Spend, batch: Batch, hour: int, key_id: str) -> Iterator[Finding]:
        spend.add(batch.nusd, hour)
        usual = spend.unusual(self.rules) if batch.nusd else 0
        if not usual:
            return
        times = spend.spent / usual
        who = self._whose(key_id, batch.user_id) if key_id else f"The user {batch.user_id}"
        text = (
            f"{who} spent {format_usd(spend.spent)} this hour; the usual hour is {format_usd(int(usual))} "
            f"({times:,.0f} times)."
        )
        data = {"spent_nusd": str(spend.spent), "usual_nusd": str(int(usual)), "times": int(times)}
        yield _finding("spend", key_id, batch.user_id, text, data, spend.hour)

    def _clients(self, key: KeyState, key_id: str, batch: Batch) -> Iterator[Finding]:
        known_enough = 0 < self.rules.new_client_calls <= key.calls and 0 < len(key.clients) < CLIENTS
        for client in batch.clients:
            if not client or client in key.clients or len(key.clients) >= CLIENTS:
                continue
            if known_enough:
                usual = ", ".join(sorted(key.clients)[:3])
                who = self._whose(key_id, batch.user_id)
                text = f"{who} was used with {plain(client)} for the first time; so far with {plain(usual)}."
                yield _finding("new_client", key_id, batch.user_id, text, {"client": client}, plain(client))
            key.clients.add(client)
        key.calls += batch.calls

    def _refusals(self, key: KeyState, key_id: str, batch: Batch, hour: int) -> Iterator[Finding]:
        rules, counts = self.rules, key.counts
        half = 2 * batch.at_s // rules.refusals_s
        if half > key.half:
            counts[2:] = counts[:2] if half == key.half + 1 else (0, 0)
            counts[:2] = (0, 0)
            key.half = half
        counts[0] += batch.refused
        counts[1] += batch.calls - batch.refused
        refused, others = counts[0] + counts[2], counts[1] + counts[3]
        if refused < rules.refusals or others >= 2 * refused or key.told_refusals == hour:
            return
        key.told_refusals = hour
        who, minutes = self._whose(key_id, batch.user_id), max(1, round(rules.refusals_s / 60))
        text = f"{who} was refused {refused:,} times within {minutes} minutes, and {others:,} calls went well."
        yield _finding("refusals", key_id, batch.user_id, text, {"refused": refused, "others": others}, hour)

    def _whose(self, key_id: str, user_id: str) -> str:
        return f"The key {self._called(key_id)} of user {user_id}"

    def _key(self, key_id: str) -> KeyState:
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = KeyState()
            if len(self._keys) > self.rules.max_subjects:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key_id)
        return key

    def _user(self, user_id: str) -> Spend:
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = Spend()
            if len(self._users) > self.rules.max_subjects:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(user_id)
        return user


def plain(text: str) -> str:
    """What a client calls itself, without anything that could move a cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _finding(rule: Rule, key_id: str, user_id: str, text: str, data: dict[str, Any], what: int | str) -> Finding:
    subject = f"key:{key_id}" if key_id else f"user:{user_id}"
    facts = {"rule": rule, "key_id": key_id, "user_id": user_id, **data}
    return Finding(rule, key_id, user_id, text, facts, f"anomaly:{rule}:{subject}:{what}")

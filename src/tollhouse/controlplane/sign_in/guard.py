"""Who guesses passwords waits longer and longer: by account, and by network address.

The account is known by the e-mail that was typed, whether anybody has it or not, so that a lock-out tells nothing. The
address of IPv6 is a network of 64 bits, which is what one house has. Both are kept as keyed hashes.
"""

import hmac
import ipaddress
import math
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in.lockouts import Lockouts
from tollhouse.controlplane.sign_in.notes import note
from tollhouse.controlplane.sign_in.options import SignInOptions
from tollhouse.controlplane.sign_in.refusals import Refusals
from tollhouse.rules.lockout import NONE, NS_PER_S, Lockout, after_good_try, after_try, wait_s
from tollhouse.storage.database import Database
from tollhouse.storage.failures import forget_old_failures, get_failures, put_failures
from tollhouse.storage.passwords import holders_of_email
from tollhouse.terms.notices import Notice


class Try(msgspec.Struct, frozen=True):
    """One that was let through: whose, by their hashes."""

    account: bytes | None
    address: bytes


class Guard:
    def __init__(
        self,
        database: Database,
        server_secret: bytes,
        options: SignInOptions,
        now_ns: Callable[[], int],
        refusals: Refusals,
        notify: Callable[[Notice], None] = lambda _notice: None,
    ) -> None:
        self._database = database
        self._secret = hmac.digest(server_secret, b"tollhouse failures", "sha256")
        self._options = options
        self._now_ns = now_ns
        self._refusals = refusals
        self._lockouts = Lockouts(notify)

    async def enter(self, email: str, address: str) -> Try:
        """Counts a try of a password. Raises Problem (429) while the account or the address has to wait."""
        tried = Try(self._subject("account", email), self._subject("address", network_of(address)))
        await self._count(
            [(tried.account, self._options.by_account), (tried.address, self._options.by_address)], address, email
        )
        return tried

    async def sign_up(self, address: str) -> None:
        """Counts a new account. Raises Problem (429) when this address has made too many."""
        await self._count([(self._subject("sign-up", network_of(address)), self._options.sign_ups)], address)

    async def good(self, tried: Try) -> None:
        """The password was right: the account starts anew, the address gets its try back."""

        def forgive(connection: Connection) -> None:
            if tried.account is not None:
                put_failures(connection, tried.account, NONE)
            found = get_failures(connection, tried.address)
            put_failures(connection, tried.address, after_good_try(found, self._options.by_address))

        await self._database.run(forgive)

    def forget(self, connection: Connection) -> int:
        """Remove what is too old to count, and what is too much."""
        rules = (self._options.by_account, self._options.by_address, self._options.sign_ups)
        oldest_s = max(rule.forget_s + rule.longest_s for rule in rules)
        return forget_old_failures(connection, self._now_ns() - int(oldest_s * NS_PER_S), self._options.max_failures)

    async def _count(self, rules: list[tuple[bytes | None, Lockout]], address: str, email: str | None = None) -> None:
        counted = [(subject, rule) for subject, rule in rules if subject is not None]
        now_ns = self._now_ns()

        def count(connection: Connection) -> tuple[float, list[tuple[bytes, int, str | None]]]:
            found = [get_failures(connection, subject) for subject, _ in counted]
            wait = max(wait_s(failures, now_ns) for failures in found)
            if not wait:
                for (subject, rule), failures in zip(counted, found, strict=True):
                    put_failures(connection, subject, after_try(failures, rule, now_ns))
            met: list[tuple[bytes, int, str | None]] = []
            for (subject, rule), failures in zip(counted, found, strict=True):
                if email is not None and wait_s(failures, now_ns):
                    whose = _holder(connection, email) if rule is self._options.by_account else None
                    met.append((subject, failures.until_ns, whose))
            return wait, met

        wait, met = await self._database.run(count)
        for subject, until_ns, user_id in met:
            self._lockouts.met(subject, until_ns, user_id=user_id, address=address, now_ns=now_ns)
        if wait:
            note("refused", address=address, because="too many tries")
            await self._refusals.put("locked out", "too many tries")
            raise Problem(
                429,
                "too_many_attempts",
                f"There were too many tries. The next one is looked at in {math.ceil(wait)} seconds.",
                headers={"retry-after": str(math.ceil(wait))},
            )

    def _subject(self, kind: str, name: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}\0{name}".encode("utf-8", "replace"), "sha256")


def _holder(connection: Connection, email: str) -> str:
    """Who would sign in with what was typed; empty for nobody."""
    typed = email.replace("\0", "").encode("utf-8", "replace").decode()
    return next(iter(holders_of_email(connection, typed)), "")


def network_of(address: str) -> str:
    """What one client is known by: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
    return str(found)

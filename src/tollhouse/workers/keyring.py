"""The keyring: the secret of each provider, read anew before it runs out.

    read ─ same ─────────────────────────────────────────── serve on
         └ new ──── serve the new, keep the old for overlap_s
                    ├ refused by the provider ─ serve the old again, try the new once more after overlap_s
                    └ not refused ───────────── forget the old
         └ failed ─ serve the old, tell it once, try again

A source that fails changes nothing for calls: the secret that was read serves on, also beyond its lifetime, as long as
its provider takes it. When the provider refuses it and there is no older one to go back to, the source is read at once:
somebody may have replaced the secret earlier than it was due. That is bounded by `refused_refresh_s`, whatever calls
come.

A secret is read again when `early` of its lifetime is over, a little earlier or later by chance, so that many gateways
do not come to their Vault together.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tollhouse.ports import Reading, Source
from tollhouse.terms.errors import SettingsError, SourceError
from tollhouse.terms.notices import Notice, NoticeKind

_log = logging.getLogger("tollhouse.keyring")

NEVER = float("inf")
UNKNOWN_KEY = 401
"""By which a provider says that it does not know the key. 403 it also says of what one caller asked for, such as a
model that its account has not: then no other key is taken, or that caller could undo a rotation.
"""
LEAST_S = 0.01
"""Between two looks of a source that says itself when to look again."""


class KeyringOptions(msgspec.Struct, frozen=True):
    """Numbers of the keyring; settings under `key_sources`."""

    overlap_s: float = 600.0
    early: float = 0.8
    jitter: float = 0.1
    """At most this part of a wait is taken off it, by chance."""
    least_s: float = 1.0
    """Between two reads that nobody asked for."""
    retry_s: float = 5.0
    """After a failure; twice as long after each further one."""
    longest_retry_s: float = 300.0
    refused_refresh_s: float = 10.0


class Wanted(msgspec.Struct, frozen=True):
    """A secret that is to be held. `reference` may be empty: then there is none. `where` it stands is for errors."""

    name: str
    reference: str
    where: str
    patient: bool = False
    """Whether calls wait for it: a secret that cannot be read is then no error."""
    host: str = ""
    """Scheme, host and port it is sent to, where it is bound to that."""


class Held:
    """What is held for one provider. Times are the loop's, except those in nanoseconds, which are for people."""

    def __init__(self, wanted: Wanted, source: Source) -> None:
        self.wanted = wanted
        self.source = source
        self.secret = ""
        self.older = ""
        """The one before, while it may still be good."""
        self.older_until = 0.0
        self.given_up = ""
        """The newer one that the provider refused, while an older one serves."""
        self.given_up_until = NEVER
        self.due_at = NEVER
        self.expires_at = NEVER
        self.read_at_ns = 0
        self.changed_at_ns = 0
        self.failures = 0
        """In a row."""
        self.failure = ""
        self.failing_since_ns = 0
        self.refused_status = 0
        """By which the provider last refused the secret in use."""
        self.refused_at = -NEVER
        self.refreshed_for_it_at = -NEVER
        self.lock = asyncio.Lock()
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def next_at(self) -> float:
        """When something is to be done next."""
        return min(self.due_at, self.older_until if self.older else NEVER, self.given_up_until)


class Keyring:
    """`open_source` opens what a reference names; raises SettingsError.

    problem  why a text cannot be a provider's credential; None when it can
    changed  called whenever another secret is to be used for some provider
    tell     takes notices
    """

    def __init__(
        self,
        open_source: Callable[[Wanted], Source],
        problem: Callable[[str], str | None],
        tell: Callable[[Notice], None],
        options: KeyringOptions,
        *,
        chance: Callable[[], float] = random.random,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.open_source = open_source
        self._problem = problem
        self._tell = tell
        self._options = options
        self._chance = chance
        self._now_ns = now_ns
        self._held: dict[str, Held] = {}
        self.changed: Callable[[], None] = lambda: None

    # --- what is asked of it

    async def hold(self, wanted: Sequence[Wanted]) -> dict[str, str]:
        """Have these secrets at hand; those that are held already stay as they are. By name, why a secret cannot be
        had, of those that are not patient.
        """
        new = [one for one in wanted if one.reference and not self.holds(one)]
        found = await asyncio.gather(*(self._begin(one) for one in new))
        return {one.name: failure for one, failure in zip(new, found, strict=True) if failure}

    async def read_once(self, wanted: Wanted) -> str:
        """Read a secret without holding it; empty where none is wanted. Raises SettingsError, and SourceError for one
        that calls would wait for.
        """
        if not wanted.reference:
            return ""
        source = self.open_source(wanted)
        try:
            reading = await self._good(source)
        except SourceError as error:
            if wanted.patient:
                raise
            raise SettingsError(f"{wanted.where}: {error}") from error
        return reading.secret

    def keep(self, names: Sequence[str]) -> None:
        """Forget all others."""
        for name in self._held.keys() - set(names):
            self._end(self._held.pop(name))

    def holds(self, wanted: Wanted) -> bool:
        """Whether it is this very secret that is held for its name: read from there, to be sent there."""
        held = self._held.get(wanted.name)
        return held is not None and (held.wanted.reference, held.wanted.host) == (wanted.reference, wanted.host)

    def secret(self, name: str) -> str:
        """The one to use; empty when there is none."""
        held = self._held.get(name)
        return held.secret if held is not None else ""

    def unavailable(self, name: str) -> str:
        """Why there is no secret although there should be one, for whoever calls; empty while there is one."""
        held = self._held.get(name)
        if held is None or held.secret:
            return ""
        return f"The credential of {name} cannot be read just now, so nothing can be sent there; it is tried again."

    def read_soon(self, scheme: str) -> None:
        """Something of that kind has changed."""
        for held in self._held.values():
            if held.wanted.reference.startswith(f"{scheme}:"):
                held.due_at = -NEVER
                held.wake.set()

    async def refresh(self, name: str) -> dict[str, Any] | None:
        """Read it now, and tell what is known of it then; None when nothing is held for this name."""
        held = self._held.get(name)
        if held is None:
            return None
        await self._refresh(held)
        held.wake.set()  # the time of the next one is another
        return self.facts(name)

    def refused(self, name: str, status: int) -> None:
        """The provider refuses the secret in use. Never waits."""
        held = self._held.get(name)
        if held is None or not held.secret:
            return
        now = asyncio.get_running_loop().time()
        first = now - held.refused_at > self._options.overlap_s
        held.refused_at, held.refused_status = now, status
        if status == UNKNOWN_KEY and held.older and now < held.older_until:
            self._go_back(held, status, now)
        elif status == UNKNOWN_KEY and held.given_up:
            self._try_again(held, older="", now=now)
        elif first:
            self._say(NoticeKind.CREDENTIAL_REFUSED, held, f"{name} refuses its credential ({status})", status=status)
        if now - held.refreshed_for_it_at >= self._options.refused_refresh_s:
            held.refreshed_for_it_at = now
            held.due_at = now
        held.wake.set()

    def facts(self, name: str) -> dict[str, Any] | None:
        """What can be told of a secret that is held; None without one."""
        held = self._held.get(name)
        if held is None:
            return None
        now, now_ns = asyncio.get_running_loop().time(), self._now_ns()

        def wall_ns(at: float) -> int | None:
            return None if at == NEVER else now_ns + round((at - now) * 1e9)

        return {
            "source": held.source.name,
            "read_at_ns": held.read_at_ns or None,
            "changed_at_ns": held.changed_at_ns or None,
            "expires_at_ns": wall_ns(held.expires_at),
            "next_read_at_ns": wall_ns(held.due_at),
            "overlap_until_ns": wall_ns(held.older_until) if held.older else None,
            "failure": held.failure,
            "failing_since_ns": held.failing_since_ns or None,
            "refused_status": held.refused_status or None,
            "older_serves": bool(held.given_up),
        }

    def warnings(self) -> list[str]:
        """What the operator should know."""
        found = []
        for name, held in self._held.items():
            if held.failure:
                serves = "the one read before serves on" if held.secret else "calls of it are answered 503"
                found.append(
                    f"The credential of {name} cannot be read from {held.source.name}: {held.failure}; {serves}."
                )
            if held.given_up:
                found.append(f"{name} refuses the credential last read from {held.source.name}; the one before serves.")
        return found

    async def stop(self) -> None:
        tasks = [held.task for held in self._held.values() if held.task is not None]
        self.keep(())
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- reading

    async def _begin(self, wanted: Wanted) -> str:
        """Open a source and read it for the first time; why that cannot be."""
        try:
            held = Held(wanted, self.open_source(wanted))
        except SettingsError as error:
            return str(error)
        await self._refresh(held)
        if held.failure and not wanted.patient:
            return f"{wanted.where}: {held.failure}"
        before = self._held.get(wanted.name)
        if before is not None:
            self._end(before)
        self._held[wanted.name] = held
        held.task = asyncio.create_task(self._watch(held), name=f"tollhouse-keyring-{wanted.name}")
        held.task.add_done_callback(_told_if_broken)
        return ""

    def _end(self, held: Held) -> None:
        if held.task is not None:
            held.task.cancel()

    async def _watch(self, held: Held) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wait_s = held.next_at - loop.time()
            if wait_s > 0:
                held.wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if wait_s == NEVER else wait_s):
                        await held.wake.wait()
            now = loop.time()
            if held.older and now >= held.older_until:
                held.older = ""
            if now >= min(held.due_at, held.given_up_until):
                await self._refresh(held)
            if now >= held.given_up_until:  # unless the source says something else by now
                self._try_again(held, older=held.secret, now=now)

    async def _refresh(self, held: Held) -> None:
        async with held.lock:
            try:
                reading = await self._good(held.source)
            except SourceError as error:
                self._failed(held, str(error))
                if error.withdrawn and held.secret:
                    held.secret = held.older = held.given_up = ""
                    held.given_up_until = NEVER
                    self.changed()
            else:
                self._read(held, reading)

    async def _good(self, source: Source) -> Reading:
        """What a source says, if it can be a credential. Raises SourceError."""
        reading = await source.read()
        problem = self._problem(reading.secret)
        if problem is not None:
            raise SourceError(problem.rstrip("."))
        return reading

    def _read(self, held: Held, reading: Reading) -> None:
        options, now = self._options, asyncio.get_running_loop().time()
        held.read_at_ns = self._now_ns()
        held.expires_at = NEVER if reading.lifetime_s is None else now + reading.lifetime_s
        early_s = NEVER if reading.lifetime_s is None else reading.lifetime_s * options.early
        wait_s = min(early_s, NEVER if reading.again_s is None else reading.again_s)
        least_s = options.least_s if reading.again_s is None else LEAST_S
        held.due_at = now + max(least_s, wait_s * (1 - options.jitter * self._chance()))
        if held.failure:
            if held.failing_since_ns and held.task is not None:
                text = f"The credential of {held.wanted.name} is read from {held.source.name} again"
                self._say(NoticeKind.SOURCE_RECOVERED, held, text)
            held.failure, held.failing_since_ns, held.failures = "", 0, 0
        if reading.secret == held.secret:
            held.given_up, held.given_up_until = "", NEVER
        elif reading.secret != held.given_up:
            self._switch(held, reading.secret, now)

    def _failed(self, held: Held, why: str) -> None:
        options, now = self._options, asyncio.get_running_loop().time()
        wait_s = min(options.longest_retry_s, options.retry_s * 2 ** min(held.failures, 30))
        held.due_at = now + wait_s * (1 - options.jitter * self._chance())
        held.failures += 1
        first, held.failure = not held.failure, why
        if first:
            held.failing_since_ns = self._now_ns()
            if held.secret or held.wanted.patient:
                text = f"The credential of {held.wanted.name} cannot be read from {held.source.name}: {why}"
                self._say(NoticeKind.SOURCE_FAILED, held, text)

    # --- which one serves

    def _switch(self, held: Held, secret: str, now: float) -> None:
        """Use a secret that is new here."""
        held.older, held.older_until = held.secret, now + self._options.overlap_s
        held.secret = secret
        held.given_up, held.given_up_until = "", NEVER
        held.refused_status, held.refused_at = 0, -NEVER
        held.changed_at_ns = self._now_ns()
        if held.task is not None:
            if held.older:
                _log.info("%s has a new credential, read from %s", held.wanted.name, held.source.name)
            self.changed()

    def _go_back(self, held: Held, status: int, now: float) -> None:
        """The provider refuses the new one, and the one before may still be good."""
        held.secret, held.given_up, held.older = held.older, held.secret, ""
        held.given_up_until = now + self._options.overlap_s
        held.refused_status, held.refused_at = 0, -NEVER
        text = f"{held.wanted.name} refuses the credential just read ({status}); the one before serves again"
        self._say(NoticeKind.CREDENTIAL_REFUSED, held, text, status=status)
        self.changed()

    def _try_again(self, held: Held, *, older: str, now: float) -> None:
        """The refused one once more: it may have needed its time at the provider, or now the older one is refused."""
        held.secret, held.given_up, held.given_up_until = held.given_up, "", NEVER
        held.older, held.older_until = older, now + self._options.overlap_s
        held.refused_status, held.refused_at = 0, -NEVER
        self.changed()

    def _say(self, kind: NoticeKind, held: Held, text: str, **facts: Any) -> None:
        data = {"provider": held.wanted.name, "source": held.source.name, **facts}
        self._tell(Notice(kind, f"provider {held.wanted.name}", f"{text.rstrip('.')}.", data))


def _told_if_broken(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended in a bug of ours: its credential is not read again", task.get_name(), exc_info=error)

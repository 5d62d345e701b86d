"""Signing in with an e-mail address and a password, and what all ways in have in common: the session they begin.

An answer tells nothing of who is here: an unknown address, a wrong password and one of somebody who signs in elsewhere
only are the same refusal, after the same time. Only signing up tells, for it must: an address is taken or it is not.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from sqlalchemy import Connection

from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.sign_in.book import Browser, SessionBook, SignedIn, record
from tollhouse.controlplane.sign_in.guard import Guard
from tollhouse.controlplane.sign_in.hashing import Hasher
from tollhouse.controlplane.sign_in.issuers import Issuer
from tollhouse.controlplane.sign_in.notes import note
from tollhouse.controlplane.sign_in.options import SignInOptions
from tollhouse.controlplane.sign_in.refusals import Refusals
from tollhouse.controlplane.sign_in.tokens import Tokens
from tollhouse.controlplane.sign_in.trips import Trips
from tollhouse.rules.claims import domain_of, normal_email
from tollhouse.rules.passwords import normal_password
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.storage.invitations import forget_old_invitations
from tollhouse.storage.passwords import (
    Password,
    holders_of_email,
    is_password,
    password_of,
    password_of_user,
    put_password,
    rehash_password,
)
from tollhouse.storage.plans import get_plan
from tollhouse.storage.sessions import end_sessions, end_sessions_of
from tollhouse.terms.errors import StorageError
from tollhouse.terms.notices import Notice
from tollhouse.terms.people import Role, User
from tollhouse.terms.sessions import Session

log = logging.getLogger("tollhouse.sign_in")

CLOSE_S = 5.0
"""How long the end of the process waits until it is written when sessions were used last."""
KEEP_INVITATIONS_NS = 90 * 86_400 * 10**9
"""How long those that are over can still be looked at."""
MAX_RETURNING = 32
"""People coming back from issuers at once, each of whom makes us ask there."""
NS_PER_S = 1_000_000_000
_ID_BYTES = 10


class Doorkeeper:
    """What the routes of signing in are handed. Methods raise Problem and StorageError."""

    def __init__(
        self,
        database: Database,
        server_secret: bytes,
        options: SignInOptions,
        *,
        changed: Callable[[str | None], Awaitable[None]],
        random_bytes: Callable[[int], bytes],
        now_ns: Callable[[], int] = time.time_ns,
        issuers: Iterable[Issuer] = (),
        notify: Callable[[Notice], None] = lambda _notice: None,
    ) -> None:
        self.database = database
        self.options = options
        self.changed = changed
        self.now_ns = now_ns
        self.random_bytes = random_bytes
        self.book = SessionBook(server_secret, options, now_ns, random_bytes)
        self.hasher = Hasher(options.argon2, options.max_waiting)
        self.refusals = Refusals(database, options.refusals_per_minute, now_ns)
        self.guard = Guard(database, server_secret, options, now_ns, self.refusals, notify)
        self.invitation_tokens = Tokens(server_secret, "invitation")
        self.form_tokens = Tokens(server_secret, "form")
        self.captured = dict(options.captured)
        self.issuers = {issuer.options.name: issuer for issuer in issuers}
        self.trips = Trips(server_secret, lambda: now_ns() // NS_PER_S, random_bytes)
        self.returning = asyncio.Semaphore(MAX_RETURNING)

    # --- what the composition root calls

    async def open(self) -> None:
        """Who was signed in before is again."""
        await self.database.run(self.book.load)

    async def people_changed(self, users: Iterable[User]) -> None:
        """After a change of the directory, before anybody is told that it was made."""
        ended = self.book.people_changed(users)
        if ended:
            note("ended", because="blocked, or a lower role", sessions=len(ended))
            await self.database.run(lambda connection: end_sessions(connection, ended))

    async def tidy(self) -> int:
        """Write what is noted, forget what is over. 0: nothing is left to do."""
        flush, tell = self.book.flush(), self.refusals.flush()

        def write(connection: Connection) -> None:
            flush(connection)
            tell(connection)
            self.guard.forget(connection)
            forget_old_invitations(connection, self.now_ns() - KEEP_INVITATIONS_NS)

        await self.database.run(write)
        return 0

    async def close(self) -> None:
        self.hasher.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.tidy()
        except (StorageError, TimeoutError) as error:
            log.warning("when sessions were used last could not be written: %s", str(error) or "no answer")

    # --- sessions

    async def begin(self, user_id: str, browser: Browser, by: str, shown: Password | None = None) -> SignedIn:
        """A new session, in place of the one this browser has. Problem 401 when the password that was shown has changed
        meanwhile.
        """
        if self.book.full:
            raise Problem(503, "too_many_sessions", "Too many people are signed in. Try again later.")
        token, digest, session = self.book.make(user_id, browser)
        replaced = self.book.replaced_by(user_id, browser)

        def write(connection: Connection) -> User:
            user = directory.get_user(connection, user_id)
            if user is None or user.blocked_at_ns is not None:
                raise Problem(403, "user_blocked", "This account is blocked. Ask the operator of this gateway.")
            if user.role is Role.SERVICE:
                raise Problem(403, "service_account", "A service account has keys and does not sign in.")
            if shown is not None and not is_password(connection, shown):
                raise _wrong_credentials()
            record(connection, digest, session, replaced)
            return user

        user = await self.database.run(write)
        self.book.end(replaced)
        self.book.add(digest, session, user.role)
        note("signed in", user_id=user_id, address=browser.address, how=by, session=session.session_id)
        return SignedIn(user, session, token)

    async def end(self, session_ids: Iterable[str], *, by: str) -> int:
        """End some sessions; how many there were."""
        ended = self.book.end_ids(session_ids)
        await self._forget(ended, by)
        return len(ended)

    async def end_of_user(self, user_id: str, *, but: str = "", by: str) -> int:
        """End all of a user's sessions but one; how many there were."""
        ended = self.book.end_of_user(user_id, but)
        await self._forget(ended, by)
        return len(ended)

    async def _forget(self, ended: list[bytes], by: str) -> None:
        if ended:
            note("ended", by=by, sessions=len(ended))
            await self.database.run(lambda connection: end_sessions(connection, ended))

    # --- passwords

    async def sign_in(self, email: str, password: str, browser: Browser) -> SignedIn:
        """Problem 401 when it is not their password, 429 after too many tries."""
        email = self.email(email)
        tried = await self.guard.enter(email, browser.address)
        stored = await self.database.read(lambda connection: password_of(connection, email))
        try:
            given = normal_password(password)
        except ValueError:
            given, stored = "no password", None
        good, newer = await self.hasher.verify(None if stored is None else stored.hash, given)
        if stored is None or not good:
            user_id = "" if stored is None else stored.user_id
            note("refused", user_id=user_id, address=browser.address, because="password")
            await self.refusals.put("refused", "password", user_id=user_id)
            raise _wrong_credentials()
        await self.guard.good(tried)
        await self._refuse_captured(email, stored.user_id)
        if newer is not None:
            old = stored.hash
            await self.database.run(lambda connection: rehash_password(connection, old, newer))
        return await self.begin(stored.user_id, browser, "password", stored)

    async def sign_up(self, email: str, password: str, name: str, browser: Browser) -> SignedIn:
        """Problem 403 where nobody may, 409 when the address is taken."""
        email = self.email(email)
        self._refuse_strangers(email)
        await self.guard.sign_up(browser.address)
        hashed = await self.hashed(password, (email, name))
        user_id, now_ns = self.new_user_id(), self.now_ns()
        plan_id = self.options.default_plan or None
        user = User(user_id, name=name, email=email, created_at_ns=now_ns, plan_id=plan_id)

        def write(connection: Connection) -> None:
            if plan_id is not None and get_plan(connection, plan_id) is None:
                raise Problem(
                    503,
                    "plan_missing",
                    f"There is no plan {plan_id!r}, which sign_in.default_plan names; make it first.",
                )
            self.refuse_taken(connection, email)
            directory.create_user(connection, user)
            put_password(connection, Password(email, user_id, hashed, False, now_ns))

        await self.database.run(write)
        await self.changed(user_id)
        note("signed up", user_id=user_id, address=browser.address)
        return await self.begin(user_id, browser, "sign-up")

    async def change_password(self, session: Session, current: str, new: str, browser: Browser) -> SignedIn:
        """Ends all of the user's sessions, and begins one."""
        user_id = session.user_id

        def query(connection: Connection) -> tuple[User | None, Password | None]:
            return directory.get_user(connection, user_id), password_of_user(connection, user_id)

        user, stored = await self.database.read(query)
        if user is None or stored is None:
            raise Problem(409, "no_password", "You sign in elsewhere and have no password here.")
        tried = await self.guard.enter(stored.email, browser.address)
        try:
            given = normal_password(current)
        except ValueError:
            given = ""
        good, _ = await self.hasher.verify(stored.hash, given)
        if not good:
            await self.refusals.put("refused", "current password", user_id=user_id)
            raise _wrong_password()
        await self.guard.good(tried)
        hashed = await self.hashed(new, (stored.email, user.name), field="new_password")
        await self._set_password(Password(stored.email, user_id, hashed, stored.vouched, self.now_ns()), stored)
        note("changed password", user_id=user_id, address=browser.address)
        return await self.begin(user_id, browser, "password change")

    async def _set_password(self, password: Password, shown: Password) -> None:
        """Whoever was signed in with the old one is not any more. Problem 403 when it has changed meanwhile."""

        def write(connection: Connection) -> None:
            if not is_password(connection, shown):
                raise _wrong_password()
            put_password(connection, password)
            end_sessions_of(connection, [password.user_id])

        await self.database.run(write)
        self.book.end_of_user(password.user_id)

    # --- what other ways in need too

    def email(self, text: str) -> str:
        """In its normal form. Problem 400 for what is no address."""
        try:
            return normal_email(text)
        except ValueError as error:
            raise invalid("email", str(error)) from None

    def new_user_id(self) -> str:
        return f"usr_{self.random_bytes(_ID_BYTES).hex()}"

    async def hashed(self, password: str, about: Iterable[str], *, field: str = "password") -> str:
        """Problem 400 for a password that is not taken."""
        try:
            normal = normal_password(password)
        except ValueError as error:
            raise invalid(field, str(error)) from None
        options = self.options
        why = await self.hasher.weakness(normal, tuple(about), min_chars=options.min_chars, min_score=options.min_score)
        if why is not None:
            raise Problem(400, "weak_password", f"{field}: {why}.", field=field)
        return await self.hasher.hash(normal)

    def refuse_taken(self, connection: Connection, email: str, but: str | None = None) -> None:
        """Problem 409 when the address is somebody's."""
        if set(holders_of_email(connection, email)) - {but}:
            raise Problem(
                409,
                "email_taken",
                "There is an account of this e-mail address already. Sign in with it.",
                field="email",
            )

    def _refuse_strangers(self, email: str) -> None:
        domain = domain_of(email)
        if self.options.sign_up == "closed":
            raise Problem(403, "sign_up_closed", "Accounts are made by invitation here. Ask the operator for one.")
        if self.options.sign_up == "domains" and domain not in self.options.sign_up_domains:
            raise Problem(403, "sign_up_domain", "Accounts are not open to addresses of this domain.", field="email")
        if domain in self.captured:
            raise use_issuer(self.captured[domain])

    async def _refuse_captured(self, email: str, user_id: str) -> None:
        issuer = self.captured.get(domain_of(email))
        if issuer is None:
            return
        user = await self.database.read(lambda connection: directory.get_user(connection, user_id))
        if user is None or user.role is not Role.OWNER:
            raise use_issuer(issuer)


def _wrong_credentials() -> Problem:
    return Problem(401, "wrong_credentials", "The e-mail address or the password is wrong.")


def _wrong_password() -> Problem:
    return Problem(403, "wrong_password", "The current password is wrong.", field="current_password")


def use_issuer(name: str) -> Problem:
    return Problem(
        403,
        "use_issuer",
        f"People of this domain sign in with {name}.",
        extra={"issuer": name, "sign_in": f"/api/v1/sign-in/oidc/{name}"},
    )

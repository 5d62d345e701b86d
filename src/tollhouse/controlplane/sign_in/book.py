"""Who is signed in, in memory: what the gate and the data plane ask. The database has the same sessions, so that they
outlive a restart.

A session ends after `idle_s` without use, and after `max_s` in any case. Its use is noted in memory at most once in
`touch_s`, and written to the database with all others by `flush`. So after a crash a session may end up to `touch_s`
and one flush too early, never too late.

    end       at once in memory, then in the database
    blocked   a blocked user's sessions end; so do those of somebody whose role is lowered
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import msgspec
from sqlalchemy import Connection

from tollhouse.controlplane.sign_in.options import SignInOptions
from tollhouse.controlplane.sign_in.tokens import TOKEN_BYTES, Tokens
from tollhouse.rules.roles import lowers
from tollhouse.storage.sessions import (
    add_session,
    end_sessions,
    forget_old_sessions,
    live_sessions,
    touch_sessions,
)
from tollhouse.terms.people import Role, User
from tollhouse.terms.sessions import Session

NS_PER_S = 1_000_000_000
_ID_BYTES = 10


class Browser(msgspec.Struct, frozen=True):
    """Who signs in, as the connection tells: `token` is of the session it has already."""

    address: str = ""
    client: str = ""
    token: str = ""


class SignedIn(msgspec.Struct, frozen=True):
    """A new session; its token is known now and never again."""

    user: User
    session: Session
    token: str


class SessionBook:
    """A `ports.SessionFinder`. All methods run on the loop and never wait."""

    def __init__(
        self,
        server_secret: bytes,
        options: SignInOptions,
        now_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._tokens = Tokens(server_secret, "session")
        self._options = options
        self._now_ns = now_ns
        self._random_bytes = random_bytes
        self._idle_ns, self._max_ns, self._touch_ns = (
            int(seconds * NS_PER_S) for seconds in (options.idle_s, options.max_s, options.touch_s)
        )
        self._by_digest: dict[bytes, Session] = {}
        self._by_id: dict[str, bytes] = {}
        self._of_user: defaultdict[str, dict[bytes, None]] = defaultdict(dict)
        """Oldest first."""
        self._roles: dict[str, Role] = {}
        """Of those who are signed in."""
        self._touched: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, token: str) -> Session | None:
        """See `ports.SessionFinder`."""
        digest = self._tokens.digest(token)
        session = None if digest is None else self._by_digest.get(digest)
        if session is None or digest is None:
            return None
        now_ns = self._now_ns()
        if now_ns >= session.expires_at_ns:
            return None
        if now_ns - session.seen_at_ns >= self._touch_ns:
            expires_at_ns = min(now_ns + self._idle_ns, session.ends_at_ns)
            session = msgspec.structs.replace(session, seen_at_ns=now_ns, expires_at_ns=expires_at_ns)
            self._by_digest[digest] = session
            self._touched.add(digest)
        return session

    def by_id(self, session_id: str) -> Session | None:
        digest = self._by_id.get(session_id)
        session = None if digest is None else self._by_digest[digest]
        return session if session is not None and self._now_ns() < session.expires_at_ns else None

    def sessions(self, user_id: str | None = None) -> Iterator[Session]:
        """Those that are not over, of one user or of all."""
        now_ns = self._now_ns()
        digests: Iterable[bytes] = self._by_digest if user_id is None else self._of_user.get(user_id, ())
        for digest in digests:
            session = self._by_digest[digest]
            if now_ns < session.expires_at_ns:
                yield session

    # --- beginning

    def make(self, user_id: str, browser: Browser) -> tuple[str, bytes, Session]:
        """Token, its digest and a session that is not in the book yet."""
        now_ns = self._now_ns()
        token = self._tokens.mint(self._random_bytes(TOKEN_BYTES))
        digest = self._tokens.digest(token)
        assert digest is not None
        session = Session(
            f"ses_{self._random_bytes(_ID_BYTES).hex()}",
            user_id,
            csrf=self._csrf(digest),
            created_at_ns=now_ns,
            seen_at_ns=now_ns,
            expires_at_ns=now_ns + min(self._idle_ns, self._max_ns),
            ends_at_ns=now_ns + self._max_ns,
            address=browser.address,
            client=browser.client,
        )
        return token, digest, session

    def replaced_by(self, user_id: str, browser: Browser) -> list[bytes]:
        """What ends when this browser signs somebody in: its own session, and the user's oldest when there are too
        many.
        """
        ending = dict.fromkeys(
            list(self._of_user.get(user_id, ()))[: -(self._options.max_sessions_of_user - 1) or None]
        )
        own = self._tokens.digest(browser.token)
        if own is not None and own in self._by_digest:
            ending[own] = None
        return list(ending)

    @property
    def full(self) -> bool:
        return len(self._by_digest) >= self._options.max_sessions

    def add(self, digest: bytes, session: Session, role: Role) -> None:
        self._by_digest[digest] = session
        self._by_id[session.session_id] = digest
        self._of_user[session.user_id][digest] = None
        self._roles[session.user_id] = role

    # --- ending

    def end(self, digests: Iterable[bytes]) -> list[bytes]:
        """Out of memory at once; what the database is to forget."""
        ended = []
        for digest in list(digests):
            session = self._by_digest.pop(digest, None)
            if session is None:
                continue
            ended.append(digest)
            del self._by_id[session.session_id]
            self._touched.discard(digest)
            of_user = self._of_user[session.user_id]
            del of_user[digest]
            if not of_user:
                del self._of_user[session.user_id]
                self._roles.pop(session.user_id, None)
        return ended

    def end_ids(self, session_ids: Iterable[str]) -> list[bytes]:
        return self.end([self._by_id[session_id] for session_id in session_ids if session_id in self._by_id])

    def end_of_user(self, user_id: str, but: str = "") -> list[bytes]:
        """All of a user's, but the one of an id."""
        kept = self._by_id.get(but)
        return self.end([digest for digest in self._of_user.get(user_id, ()) if digest != kept])

    def people_changed(self, users: Iterable[User]) -> list[bytes]:
        """Ends the sessions of who is blocked now, or may do less than before."""
        ended: list[bytes] = []
        if not self._by_digest:
            return ended
        for user in users:
            role = self._roles.get(user.user_id)
            if role is None:
                continue
            if user.blocked_at_ns is not None or lowers(role, user.role):
                ended += self.end_of_user(user.user_id)
            else:
                self._roles[user.user_id] = user.role
        return ended

    # --- the database's side

    def load(self, connection: Connection) -> None:
        """All that outlived the last run."""
        for digest, session, role in live_sessions(connection, self._now_ns()):
            if not self.full:
                self.add(digest, msgspec.structs.replace(session, csrf=self._csrf(digest)), role)

    def flush(self) -> Callable[[Connection], int]:
        """What to write: the sessions seen since the last time. Those that are over leave the book."""
        now_ns = self._now_ns()
        self.end([digest for digest, session in self._by_digest.items() if now_ns >= session.expires_at_ns])
        touched = {digest: self._by_digest[digest] for digest in self._touched}
        self._touched.clear()

        def write(connection: Connection) -> int:
            touch_sessions(connection, touched)
            return forget_old_sessions(connection, now_ns)

        return write

    def _csrf(self, digest: bytes) -> str:
        return self._tokens.derived(digest, "csrf")


def record(connection: Connection, digest: bytes, session: Session, ended: Iterable[bytes]) -> None:
    """Write a new session, and the end of those it replaces."""
    end_sessions(connection, list(ended))
    add_session(connection, digest, session)

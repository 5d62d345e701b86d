"""The numbers of signing in, handed down by the composition root."""

from typing import Literal

import msgspec

from tollhouse.rules.lockout import Lockout

HOUR_S = 3_600
DAY_S = 86_400


class Argon2(msgspec.Struct, frozen=True):
    """Cost of one hash. These are OWASP's for 19 MiB: some 40 ms of one core, and the memory while it lasts."""

    passes: int = 2
    memory_kib: int = 19_456
    lanes: int = 1


class SignInOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds.

    sign_up         who may make an account: nobody without an invitation, anybody, or addresses of some domains
    default_plan    what they get
    idle_s, max_s   a session ends after so long without use, and after so long in any case
    touch_s         how often its use is noted
    refusals_per_minute   who is not let in: so many of one reason are told one by one in the audit trail
    ways            name and label of each issuer, for the sign-in page
    captured        domain → the issuer at which its people sign in, and no other way (owners may, to get back in)
    """

    public_url: str = ""
    sign_up: Literal["closed", "open", "domains"] = "closed"
    sign_up_domains: tuple[str, ...] = ()
    default_plan: str = ""
    min_chars: int = 12
    min_score: int = 3
    argon2: Argon2 = Argon2()
    max_waiting: int = 32
    by_account: Lockout = Lockout(5, 30, 900, DAY_S)
    by_address: Lockout = Lockout(30, 30, 900, HOUR_S)
    sign_ups: Lockout = Lockout(20, 60, HOUR_S, HOUR_S)
    max_failures: int = 100_000
    refusals_per_minute: int = 20
    idle_s: float = HOUR_S
    max_s: float = 12 * HOUR_S
    touch_s: float = 60
    max_sessions: int = 100_000
    max_sessions_of_user: int = 20
    invitation_s: float = 7 * DAY_S
    setup_s: float = DAY_S
    ways: tuple[tuple[str, str], ...] = ()
    captured: tuple[tuple[str, str], ...] = ()

"""Signing in, put together from the settings."""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from tollhouse.app.store import Store
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.options import Argon2, SignInOptions
from tollhouse.rules.lockout import Lockout
from tollhouse.settings import Settings
from tollhouse.settings import sign_in as section
from tollhouse.workers import Upkeep

TIDY_S = 60.0
"""How often the use of sessions is written, and what is over forgotten."""


def sign_in_options(settings: Settings) -> SignInOptions:
    people = settings.sign_in
    password, session = people.password, people.session
    return SignInOptions(
        public_url=settings.listen.public_url,
        sign_up=people.sign_up,
        sign_up_domains=tuple(domain.casefold() for domain in people.domains),
        default_plan=people.default_plan,
        min_chars=password.min_chars,
        min_score=password.min_score,
        argon2=Argon2(password.argon2_passes, password.argon2_memory_kib, password.argon2_lanes),
        max_waiting=password.max_waiting,
        by_account=_lockout(people.account_lockout),
        by_address=_lockout(people.address_lockout),
        sign_ups=_lockout(people.sign_up_lockout),
        idle_s=session.idle_s,
        max_s=session.max_s,
        max_sessions=session.max_total,
        max_sessions_of_user=session.max_per_user,
        invitation_s=people.invitation_s,
        setup_s=people.setup_s,
        ways=tuple((row.name, row.label or row.name) for row in people.issuers),
        captured=tuple((domain, row.name) for row in people.issuers if row.capture for domain in row.domains),
    )


def _lockout(rule: section.Lockout) -> Lockout:
    return Lockout(rule.free, rule.first_s, rule.longest_s, rule.forget_s)


async def open_doorkeeper(
    settings: Settings, store: Store, changed: Callable[[str | None], Awaitable[None]], opened: AsyncExitStack
) -> Doorkeeper:
    """With those who were signed in before; `opened` closes it."""
    keeper = Doorkeeper(
        store.database,
        store.server_secret,
        sign_in_options(settings),
        changed=changed,
        random_bytes=secrets.token_bytes,
    )
    opened.push_async_callback(keeper.close)
    await keeper.open()
    tidying = Upkeep(keeper.tidy, interval_s=TIDY_S)
    tidying.start()
    opened.push_async_callback(tidying.stop)
    return keeper

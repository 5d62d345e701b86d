"""Signing in, put together from the settings."""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from tollhouse.app.providers import tls_context
from tollhouse.app.store import Store
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.fetching import Reach
from tollhouse.controlplane.sign_in.issuers import GitHub, Issuer, IssuerOptions, OpenIdProvider
from tollhouse.controlplane.sign_in.options import Argon2, SignInOptions
from tollhouse.rules.lockout import Lockout
from tollhouse.settings import Settings, read_secret
from tollhouse.settings import sign_in as section
from tollhouse.terms.notices import Notice
from tollhouse.workers import Upkeep

PRESETS = {
    "google": ("https://accounts.google.com", "openid email profile"),
    "github": ("https://github.com", "read:user user:email"),
}
"""Issuer and scopes of those that have a name in the settings."""
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
        refusals_per_minute=people.refusals_per_minute,
        invitation_s=people.invitation_s,
        setup_s=people.setup_s,
        ways=tuple((row.name, row.label or row.name) for row in people.issuers),
        captured=tuple((domain, row.name) for row in people.issuers if row.capture for domain in row.domains),
    )


def _issuer(settings: Settings, row: section.IssuerSettings) -> Issuer:
    """Raises SettingsError for a secret that is not there."""
    issuer, scopes = PRESETS.get(row.preset, (row.issuer, "openid email profile"))
    where = f"sign_in.issuers.{row.name}.client_secret"
    options = IssuerOptions(
        name=row.name,
        issuer=issuer,
        client_id=row.client_id,
        client_secret=read_secret(row.client_secret, where=where) if row.client_secret else "",
        scopes=row.scopes or scopes,
        algorithms=frozenset(row.algorithms),
        rules=row.rules(f"oidc:{row.name}"),
        sign_up=row.sign_up,
        link_by_email=row.link_by_email,
        leeway_s=int(row.leeway_s),
        extra=(("hd", row.domains[0]),) if row.preset == "google" and len(row.domains) == 1 else (),
    )
    reach = Reach(timeout_s=row.timeout_s, tls=tls_context(settings))
    return GitHub(options, reach) if row.preset == "github" else OpenIdProvider(options, reach)


def _lockout(rule: section.Lockout) -> Lockout:
    return Lockout(rule.free, rule.first_s, rule.longest_s, rule.forget_s)


async def open_doorkeeper(
    settings: Settings,
    store: Store,
    changed: Callable[[str | None], Awaitable[None]],
    notify: Callable[[Notice], None],
    opened: AsyncExitStack,
) -> Doorkeeper:
    """With those who were signed in before; `opened` closes it."""
    keeper = Doorkeeper(
        store.database,
        store.server_secret,
        sign_in_options(settings),
        changed=changed,
        random_bytes=secrets.token_bytes,
        issuers=[_issuer(settings, row) for row in settings.sign_in.issuers],
        notify=notify,
    )
    opened.push_async_callback(keeper.close)
    await keeper.open()
    tidying = Upkeep(keeper.tidy, interval_s=TIDY_S)
    tidying.start()
    opened.push_async_callback(tidying.stop)
    return keeper

"""Asks providers whether they take a credential."""

import math
import time

import msgspec

from tollhouse.app.fleet import Fleet
from tollhouse.controlplane.credential_terms import ProviderWord
from tollhouse.controlplane.rates import Rates
from tollhouse.rules.base_urls import BaseUrlError
from tollhouse.settings import Settings
from tollhouse.terms.errors import Refusal, SettingsError, UpstreamError
from tollhouse.terms.holds import ZeroHold
from tollhouse.upstream.fetch import fetch
from tollhouse.upstream.own_endpoint import OwnEndpoints
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.providers import models_request

TESTING = ZeroHold("credential_test")


class CredentialAsker:
    """Through the pool that calls go through."""

    def __init__(self, settings: Settings, fleet: Fleet, pool: Pool, own: OwnEndpoints | None = None) -> None:
        self._options = settings.vault
        self._fleet = fleet
        self._pool = pool
        self._own = own
        self._rates = Rates(self._options.tests_per_minute, settings.management.max_names, time.monotonic)

    async def __call__(self, who: str, name: str, host: str, secret: str, base_url: str) -> ProviderWord:
        """See `AskProvider`. Raises Refusal (429)."""
        wait_s = self._rates.wait_s(who)
        if wait_s:
            most = self._options.tests_per_minute
            raise Refusal(
                429,
                "rate_limited",
                f"More than {most} tests of credentials a minute (vault.tests_per_minute). Try again in "
                f"{math.ceil(wait_s)} s.",
                retry_after_s=wait_s,
            )
        self._rates.count(who)
        provider = self._fleet.named(name)
        if provider is not None and base_url:
            try:
                provider = None if self._own is None else self._own.of(provider, base_url)
            except (BaseUrlError, SettingsError) as error:
                return ProviderWord(0, f"Its endpoint cannot be called: {error}", 0.0)
        if provider is None or provider.origin.address != host:
            return ProviderWord(0, "The provider is no longer there.", 0.0)
        started = time.monotonic()
        try:
            request = models_request(provider, secret)
            answer = await fetch(self._pool, TESTING, provider.origin, request, timeout_s=self._options.test_timeout_s)
            status, words = answer.status, _words(answer.body)
        except UpstreamError as error:
            status, words = 0, f"It could not be asked: {error}"
        return ProviderWord(status, words, round((time.monotonic() - started) * 1e3, 1))


def _words(body: bytes) -> str:
    """The message of an error in a provider's own envelope, else the text; nothing of a list of models."""
    try:
        tree = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace")
    error = tree.get("error") if isinstance(tree, dict) else None
    if isinstance(error, str):
        return error
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""

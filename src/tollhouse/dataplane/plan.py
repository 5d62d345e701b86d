"""Where to: the ordered attempts for a request. Pure over rows, providers and prices, so the answer is remembered by
model.
"""

from collections.abc import Callable

import msgspec

from tollhouse.rules.prices import ModelFacts
from tollhouse.rules.routes import RouteRow, resolve
from tollhouse.terms.credentials import PaidBy
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import Endpoint
from tollhouse.upstream.providers import DIALECT_OF, Lane, Provider

MAX_REMEMBERED = 4096
SHARED = PaidBy.SHARED.value.encode()


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """One way to answer: a provider, its endpoint, the model's name there, what is known of its price and size."""

    provider: Provider
    lane: Lane | None
    """None when the provider lacks this endpoint (only counting tokens can be answered without)."""
    requested_model: str
    upstream_model: str
    facts: ModelFacts
    credential_id: str = ""
    """The stored credential it is sent with; empty: the provider's own."""
    payer: bytes = SHARED
    """Whose key that is (`terms.credentials.PaidBy`)."""


class Planner:
    """Knows all providers; others may be handed in at any time, which leaves what was planned as it is."""

    def __init__(self, providers: tuple[Provider, ...], facts: Callable[[Provider, str], ModelFacts]) -> None:
        self._facts = facts
        self._remembered: dict[tuple[str, Endpoint], tuple[Attempt, ...]] = {}
        self.adopt(providers)

    def adopt(self, providers: tuple[Provider, ...]) -> None:
        """From now on there are these, and what is known of their models may have changed."""
        self.providers = {provider.name: provider for provider in providers}
        self._rows = tuple(RouteRow(provider.name, provider.models, provider.dialects) for provider in providers)
        self._remembered.clear()

    def plan(self, model: str, endpoint: Endpoint) -> tuple[Attempt, ...]:
        """The attempts for this model, best first; at least one. Raises Refusal (400 unknown_model, wrong_dialect)."""
        plan = self._remembered.get((model, endpoint))
        if plan is None:
            plan = (self._attempt(model, endpoint),)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[model, endpoint] = plan
        return plan

    def _attempt(self, model: str, endpoint: Endpoint) -> Attempt:
        resolved = resolve(self._rows, model, DIALECT_OF[endpoint])
        provider = self.providers[resolved.provider]
        lane = provider.lanes.get(endpoint)
        if lane is None and endpoint is not Endpoint.COUNT_TOKENS:
            raise Refusal(400, "wrong_dialect", f"The provider {provider.name} has no endpoint for {endpoint}.")
        facts = self._facts(provider, resolved.upstream_model)
        return Attempt(provider, lane, model, resolved.upstream_model, facts)

    def models(self) -> list[tuple[str, str]]:
        """What can be listed by name: (model, the name of a provider that serves it), in the order of the providers."""
        return [(model, provider.name) for provider in self.providers.values() for model in provider.advertised]

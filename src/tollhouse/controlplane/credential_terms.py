"""Numbers and shapes of stored credentials that the composition root hands in."""

from collections.abc import Awaitable, Callable

import msgspec

from tollhouse.rules.addresses import AddressRules


class CredentialOptions(msgspec.Struct, frozen=True):
    """Bounds of stored credentials.

    own_base_urls     whether users may have theirs sent to an endpoint of their own
    addresses         which addresses such an endpoint may have
    per_user          how many one user may store, one a provider
    max_secret_bytes  of one secret
    tests_per_minute  how often one caller may have a provider asked
    """

    own_base_urls: bool = False
    addresses: AddressRules = AddressRules()
    per_user: int = 20
    max_secret_bytes: int = 4_096
    tests_per_minute: int = 6


DEFAULTS = CredentialOptions()


class ProviderWord(msgspec.Struct, frozen=True):
    """What a provider said of a credential. `status` 0: it could not be asked, and `message` says why."""

    status: int
    message: str
    duration_ms: float


AskProvider = Callable[[str, str, str, str, str], Awaitable[ProviderWord]]
"""One cheap call: on whose behalf, provider's name, the address the secret is bound to, the secret, the base URL of the
user's own endpoint or nothing. Nothing is sent to another address. Raises Refusal (429) for who asks too often.
"""

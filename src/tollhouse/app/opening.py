"""Stored credentials made ready for calls: each opened only for the address it was stored for."""

from tollhouse.rules.base_urls import BaseUrlError
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import SettingsError, VaultError
from tollhouse.terms.names import DEFAULT_ORG
from tollhouse.upstream.own_endpoint import OwnEndpoints
from tollhouse.upstream.providers import Provider, with_credential
from tollhouse.vault import Binding, Vault


class KeyOpener:
    """What the data plane asks when a call first needs a stored credential."""

    def __init__(self, vault: Vault, own: OwnEndpoints | None = None) -> None:
        self._vault = vault
        self._own = own
        """How users' own endpoints are reached; None: not at all."""

    def __call__(self, provider: Provider, credential: Credential) -> Provider:
        """The provider with this credential instead of its own. Raises VaultError, in words for whose it is."""
        if credential.base_url:
            provider = self._at_own(provider, credential.base_url)
        here = provider.origin.address
        if credential.host != here:
            raise VaultError(
                f"it was stored for {credential.host} and is sent nowhere else, but {provider.name} is at {here} now: "
                "store it again if it is meant for there"
            )
        if not self._vault.ready:
            raise VaultError("this gateway has no master key now, and nothing opens without; tell its operator")
        binding = Binding(credential.org_id or DEFAULT_ORG, credential.credential_id, credential.provider, here)
        secret = self._vault.unseal(credential.sealed, binding)
        try:
            return with_credential(provider, secret.decode("ascii"))
        except (SettingsError, UnicodeDecodeError):
            raise VaultError("it cannot stand in a header; store it again") from None

    def _at_own(self, provider: Provider, base_url: str) -> Provider:
        if self._own is None:
            raise VaultError("this gateway calls no endpoints of users' own")
        try:
            return self._own.of(provider, base_url)
        except (BaseUrlError, SettingsError) as error:
            raise VaultError(f"its endpoint cannot be called: {error}") from error

"""Stored credentials made ready for calls, each opened only for the address it was stored for; and what providers say
of them.
"""

from collections.abc import Callable, Mapping

from tollhouse.app.store import Store
from tollhouse.rules.base_urls import BaseUrlError
from tollhouse.storage.credentials import note_refused, refused_now
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import SettingsError, VaultError
from tollhouse.terms.names import DEFAULT_ORG
from tollhouse.terms.notices import Notice
from tollhouse.upstream.own_endpoint import OwnEndpoints
from tollhouse.upstream.providers import Provider, with_credential
from tollhouse.vault import Binding, Vault
from tollhouse.workers import CredentialWatch


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


async def open_credential_watch(store: Store, emit: Callable[[Notice], None]) -> CredentialWatch:
    """A watch that knows what was refused in earlier runs. Raises StorageError."""

    async def note(refused: Mapping[str, int | None]) -> None:
        await store.database.run(lambda connection: note_refused(connection, refused))

    watch = CredentialWatch(note, emit, await store.database.read(refused_now))
    watch.start()
    return watch

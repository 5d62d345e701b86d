"""Where master keys come from, and what is asked and told of the secrets under them."""

import stat
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from tollhouse.controlplane.credential_terms import CredentialOptions
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.settings import Settings, read_secret
from tollhouse.sources import CommandOptions, read_once
from tollhouse.storage.credentials import managed_named
from tollhouse.storage.database import Database
from tollhouse.storage.home import MASTER_KEYS_NAME
from tollhouse.terms.errors import SourceError, StorageError, VaultError
from tollhouse.vault import Binding, MasterKeys, Vault, parse_master_keys
from tollhouse.vault.master_keys import NO_KEYS

WHERE = "vault.master_keys"


def source_of(settings: Settings) -> str:
    """Where the master keys are read from: `file:…`, `env:…`, `cmd:…`; empty when nobody says and none were made."""
    if settings.vault.master_keys:
        return settings.vault.master_keys
    path = settings.home / MASTER_KEYS_NAME
    return f"file:{path}" if path.exists() else ""


def read_master_keys(settings: Settings) -> MasterKeys:
    """As they are there now. Raises SettingsError."""
    source = source_of(settings)
    if not source:
        return NO_KEYS
    if source.startswith("cmd:"):
        helper = CommandOptions(**settings.key_sources.command.model_dump())
        return parse_master_keys(read_once(source, where=WHERE, command=helper), where=f"{WHERE} (its helper's output)")
    return parse_master_keys(read_secret(source, where=WHERE), where=f"{WHERE} ({source})")


def credential_options(settings: Settings) -> CredentialOptions:
    vault = settings.vault
    return CredentialOptions(
        own_base_urls=vault.own_base_urls,
        addresses=AddressRules(read_networks(vault.allowed_networks)),
        per_user=vault.credentials_per_user,
        max_secret_bytes=vault.max_secret_bytes,
        tests_per_minute=vault.tests_per_minute,
    )


def vault_warnings(settings: Settings, vault: Vault) -> Iterator[str]:
    """What is wrong with the master keys, for the operator to read."""
    if vault.unopened:
        yield (
            f"{vault.unopened:,} stored secrets cannot be opened: they lie under master keys that are not configured "
            "here, or not the same. Restore those (`tollhouse vault status` names them), or have the secrets stored "
            "again."
        )
    source = source_of(settings)
    if source.startswith("file:"):
        path = Path(source.removeprefix("file:")).expanduser()
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if mode & 0o077:
            yield f"{path} holds master keys and can be read by others (mode {mode:o}): chmod go= '{path}'"


async def read_stored(database: Database, vault: Vault, name: str, host: str) -> str:
    """As `stored_secret`, for a keyring. Raises SourceError; with `withdrawn` when the operator has removed it."""
    try:
        there = await database.read(lambda connection: bool(managed_named(connection, name)))
        if not there:
            raise SourceError(f"the operator has stored no credential called {name!r}", withdrawn=True)
        return await database.read(lambda connection: stored_secret(connection, vault, name, host))
    except (VaultError, StorageError) as error:
        raise SourceError(str(error)) from error


def stored_secret(connection: Connection, vault: Vault, name: str, host: str) -> str:
    """The secret of the operator's credential of this id or name, for a provider at this address (what `stored:NAME` of
    a provider's row stands for). Raises VaultError, which says why and what to do.
    """
    found = managed_named(connection, name)
    if len(found) != 1:
        there = "none" if not found else "more than one"
        raise VaultError(
            f"there is {there} of the operator's credentials called {name!r} (`tollhouse credentials list`)"
        )
    (credential,) = found
    if credential.host != host:
        raise VaultError(
            f"the credential {name!r} was stored for {credential.host} and is sent nowhere else, not to {host}; store "
            "it again if it is meant for there"
        )
    binding = Binding(credential.org_id, credential.credential_id, credential.provider, credential.host)
    return vault.unseal(credential.sealed, binding).decode()

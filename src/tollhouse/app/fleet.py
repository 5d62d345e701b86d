"""The providers in use, in the order in which they are asked for a model:

1. those of the settings; without any, one for each vendor whose key is in the environment and whose name no file took
2. those that files declare, file by file
3. the embedded model

Declared ones come and go while calls are under way. What stays as it was stays the same object, with its connections;
a call that was planned finishes on what it was planned for. So it is with a credential that changes: the connections
stay, the calls under way are done with the one they were sent with, the next one has the new one.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from tollhouse.app import providers as setup
from tollhouse.app.own_secrets import is_own
from tollhouse.app.store import Store
from tollhouse.dataplane.plan import Planner
from tollhouse.rules import secret_references
from tollhouse.rules.catalog import Catalogue
from tollhouse.rules.credential_kinds import classify
from tollhouse.rules.prices import ModelFacts
from tollhouse.settings import Settings
from tollhouse.settings.sections import ProviderSettings
from tollhouse.sources import read_once
from tollhouse.storage.catalog import open_catalogue
from tollhouse.storage.providers import all_providers
from tollhouse.terms.errors import SettingsError
from tollhouse.terms.providers import ProviderRow
from tollhouse.upstream.local import LocalModel
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.providers import KINDS, Provider, ProviderSpec, build_provider
from tollhouse.workers import Keyring, Wanted

PRICES_NAME = "prices"


class Fleet:
    """`planner`, `catalogue` and `providers` always fit together."""

    def __init__(self, settings: Settings, store: Store, keyring: Keyring) -> None:
        self.settings = settings
        self.store = store
        self.keyring = keyring
        keyring.changed = self._put_together
        self.warnings: list[str] = []
        """What is wrong with declared providers."""
        self.providers: tuple[Provider, ...] = ()
        self.planner = Planner((), self._facts)
        self.pool: Pool | None = None
        """Where connections to providers that went are given up."""
        self._tls = setup.tls_context(settings)
        self._lock = asyncio.Lock()
        self._own = setup.provider_rows(settings)
        self._declared: tuple[ProviderRow, ...] = ()
        self._in_use: tuple[ProviderSettings | ProviderRow, ...] = ()
        self._built: dict[ProviderSpec, tuple[ProviderSpec, Provider]] = {}
        """By the spec as it is without a credential, which comes and goes."""
        self._rows: list[dict[str, Any]] = []
        self._local: ProviderSpec | None = None

    async def read(self) -> bool:
        """Look at what files declare; whether that is anything. Raises StorageError."""
        usable, self.warnings = [], []
        for row in await self.store.database.read(all_providers):
            found = self.faults((row,))
            self.warnings += [f"The provider {name} of {row.owned_by} is not used: {text}" for name, _, text in found]
            if not found:
                usable.append(row)
        self._declared = tuple(usable)
        return bool(usable)

    async def open(self) -> None:
        """Use what is configured. Raises SettingsError, StorageError."""
        rows = self._rows_to_use()
        missing = await self.keyring.hold([setup.wanted(as_settings(row)) for row in rows])
        for row in rows:
            if row.name in missing and isinstance(row, ProviderSettings):
                raise SettingsError(missing[row.name])
            if row.name in missing and isinstance(row, ProviderRow):
                self.warnings.append(f"The provider {row.name} of {row.owned_by} is not used: {missing[row.name]}")
        rows = tuple(row for row in rows if row.name not in missing)
        specs = tuple(setup.provider_spec(as_settings(row)) for row in rows)
        self.catalogue = await asyncio.to_thread(self._open_catalogue, specs)
        self._in_use = rows
        self._put_together()
        self.keyring.keep([row.name for row in rows])

    def embed(self, model: LocalModel) -> None:
        """Use the embedded model, too: it runs."""
        self._local = setup.local_spec(model.base_url, model.api_key, model.model)
        self._put_together()

    async def adopt(self) -> None:
        """Read the declared ones again and use them; calls under way finish as they began."""
        async with self._lock:
            await self.read()
            await self.open()

    def _put_together(self) -> None:
        built: dict[ProviderSpec, tuple[ProviderSpec, Provider]] = {}
        self._rows = []
        for spec, row in (*self._specs(), *self._embedded()):
            bare = msgspec.structs.replace(spec, credential="", unavailable="")
            built[bare] = spec, self._same_or_built(self._built.get(bare), spec)
            self._rows.append(_told(built[bare][1], spec, row))
        gone = [provider for bare, (_, provider) in self._built.items() if bare not in built]
        self._built = built
        self.providers = tuple(provider for _, provider in built.values())
        self.planner.adopt(self.providers)
        for provider in gone:
            if self.pool is not None:
                self.pool.retire(provider.origin)

    def _rows_to_use(self) -> tuple[ProviderSettings | ProviderRow, ...]:
        taken = {row.name for row in self._declared}
        # a vendor whose key is in the environment gives way
        own = (row for row in self._own if self.settings.providers or row.name not in taken)
        return (*own, *self._declared)

    def _specs(self) -> Iterator[tuple[ProviderSpec, ProviderSettings | ProviderRow]]:
        """Those in use, with the credentials of this moment. One whose row is just being changed stays as it was: what
        the keyring holds by its name now may be for another address.
        """
        for row in self._in_use:
            wanted, spec = setup.wanted(as_settings(row)), setup.provider_spec(as_settings(row))
            if wanted.reference and not self.keyring.holds(wanted) and spec in self._built:
                yield self._built[spec][0], row
                continue
            credential, unavailable = self.keyring.secret(row.name), self.keyring.unavailable(row.name)
            yield msgspec.structs.replace(spec, credential=credential, unavailable=unavailable), row

    def _embedded(self) -> list[tuple[ProviderSpec, None]]:
        return [] if self._local is None else [(self._local, None)]

    def _same_or_built(self, before: tuple[ProviderSpec, Provider] | None, spec: ProviderSpec) -> Provider:
        """The provider as it was before, unless it is shown another credential; then with the same connections."""
        if before is None:
            return self._build(spec)
        return before[1] if before[0] == spec else self._build(spec, before[1].origin)

    def _build(self, spec: ProviderSpec, origin: Origin | None = None) -> Provider:
        allow = self.settings.upstream.allow_plain_http
        return build_provider(spec, allow_plain_http=allow, tls=self._tls, proxy_for=setup.proxy_for, origin=origin)

    def credential_refused(self, provider: Provider, status: int) -> None:
        """The provider refuses its own credential; that of a moment ago says nothing of the one in use now."""
        if any(provider is one for one in self.providers):
            self.keyring.refused(provider.name, status)

    def _facts(self, provider: Provider, model: str) -> ModelFacts:
        return self.catalogue.facts(provider.name, model)

    def _open_catalogue(self, specs: tuple[ProviderSpec, ...]) -> Catalogue:
        try:
            return open_catalogue(
                self.store.home.path / PRICES_NAME,
                price_ids=setup.price_ids(specs),
                overrides=setup.price_overrides(self.settings),
                free=frozenset((setup.LOCAL,)),
            )
        except ValueError as error:
            raise SettingsError(f"prices: {error}") from error

    # --- what the management API is handed

    def rows(self) -> Sequence[dict[str, Any]]:
        return [{**row, "credential": self.credential(row["name"])} for row in self._rows]

    def credential(self, name: str) -> dict[str, Any] | None:
        """How a provider's credential is read; None when it has none that is."""
        facts = self.keyring.facts(name)
        return None if facts is None else {**facts, "kind": _kind(self.keyring.secret(name))}

    async def refresh(self, name: str) -> dict[str, Any] | None:
        await self.keyring.refresh(name)
        return self.credential(name)

    def host_of(self, name: str) -> str | None:
        """What credentials for a provider are bound to; the embedded model takes none."""
        found = self.named(name)
        return None if found is None else found.origin.address

    def named(self, name: str) -> Provider | None:
        """A provider that takes credentials."""
        for provider in self.providers:
            if provider.name == name and provider.kind in KINDS:
                return provider
        return None

    def faults(self, rows: Sequence[ProviderRow]) -> Sequence[tuple[str, str, str]]:
        """Why such declared providers could not be called: name, field, reason."""
        return [(row.name, *fault) for row in rows if (fault := self._fault(row)) is not None]

    def _fault(self, row: ProviderRow) -> tuple[str, str] | None:
        if self.settings.only_local:
            return "", "the server's settings say only_local: nothing leaves its machine"
        if row.name == setup.LOCAL or any(row.name == own.name for own in self.settings.providers):
            return "name", f"{row.name!r} is taken by the server's settings; choose another name"
        if row.api_key and not self._may_name(row.api_key):
            return "api_key", "the server's settings do not let a file name this secret (upstream.declared_secrets)"
        try:
            self._build(setup.provider_spec(as_settings(row)))
            self._look_at_credential(setup.wanted(as_settings(row)))
        except SettingsError as error:
            place = re.match(rf"providers\.{re.escape(row.name)}\.(\w+): ", str(error))
            return ("", str(error)) if place is None else (place[1], str(error)[place.end() :])
        return None

    def _look_at_credential(self, wanted: Wanted) -> None:
        """As far as that can be done without waiting. Raises SettingsError."""
        if not wanted.reference or self.keyring.holds(wanted):
            return
        self.keyring.open_source(wanted)
        if not wanted.patient:
            problem = setup.credential_problem(read_once(wanted.reference, where=wanted.where))
            if problem is not None:
                raise SettingsError(f"{wanted.where}: {problem}")

    def _may_name(self, reference: str) -> bool:
        """Whether a file may have this secret read. The gateway's own are refused, whatever the settings say."""
        if secret_references.problem(reference, declared=True) is not None or is_own(self.settings, reference):
            return False
        return any(fnmatchcase(reference, pattern) for pattern in self.settings.upstream.declared_secrets)


def as_settings(row: ProviderSettings | ProviderRow) -> ProviderSettings:
    """A declared provider as the settings would have it."""
    if isinstance(row, ProviderSettings):
        return row
    fields = {name: getattr(row, name) for name in ProviderSettings.model_fields}
    return ProviderSettings.model_validate(fields)


def _told(provider: Provider, spec: ProviderSpec, row: ProviderSettings | ProviderRow | None) -> dict[str, Any]:
    if row is None:
        kind = {"source": "embedded", "base_url": f"http://{provider.origin.authority}", "api_key": ""}
        return {**kind, "name": spec.name, "kind": spec.kind, "models": spec.models, "listed_models": spec.advertised}
    return {**at_rest(row), "credential_hint": provider.credential_hint, "listed_models": spec.advertised}


def _kind(credential: str) -> str:
    return classify(credential).value if credential else ""


def at_rest(row: ProviderSettings | ProviderRow) -> dict[str, Any]:
    """What can be told of a provider without using it."""
    source, owned_by = ("file", row.owned_by) if isinstance(row, ProviderRow) else ("settings", "")
    return {
        "name": row.name,
        "kind": row.kind,
        "base_url": row.base_url or KINDS[row.kind].base_url,
        "api_key": secret_references.shown(row.api_key),
        "models": row.models,
        "listed_models": row.list_models,
        "source": source,
        "owned_by": owned_by,
    }

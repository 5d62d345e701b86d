"""The vault: which master keys there are, how much lies under each, and how all of it comes to lie under the newest.

A rotation is three acts, each of which can be done again without harm: a new version is written where the master keys
come from; `reload` reads them; `rewrap`, asked again and again, wraps a batch of envelopes anew in one transaction
each, until none lies under an older version. Each envelope says which version opens it, so a rotation that was broken
off goes on where it was, and calls are served all the while: every version that is configured opens.
"""

import asyncio

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.shapes import Input
from tollhouse.controlplane.storing import no_master_key
from tollhouse.storage.sealed import MAX_BATCH, SEALED, SealedRow, SealedTable, count_sealed
from tollhouse.storage.trail import event
from tollhouse.storage.watch import Event
from tollhouse.terms.errors import SettingsError, VaultError
from tollhouse.vault import Binding, MasterKeys, Vault, version_of

router = APIRouter(prefix="/api/v1/vault", tags=["vault"])

DEFAULT_BATCH = 200
MAX_NAMED = 20
SAMPLE = 1


class Under(msgspec.Struct, frozen=True):
    """What lies under one master key. `opens`: it is configured, and opens what was sealed under it."""

    version: int
    records: int
    opens: bool


class VersionOut(BaseModel):
    """One version of the master key. `opens`: it is here, and opens what was sealed under this version."""

    version: int
    configured: bool
    records: int
    opens: bool


class VaultOut(BaseModel):
    """`current` is the version that seals; null without a master key: nothing can be stored then."""

    ready: bool
    current: int | None
    versions: list[VersionOut]
    records: int
    unopened: int
    """Stored secrets that cannot be opened: their master key is not configured, or another one has its number."""
    older: int
    """Stored secrets that lie under an older version than the current one and can be wrapped anew."""


class RewrapIn(Input):
    limit: int = Field(DEFAULT_BATCH, ge=1, le=MAX_BATCH)
    after: str = Field("", max_length=600, description="`after` of the answer before; empty to begin")


class NotOpened(BaseModel):
    noun: str
    record: str
    reason: str


class RewrapOut(BaseModel):
    """One batch. `after` goes into the next request; null: all was looked at."""

    rewrapped: int
    not_opened: list[NotOpened]
    """The first 20 of this batch."""
    after: str | None
    current: int


def look(connection: Connection, vault: Vault) -> list[Under]:
    """Count what lies under each version, and open one of each: a number alone does not say that the key is the same.
    The vault remembers how many do not open.
    """
    found = []
    for version, records in sorted(count_sealed(connection).items()):
        opens = version in vault.keys and all(_opens_one(connection, vault, table, version) for table in SEALED)
        found.append(Under(version, records, opens))
    vault.unopened = sum(under.records for under in found if not under.opens)
    return found


def _opens_one(connection: Connection, vault: Vault, table: SealedTable, version: int) -> bool:
    """Whether a record of this version opens; True where there is none."""
    rows = table.some(connection, version=version, limit=SAMPLE)
    return all(_opens(vault, row) for row in rows)


def _opens(vault: Vault, row: SealedRow) -> bool:
    try:
        vault.rewrap(row.sealed, Binding(*row.bound))
    except VaultError:
        return False
    return True


@router.get("")
async def get_vault(deps: Deps) -> VaultOut:
    """The versions of the master key, and how much lies under each."""
    return _vault_out(deps.vault, await deps.database.run(lambda connection: look(connection, deps.vault)))


@router.post("/reload")
async def reload(deps: Deps) -> VaultOut:
    """Read the master keys again. Keys under which something lies must still be there, and be the same."""
    if deps.master_keys is None:
        raise no_master_key()
    try:
        keys = await asyncio.to_thread(deps.master_keys)  # a file, or a helper that takes its time
    except SettingsError as error:
        raise Problem(409, "master_keys_unreadable", f"{error}. The keys in use stay as they are.") from error

    def adopt(connection: Connection) -> list[Under]:
        """In the writer's thread: no envelope is made between the count and the change."""
        _keeps_all(connection, deps.vault.keys, keys)
        deps.vault.keys = keys
        event(connection, Event("loaded", "master keys", "", {"versions": list(keys.versions)}))
        return look(connection, deps.vault)

    await deps.captured()  # what was sealed for a write that still waits is counted, too
    found = await deps.write(adopt, touches=lambda _: None)
    return _vault_out(deps.vault, found)


def _keeps_all(connection: Connection, old: MasterKeys, new: MasterKeys) -> None:
    """Raises Problem (409) where a key that is in use would be lost or exchanged."""
    for version, records in count_sealed(connection).items():
        if version in old and (version not in new or new[version] != old[version]):
            what = "is another key now" if version in new else "is not there any more"
            raise Problem(
                409,
                "master_key_in_use",
                f"Master key {version} {what}, but {records:,} stored secrets lie under it: put it back. The keys in "
                "use stay as they are.",
            )


@router.post("/rewrap")
async def rewrap(deps: Deps, body: RewrapIn | None = None) -> RewrapOut:
    """Wrap one batch of what lies under older versions anew, under the current one."""
    asked = body or RewrapIn()
    if not deps.vault.ready:
        raise no_master_key()
    place, after = _place(asked.after)
    current = deps.vault.keys.current
    failed: list[NotOpened] = []

    def change(connection: Connection) -> tuple[int, str | None]:
        table = SEALED[place]
        limit = min(asked.limit, table.at_once)
        rows = table.some(connection, below=current, limit=limit, after=after)
        done = sum(_rewrapped(connection, deps, table, row, failed) for row in rows)
        if done:
            event(connection, Event("rewrapped", "envelopes", "", {"of": table.noun, "count": done, "under": current}))
        if len(rows) == limit:
            return done, f"{table.noun}:{rows[-1].row_id}"
        return done, f"{SEALED[place + 1].noun}:" if place + 1 < len(SEALED) else None

    # The data plane reads all of it anew once, at the end; until then the old envelopes that it has open as well.
    done, further = await deps.write(change, touches=lambda result: None if result[1] is None else "")
    return RewrapOut(rewrapped=done, not_opened=failed[:MAX_NAMED], after=further, current=current)


def _place(after: str) -> tuple[int, str]:
    """Which table, and after which row of it. Raises Problem (400)."""
    if not after:
        return 0, ""
    noun, colon, row_id = after.partition(":")
    for place, table in enumerate(SEALED):
        if colon and table.noun == noun:
            return place, row_id
    raise invalid("after", "is not what an answer gave; begin again without it")


def _rewrapped(
    connection: Connection, deps: ControlDeps, table: SealedTable, row: SealedRow, failed: list[NotOpened]
) -> bool:
    try:
        sealed = deps.vault.rewrap(row.sealed, Binding(*row.bound))
    except VaultError as error:
        failed.append(NotOpened(noun=table.noun, record=row.row_id, reason=str(error)))
        return False
    return table.reseal(connection, row, sealed, sealed_under=version_of(sealed))


def _vault_out(vault: Vault, found: list[Under]) -> VaultOut:
    here = {under.version: under for under in found}
    current = vault.keys.current
    versions = [
        VersionOut(
            version=version,
            configured=version in vault.keys,
            records=here[version].records if version in here else 0,
            opens=here[version].opens if version in here else True,
        )
        for version in sorted({*vault.keys.versions, *here})
    ]
    return VaultOut(
        ready=vault.ready,
        current=current or None,
        versions=versions,
        records=sum(under.records for under in found),
        unopened=vault.unopened,
        older=sum(under.records for under in found if under.opens and under.version < current),
    )

"""What can be told of a running house: to the management API, `doctor` and `/metrics`. Never a secret."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tollhouse.telemetry import Gauges, Infos, Labelled

if TYPE_CHECKING:
    from tollhouse.app.house import House

PROBE_TIMEOUT_S = 3.0


def models(house: "House") -> Sequence[dict[str, Any]]:
    """One row a provider and pattern, with the prices of those that are names."""
    rows = []
    for provider in house.providers:
        for model in dict.fromkeys((*provider.advertised, *provider.models)):
            card = house.fleet.catalogue.facts(provider.name, model).card
            rows.append(
                {
                    "id": model,
                    "provider": provider.name,
                    "priced": card is not None,
                    "input_usd_per_mtok": None if card is None else card.input / 1e6,
                    "output_usd_per_mtok": None if card is None else card.output / 1e6,
                    "price_source": None if card is None else card.version,
                }
            )
    return rows


async def probe(house: "House") -> dict[str, Any]:
    """Whether each provider accepts a connection; nothing is sent."""

    async def look(host: str, port: int, tls: bool) -> dict[str, Any]:
        started = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port, ssl=tls or None)
            writer.close()
            detail, reachable = "", True
        except (OSError, TimeoutError) as error:
            detail, reachable = str(error) or type(error).__name__, False
        return {
            "reachable": reachable,
            "detail": detail,
            "duration_ms": round((time.monotonic() - started) * 1e3, 1),
        }

    origins = [provider.origin for provider in house.providers]
    found = await asyncio.gather(*(look(origin.host, origin.port, origin.tls is not None) for origin in origins))
    return {provider.name: result for provider, result in zip(house.providers, found, strict=True)}


def status(house: "House") -> dict[str, Any]:
    """Facts of the running gateway, without a secret."""
    recovery = house.store.recovery
    return {
        "pid": os.getpid(),
        "base_url": house.base_url,
        "database": house.store.database.facts
        | {"healthy": not house.shipper.facts.trouble, "detail": house.shipper.facts.trouble},
        "home": str(house.settings.home),
        "started_at_ns": house.started_ns,
        "warnings": house.warnings,
        "journal": {"durability": house.settings.storage.durability}
        | msgspec.structs.asdict(house.store.journal.facts),
        "ledger": {"full": house.shipper.full} | msgspec.structs.asdict(house.shipper.facts),
        "recovered": None if recovery is None else {"crashed": recovery.crashed, "settled": recovery.settled},
        "audit": {"head": str(house.store.trail.head), "trouble": house.store.trail.trouble},
        "holds": len(house.accounts.holds),
        "bound_violations": house.accounts.bound_violations,
        "local": None if house.local is None else {"model": house.local.model, "state": house.local.state},
        "upstream": house.pool.standing(),
        "providers": [
            {
                "name": provider.name,
                "kind": provider.kind,
                "base": f"{'https' if provider.origin.tls else 'http'}://{provider.origin.authority}",
                "credential": f"…{provider.credential_hint}" if provider.credential_hint else "",
                "credential_source": house.fleet.credential(provider.name),
                "models": list(provider.models),
                "dialects": [dialect.value for dialect in provider.dialects],
            }
            for provider in house.providers
        ],
    }


def gauges(house: "House") -> Gauges:
    return {
        "connections": ("Client connections open.", len(house.gate.edges)),
        "exchanges": ("Calls being received or answered.", len(house.gate.working)),
        "buffered_body_bytes": ("Request bodies in memory.", house.gate.buffered_bytes),
        "holds": ("Holds in force.", len(house.accounts.holds)),
        "refused_not_logged": (
            "Refused calls that were counted, not logged.",
            house.strangers.dropped + house.shipper.facts.refused_dropped,
        ),
        "ledger_backlog": ("Settled calls on their way to the ledger.", house.shipper.facts.backlog),
        "bound_violations": ("Calls that cost more than their bound.", house.accounts.bound_violations),
        "journal_healthy": ("1 while the journal can be written.", float(house.store.journal.healthy)),
        "captures_waiting": ("Content that waits to be stored.", house.capturer.waiting),
        "captures_kept": ("Calls whose content was stored since the start.", house.capturer.kept),
        "captures_dropped": ("Calls whose content could not be stored.", house.capturer.dropped),
        "audit_records": ("Records of the audit trail.", house.store.trail.head.seq),
        "secrets_unopened": ("Stored secrets that no master key here opens.", house.vault.unopened),
        "keys": ("Secrets by which somebody is known.", len(house.snapshot.by_digest)),
    }


def infos(house: "House") -> Infos:
    head = house.store.trail.head
    labels = {"seq": str(head.seq), "hash": head.hash.hex()}
    return {"audit_head": ("The newest record of the audit trail, which seals all before it.", labels)}


def by_provider(house: "House") -> Labelled:
    """How the credentials of providers are read."""
    now_ns = time.time_ns()
    found = {provider.name: house.fleet.credential(provider.name) for provider in house.providers}
    known = {name: facts for name, facts in found.items() if facts is not None}

    def seconds(fact: str, sign: int) -> dict[str, float]:
        return {name: sign * (facts[fact] - now_ns) / 1e9 for name, facts in known.items() if facts[fact] is not None}

    return {
        "credential_age_seconds": (
            "Since a provider's credential was last read.",
            "provider",
            seconds("read_at_ns", -1),
        ),
        "credential_expires_seconds": (
            "Until a provider's credential runs out; negative once it has.",
            "provider",
            seconds("expires_at_ns", 1),
        ),
        "credential_failing": (
            "1 while a provider's credential cannot be read.",
            "provider",
            {name: float(bool(facts["failure"])) for name, facts in known.items()},
        ),
        "credential_older_serves": (
            "1 while the provider refuses the newest credential and the one before serves.",
            "provider",
            {name: float(facts["older_serves"]) for name, facts in known.items()},
        ),
    }

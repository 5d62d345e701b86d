"""Providers, and the files that declare them with users, teams, keys, plans and budgets."""

from typing import Any

from tollhouse.client.asks import Ask, ask, segment
from tollhouse.client.provider_shapes import ProviderCredential, Providers
from tollhouse.client.shapes import Declared


def in_use() -> Ask[Providers]:
    """Those in use, in the order in which they are asked for a model."""
    return ask("GET", "/providers", Providers)


def refresh(name: str) -> Ask[ProviderCredential]:
    """Have its credential read now, as after a rotation that should not wait."""
    return ask("POST", f"/providers/{segment(name)}/refresh", ProviderCredential)


def declare(owner: str, resources: dict[str, Any], *, prune: bool = False, dry_run: bool = False) -> Ask[Declared]:
    """Make users, teams, keys, plans, budgets and providers what these say; `owner` is the file's name."""
    body = {"owner": owner, "resources": resources, "prune": prune, "dry_run": dry_run}
    return ask("POST", "/declarations", Declared, body)

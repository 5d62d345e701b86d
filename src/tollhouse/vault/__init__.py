"""Secrets at rest: envelopes that only a master key opens."""

from tollhouse.vault.contents import binding_of_content, open_content, seal_content
from tollhouse.vault.envelope import Binding
from tollhouse.vault.master_keys import MasterKeys, parse_master_keys
from tollhouse.vault.vault import Vault, version_of

__all__ = [
    "Binding",
    "MasterKeys",
    "Vault",
    "binding_of_content",
    "open_content",
    "parse_master_keys",
    "seal_content",
    "version_of",
]

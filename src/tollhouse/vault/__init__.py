"""Secrets at rest: envelopes that only a master key opens."""

from tollhouse.vault.envelope import Binding
from tollhouse.vault.master_keys import MasterKeys, parse_master_keys
from tollhouse.vault.vault import Vault

__all__ = ["Binding", "MasterKeys", "Vault", "parse_master_keys"]

"""Background work of one process: ship settlements into the ledger, recover what a crash left."""

from tollhouse.workers.recovery import RecoveryReport, recover
from tollhouse.workers.shipper import Shipper, ShipperFacts, ShipperOptions
from tollhouse.workers.strangers import StrangerGate
from tollhouse.workers.upkeep import Upkeep

__all__ = ["RecoveryReport", "Shipper", "ShipperFacts", "ShipperOptions", "StrangerGate", "Upkeep", "recover"]

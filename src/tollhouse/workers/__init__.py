"""Background work of one process: ship settlements into the ledger, recover what a crash left, follow the directory,
keep providers' credentials fresh.
"""

from tollhouse.workers.capturer import Capturer, CapturerOptions
from tollhouse.workers.census import Census
from tollhouse.workers.credential_watch import CredentialWatch
from tollhouse.workers.deliverer import Deliverer, DelivererOptions
from tollhouse.workers.follower import Follower
from tollhouse.workers.keyring import Keyring, KeyringOptions, Wanted
from tollhouse.workers.lookout import Lookout
from tollhouse.workers.recorder import Recorder
from tollhouse.workers.recovery import RecoveryReport, recover
from tollhouse.workers.shipper import Shipper, ShipperFacts, ShipperOptions
from tollhouse.workers.strangers import StrangerGate
from tollhouse.workers.tallies import tallied
from tollhouse.workers.upkeep import Upkeep

__all__ = [
    "Capturer",
    "CapturerOptions",
    "Census",
    "CredentialWatch",
    "Deliverer",
    "DelivererOptions",
    "Follower",
    "Keyring",
    "KeyringOptions",
    "Lookout",
    "Recorder",
    "RecoveryReport",
    "Shipper",
    "ShipperFacts",
    "ShipperOptions",
    "StrangerGate",
    "Upkeep",
    "Wanted",
    "recover",
    "tallied",
]

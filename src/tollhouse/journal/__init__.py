"""The journal: holds and settlements on this machine's disk, before anything else happens."""

from tollhouse.journal.disk import Disk
from tollhouse.journal.log import Journal
from tollhouse.journal.options import JournalFacts, JournalOptions
from tollhouse.journal.replay import Damage, Replay

__all__ = ["Damage", "Disk", "Journal", "JournalFacts", "JournalOptions", "Replay"]

"""Where the operator's secrets are read from, each kind in a file of its own."""

from tollhouse.sources.command import CommandOptions
from tollhouse.sources.files import FileOptions
from tollhouse.sources.hashicorp import HashiCorpOptions
from tollhouse.sources.once import read_once
from tollhouse.sources.registry import OPENERS, SourceOptions, open_source

__all__ = [
    "OPENERS",
    "CommandOptions",
    "FileOptions",
    "HashiCorpOptions",
    "SourceOptions",
    "open_source",
    "read_once",
]

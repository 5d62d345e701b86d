"""What happened here that somebody may want to be told of, and the way to tell them."""

from tollhouse.events.board import Board
from tollhouse.events.posting import Outcome, Poster

__all__ = ["Board", "Outcome", "Poster"]

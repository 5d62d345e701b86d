"""What happened here that somebody may want to be told of."""

from tollhouse.events.board import Board

__all__ = ["Board"]

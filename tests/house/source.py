"""The house's own files as the structure tests read them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tollhouse"


def modules(*floors: str) -> Iterator[tuple[str, ast.Module]]:
    """Each module's path below the package, with its syntax tree; all of them, or those of the named floors."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not floors or name.removesuffix(".py").split("/")[0] in floors:
            yield name, tree(path)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))

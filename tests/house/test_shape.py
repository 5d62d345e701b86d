"""The tail stays short, errors are caught by name, and the floors below the doors touch no world."""

import ast
from collections.abc import Iterator

from tests.house.source import PACKAGE, modules

FILE_LINES = 400
FUNCTION_LINES = 70

# path, or path:function, with the reason why it may be longer. Empty is best.
LONGER: dict[str, str] = {}

# The doors where anything may be caught: the edge, the worker loop, the exporter, the log.
DOORS = {"dataplane/telling.py", "workers/shipper.py", "workers/tending.py", "telemetry.py", "logs.py"}

# State in, decision out. (`ports` and `terms` stand here too: they hold no decisions, let alone a clock.)
PURE = ("dialects", "ports", "rules", "terms")
WORLD = {"asyncio", "os", "pathlib", "random", "secrets", "socket", "ssl", "subprocess", "sys", "threading", "time"}
CLOCKS = {"now", "today", "utcnow"}


def test_no_file_is_long() -> None:
    lengths = {path.relative_to(PACKAGE).as_posix(): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES and name not in LONGER}
    assert not long, f"over {FILE_LINES} lines: each of these probably holds two nouns"


def test_no_function_is_long() -> None:
    long = {
        f"{name}:{node.name}": lines
        for name, node in functions()
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES and f"{name}:{node.name}" not in LONGER
    }
    assert not long, f"over {FUNCTION_LINES} lines: a function fits a screen"


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def test_exceptions_to_the_lengths_are_still_needed() -> None:
    known = {name for name, _ in modules()} | {f"{name}:{node.name}" for name, node in functions()}
    assert set(LONGER) <= known


def test_only_the_doors_catch_everything() -> None:
    blind = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if name not in DOORS
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node) and not ends_in_raise(node)
    ]
    assert blind == [], "name the exceptions, or end the handler in a plain `raise`"


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BLIND) for kind in kinds)


BLIND = {"BaseException", "Exception"}


def ends_in_raise(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_below_the_doors_nothing_touches_the_world() -> None:
    touched = []
    for name, tree in modules(*PURE):
        for node in ast.walk(tree):
            touched += [f"{name}:{node.lineno}: {what}" for what in world(node)]
            if isinstance(node, ast.AsyncFunctionDef) and not name.startswith("ports"):
                touched.append(f"{name}:{node.lineno}: async def {node.name}")
    assert touched == [], (
        "no clock, environment, randomness, network or await below the doors: hand it in as an argument"
    )


def world(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in WORLD)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in WORLD:
        yield f"from {node.module}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS:
        yield f".{node.func.attr}()"

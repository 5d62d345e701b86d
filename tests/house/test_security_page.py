"""The page of security names tests that there are, and every requirement of its standard once."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reference" / "security.md").read_text("utf-8")
TESTS = re.compile(r"`([\w/]+)::(test_\w+)`")
STATES = {"met", "partly", "not met", "not applicable"}
CHECKLIST = 11
"""Lines of the list of an application on an LLM."""

LEVEL_2 = """
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2
4.4:4 5.1:1 5.2:3 5.3:2 5.4:3 6.1:3 6.2:11 6.3:3 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2
7.6:2 8.1:2 8.2:3 8.3:1 8.4:1 9.1:3 9.2:4 10.1:2 10.2:2 10.3:4 10.4:11 10.5:5 10.6:2 10.7:3 11.1:2 11.2:3
11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3 15.1:3
15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3 17.1:1 17.2:4 17.3:2
"""
"""Sections of ASVS 5.0.0, each with the number of its requirements of levels 1 and 2, which come first in it."""


@cache
def functions(module: str) -> set[str]:
    """The tests in a file below `tests/`; none where there is no such file."""
    path = ROOT / "tests" / f"{module}.py"
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below this heading."""
    _, _, part = TEXT.partition(f"## {heading}")
    lines = [line for line in part.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def numbers(cell: str) -> list[str]:
    """`1.2.6–1.2.8 1.3.1` as single requirements."""
    found = []
    for word in cell.split():
        first, _, last = word.partition("–")
        section, _, begin = first.rpartition(".")
        end_section, _, end = (last or first).rpartition(".")
        assert end_section == section, word
        found += [f"{section}.{number}" for number in range(int(begin), int(end) + 1)]
    return found


def test_every_test_that_is_named_exists() -> None:
    named = TESTS.findall(TEXT)
    assert len(named) > 100
    assert [f"{module}::{name}" for module, name in named if name not in functions(module)] == []


def test_each_line_of_the_checklist_has_its_tests() -> None:
    table = rows("The checklist of an application on an LLM")
    assert len(table) == CHECKLIST
    assert [row[0] for row in table if not TESTS.search(row[2])] == []


def test_every_requirement_stands_there_once_with_a_state() -> None:
    table = rows("OWASP ASVS 5.0.0, level 2")
    sections = [word.split(":") for word in LEVEL_2.split()]
    wanted = [f"{section}.{number}" for section, count in sections for number in range(1, int(count) + 1)]
    assert Counter(number for row in table for number in numbers(row[0])) == Counter(wanted)
    for row in table:
        requirement, _, state, how = row
        assert state in STATES, requirement
        assert how, f"{requirement} says neither how nor why not"
        assert state != "met" or TESTS.search(how), f"{requirement} is met, and no test holds it"

"""What is committed installs anywhere: locks are whole, hashed and free of addresses, and no file knows a machine."""

import json
import re
import subprocess
import tomllib
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.source import ROOT

REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Written so that this file does not match itself.
ADDRESSES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|yarnpkg[.]com|deb(ian)?[.]debian[.]org"
    r"|(?<![\w./-])/(root|work)/|file:/{2,3}(home|opt|root|srv|tmp|work)\b"
)


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert listing.returncode == 0, f"what is tracked must be known to be looked through: {listing.stderr}"
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in tracked():
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
            if match := ADDRESSES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_a_lock_holds_names_versions_and_hashes_alone(path: Path) -> None:
    entry = re.compile(r"[a-z0-9-]+==[\w.!+]+( ; [^\n\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    rest = entry.sub("", path.read_text())
    assert rest == ""


def test_the_lock_of_npm_does_too() -> None:
    locks = [path for path in tracked() if path.name == "package-lock.json"]
    assert locks
    for lock in locks:
        packages = json.loads(lock.read_text())["packages"]
        wanted = json.loads((lock.parent / "package.json").read_text())["dependencies"]
        assert packages.pop("")["dependencies"] == wanted, "run `npm run lock`"
        assert [name for name, package in packages.items() if "integrity" not in package] == []
        assert [name for name, package in packages.items() if "resolved" in package] == [], "run `npm run lock`"


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("serve.txt", PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["local"]),
        ("test.txt", PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["test"]),
        ("setup.txt", PROJECT["dependency-groups"]["setup"]),
        ("lock.txt", PROJECT["dependency-groups"]["lock"]),
    ],
)
def test_a_lock_satisfies_the_project(lock: str, wanted: list[str]) -> None:
    locked = pins(lock)
    stale = [line for line in wanted if (r := Requirement(line)) and not r.specifier.contains(locked.get(name(r), "0"))]
    assert stale == [], "run `make lock`"


def test_tests_run_on_the_versions_that_serve() -> None:
    assert pins("serve.txt").items() <= pins("test.txt").items()


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+)==([^ ;\\]+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def test_warnings_are_errors() -> None:
    with pytest.raises(ResourceWarning):
        warnings.warn("left open", ResourceWarning, stacklevel=1)

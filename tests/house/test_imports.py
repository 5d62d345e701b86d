"""Every import points down: the contract in pyproject.toml holds, and it bites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, ROOT


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_import_contract_holds() -> None:
    answer = lint_imports(ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (
            "terms/money.py",
            "import tollhouse.rules.budgets",
            "tollhouse.terms is not allowed to import tollhouse.rules",
        ),
        ("limiter/memory.py", "import tollhouse.storage.ledger", "tollhouse.limiter is not allowed to import"),
        ("dataplane/relay.py", "import tollhouse.storage.ledger", "tollhouse.dataplane.relay is not allowed to import"),
        ("helpers.py", "", "tollhouse.helpers"),  # not on any floor
    ],
)
def test_the_import_contract_bites(tmp_path: Path, module: str, line: str, complaint: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    modules = ("terms/money.py", "rules/budgets.py", "limiter/memory.py", "storage/ledger.py", "dataplane/relay.py")
    for name in ("__init__.py", *modules, module):
        path = tmp_path / "src" / "tollhouse" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.touch()
    (tmp_path / "src" / "tollhouse" / module).write_text(f"{line}\n")
    answer = lint_imports(tmp_path)
    assert answer.returncode == 1
    assert complaint in answer.stdout


def test_every_folder_of_modules_is_a_package() -> None:
    """The contract does not see a folder without __init__.py."""
    # Alembic's numbered files are read by path; they cannot be imported by name.
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / "storage" / "migrations" / "versions"}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []

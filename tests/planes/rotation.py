"""Kills a rotation of master keys at random times, again and again, and looks whether every secret still opens.

    python -m tests.planes.rotation [--keys 10000] [--seconds 60] [--caught 20] [--seed 1] [--json]

One process stands for everything that can die: it takes the home, appends to the file of master keys, wraps envelopes
anew and takes the old keys out of the file, over and over, as `tollhouse vault rotate --forget-old` does, until it is
killed with SIGKILL. A kill is *caught* when it left secrets under more than one master key.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tollhouse.cli import main as tollhouse
from tollhouse.cli import vault as command
from tollhouse.storage import credentials as stored
from tollhouse.storage.credential_tables import credentials as table
from tollhouse.storage.database import Database
from tollhouse.storage.home import MASTER_KEYS_NAME
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import VaultError
from tollhouse.vault import Binding, MasterKeys, Vault, key_file, parse_master_keys, version_of

MAX_KILLS = 1_000
WARM = ("tollhouse.app", "tollhouse.settings", "typer.main", "httpx", "cryptography.hazmat.primitives.ciphers.aead")
"""Imported before a child is forked: what is to be killed is the rotation, not a start."""
HOST = "https://api.anthropic.com:443"


class Home:
    """A home with secrets, which nobody has open."""

    def __init__(self, path: Path, keys: int, batch: int) -> None:
        self.path = path
        self.batch = batch
        self.secrets: dict[str, bytes] = {}
        path.mkdir(mode=0o700)
        key_file.make(path / MASTER_KEYS_NAME)
        vault = Vault(self.master_keys())
        with self.database() as database:
            for start in range(0, keys, 1_000):
                rows = [self._made(vault, number) for number in range(start, min(keys, start + 1_000))]

                def store(connection: Any, rows: Sequence[Credential] = rows) -> None:
                    for row in rows:
                        stored.create_credential(connection, row, sealed_under=version_of(row.sealed))

                database.run_sync(store)

    def _made(self, vault: Vault, number: int) -> Credential:
        credential = Credential(f"own_{number:06}", "anthropic", HOST, user_id=f"user {number}", org_id="default")
        secret = self.secrets[credential.credential_id] = f"sk-ant-api03-{number}".encode()
        return msgspec.structs.replace(credential, sealed=vault.seal(secret, _binding(credential)))

    def master_keys(self) -> MasterKeys:
        return parse_master_keys((self.path / MASTER_KEYS_NAME).read_text(), where=MASTER_KEYS_NAME)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        opened = Database.open(self.path / "tollhouse.db")
        try:
            yield opened
        finally:
            opened.close()

    def look(self) -> tuple[list[str], set[int]]:
        """What does not open as it was stored, and the master keys that something lies under."""
        vault = Vault(self.master_keys())
        with self.database() as database:
            rows = database.run_sync(lambda connection: connection.execute(table.select()).all())
        wrong, under = [], set()
        for row in rows:
            under.add(row.sealed_under)
            binding = Binding(row.org_id, row.credential_id, row.provider, row.host)
            try:
                good = vault.unseal(row.sealed, binding) == self.secrets[row.credential_id]
            except VaultError:
                good = False
            if not good or version_of(row.sealed) != row.sealed_under:
                wrong.append(row.credential_id)
        return wrong + sorted(self.secrets.keys() - {row.credential_id for row in rows}), under

    def rotate_for_ever(self) -> None:
        """In a child, which ends by being killed."""
        command.BATCH = self.batch
        while True:
            code = tollhouse(["vault", "rotate", "--forget-old", "--json"])
            if code:
                os._exit(code)

    def rotate_until_killed(self, after_s: float) -> int:
        """How the child ended: below 0 by that signal."""
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                self.rotate_for_ever()
            os._exit(70)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _binding(credential: Credential) -> Binding:
    return Binding(credential.org_id, credential.credential_id, credential.provider, credential.host)


def play(path: Path, *, keys: int, batch: int, caught: int, seconds: float, seed: int) -> dict[str, Any]:
    """Kill rotations until so many kills were caught, or one was and the time is over."""
    for name in WARM:
        importlib.import_module(name)
    chance = random.Random(seed)
    home = Home(path, keys, batch)
    os.environ.update(TOLLHOUSE_HOME=str(path), TOLLHOUSE_LOCAL__ENABLED="false")
    until = time.monotonic() + seconds
    figures: dict[str, Any] = {"keys": keys, "kills": 0, "caught": 0, "unreadable": 0, "troubles": 0, "versions": 0}
    span_s = 1.0
    while figures["caught"] < caught and figures["kills"] < MAX_KILLS:
        if figures["caught"] and time.monotonic() > until:
            break
        before = home.master_keys().current
        ended = home.rotate_until_killed(chance.uniform(0.0, span_s))
        wrong, under = home.look()
        figures["kills"] += 1
        figures["troubles"] += ended != -signal.SIGKILL
        figures["unreadable"] += len(wrong)
        figures["caught"] += len(under) > 1
        figures["versions"] = home.master_keys().current
        span_s = min(30.0, span_s * (1.5 if figures["versions"] == before else 0.9))  # on the whole, some rotations
    figures["ok"] = not figures["unreadable"] and not figures["troubles"] and figures["caught"] > 0
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planes.rotation", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=100, help="envelopes of one transaction")
    parser.add_argument("--caught", type=int, default=20, help="end after so many kills in the middle of a rotation")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tollhouse-rotation-") as place:
        figures = play(
            Path(place) / "home",
            keys=options.keys,
            batch=options.batch,
            caught=options.caught,
            seconds=options.seconds,
            seed=options.seed,
        )
    sys.stdout.write(json.dumps(figures, indent=None if options.json else 2) + "\n")
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())

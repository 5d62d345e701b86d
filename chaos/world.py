"""A gateway on a home of its own before a provider with its own bill: how they are started, asked, and ended."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from chaos.calls import Call, Fate, Key, make_now
from chaos.gateway import Held
from chaos.nursery import ROOT, Nursery
from chaos.provider import MODEL
from chaos.stopwatch import Stopwatch
from tests.postgres import Postgres
from tests.serving import database_at
from tollhouse.journal.frames import decode_segment
from tollhouse.terms.events import SettleRecord
from tollhouse.terms.money import parse_usd

QUIET_S = 20.0
"""Within this the provider has seen every connection of a dead gateway end."""
PROBE_S = 0.05


class World:
    """What a round acts on. Users and keys are made for each round; the home stays."""

    def __init__(self, directory: Path, nursery: Nursery, postgres: Postgres | None = None, **settings: Any) -> None:
        self.directory = directory
        self.postgres = postgres
        self.database = str(directory / "home" / "tollhouse.db") if postgres is None else postgres.fresh_database()
        command = [sys.executable, "-m", "chaos.provider"]
        self._provider = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert self._provider.stdout is not None
            self._url = f"http://127.0.0.1:{json.loads(self._provider.stdout.readline())['port']}"
            at = database_at(self.database)
            self.gateway = Held(directory, _settings(self._url, settings), nursery, **at)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End both processes, whatever state they are in."""
        if hasattr(self, "gateway"):
            self.gateway.close()
        for pipe in (self._provider.stdin, self._provider.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._provider.wait(5)
        except subprocess.TimeoutExpired:
            self._provider.kill()
            self._provider.wait()

    # --- the gateway

    @property
    def port(self) -> int:
        return int(self.gateway.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self.gateway.process is not None
        return self.gateway.process.pid

    def stopwatch(self) -> Stopwatch:
        """From now on, by the time that this gateway (or the next one here) and its provider could have used."""

        def pids() -> list[int]:
            return [self._provider.pid, *([self.pid] if self.gateway.process else [])]

        return Stopwatch(pids)

    @property
    def journal(self) -> Path:
        return self.gateway.home / "journal"

    def start(self) -> float:
        """Start it; how long until it answers."""
        began = time.monotonic()
        self.gateway.start()
        return time.monotonic() - began

    def key(self, user: str, limit_usd: str, *, of_key: bool = False) -> Key:
        """A key of this user under a budget in total, the user's or its own."""
        if of_key:
            made = self.gateway.new_key(user, budget=limit_usd)
        else:
            if not self.gateway.budgets("user", user):
                self.gateway.owner("POST", "/users", {"user_id": user, "budget": limit_usd})
            made = self.gateway.new_key(user)
        rows = [*self.gateway.budgets("key", made["key_id"]), *self.gateway.budgets("user", user)]
        return Key(made["key"], made["key_id"], tuple(row["budget_id"] for row in rows))

    def answers_within(self, key: Key, name: str, limit_s: float) -> list[Call]:
        """The calls it took until one was answered 200, or none was for so long."""
        until = time.monotonic() + limit_s
        calls: list[Call] = []
        while not calls or (calls[-1].status != 200 and time.monotonic() < until):
            if calls:
                time.sleep(PROBE_S)
            call = Call(Fate(f"{name}-{len(calls)}", 0.1, 0.1, 0.0), key, stream=False, max_tokens=50)
            calls.append(make_now(self.port, call))
        return calls

    # --- the books

    def bill(self, prefix: str) -> list[dict[str, Any]]:
        """The provider's entries of these calls, once none of them is open."""
        until = time.monotonic() + QUIET_S
        while True:
            answer = httpx.get(f"{self._url}/bill/{prefix}", trust_env=False, verify=False)
            entries: list[dict[str, Any]] = answer.json()
            if all(entry["state"] != "open" for entry in entries):
                return entries
            assert time.monotonic() < until, "the provider still works on calls"
            time.sleep(0.05)

    def shipped(self) -> None:
        """The running gateway has brought everything into its ledger, if it can."""
        until = time.monotonic() + QUIET_S
        self.gateway.owner("GET", "/usage")  # which waits for some seconds
        while self.status()["ledger"]["backlog"] and time.monotonic() < until:
            self.gateway.owner("GET", "/usage")

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the database, by a reader of our own."""
        if self.postgres is not None:
            with psycopg.connect(self.database, row_factory=dict_row) as server:
                return server.execute(sql.replace("?", "%s").encode(), values).fetchall()
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def rows(self) -> list[dict[str, Any]]:
        """The ledger, as far as the law asks."""
        attempt_id = "request_id || '-' || attempt AS attempt_id"
        return self.query(f"SELECT {attempt_id}, session, kind, amount_nusd, hold_nusd, budgets FROM ledger")

    def sums_nusd(self) -> Counter[tuple[str, int]]:
        """What the ledger's rows come to in each window of each budget."""
        sums: Counter[tuple[str, int]] = Counter()
        for row in self.query("SELECT budgets, amount_nusd FROM ledger"):
            for budget_id, start_s in json.loads(row["budgets"]):
                sums[budget_id, start_s] += row["amount_nusd"]
        return sums

    def spent_nusd(self) -> Counter[str]:
        """The same of budgets that have one window."""
        spent: Counter[str] = Counter()
        for (budget_id, _), nusd in self.sums_nusd().items():
            spent[budget_id] += nusd
        return spent

    def limits_nusd(self) -> dict[str, int]:
        rows = self.query("SELECT budget_id, cap AS amount FROM budgets WHERE unit = 'usd'")
        return {row["budget_id"]: row["amount"] for row in rows}

    def settled(self) -> dict[str, SettleRecord]:
        """What the journal of the dead gateway says was settled."""
        found: dict[str, SettleRecord] = {}
        for path in sorted(self.journal.glob("*.journal")):
            for record in decode_segment(path.read_bytes()).records:
                if isinstance(record, SettleRecord):
                    found.setdefault(record.attempt_id, record)
        return found

    def held_nusd(self) -> int:
        """What every budget still holds."""
        rows: list[dict[str, Any]] = []
        page: dict[str, Any] = {"next_cursor": None}
        while not rows or page["next_cursor"]:
            after = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
            page = self.gateway.owner("GET", "/budgets", limit=500, **after)
            rows += page["items"]
            if not page["items"]:
                break
        return sum(parse_usd(row["held"]) for row in rows if row["unit"] == "usd")

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.gateway.owner("GET", "/status")
        return status


def _settings(provider_url: str, more: dict[str, Any]) -> dict[str, Any]:
    row = {"name": "chaos", "kind": "anthropic", "base_url": provider_url, "models": ["claude-*"]}
    same = dict.fromkeys(("input", "cache_read", "cache_write_5m", "cache_write_1h"), 3)
    prices = {MODEL: {f"{name}_usd_per_mtok": price for name, price in {**same, "output": 15}.items()}}
    money = {"organisation_budgets": ["1000000/month"]}
    return {"local": {"enabled": False}, "providers": [row], "prices": prices, "money": money, **more}


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[bool]:
    """A file system of its own at a directory; whether that could be had (it takes root)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=0700"
    words: Sequence[str] = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(("umount", str(directory)), capture_output=True, check=False)

"""Flows: named lists of prompts that run one after the other. What one is, and where each user's are kept.

    {"name": "Blog post", "steps": [{"name": "outline", "prompt": "Outline a post about {{topic}}."},
                                    {"name": "post",    "prompt": "Write it out:\\n{{outline}}"}]}

`{{outline}}` is the answer of the step of that name; a name that no step has (`{{topic}}`) is asked for at each run.
"""

import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAX_FLOWS = 100
"""Of one user."""
MAX_STEPS = 10
MAX_NAME = 80
MAX_PROMPT = 8_000
"""Characters."""
STEP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

TABLE = """
CREATE TABLE IF NOT EXISTS flows (
    flow_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL, steps TEXT NOT NULL, saved_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS flows_of_user ON flows (user_id, saved_at);
"""


@dataclass(frozen=True)
class Step:
    name: str
    prompt: str


@dataclass(frozen=True)
class Flow:
    """`flow_id` is empty until it is saved."""

    name: str
    steps: tuple[Step, ...]
    flow_id: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"id": self.flow_id, "name": self.name, "steps": [asdict(step) for step in self.steps]}


def read_flow(sent: object) -> Flow:
    """A flow of what a page sent. Raises ValueError with what is wrong, for the person who wrote it."""
    if not isinstance(sent, dict) or not isinstance(sent.get("steps"), list):
        raise ValueError("A flow is an object with a name and a list of steps.")
    name = _text(sent.get("name"), "The flow's name", MAX_NAME)
    if not 1 <= len(sent["steps"]) <= MAX_STEPS:
        raise ValueError(f"A flow has 1 to {MAX_STEPS} steps; this one has {len(sent['steps'])}.")
    steps = tuple(_read_step(step, number) for number, step in enumerate(sent["steps"], 1))
    names = [step.name for step in steps]
    for twice in {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Two steps are called “{twice}”. Give each a name of its own.")
    return Flow(name, steps)


def _read_step(sent: object, number: int) -> Step:
    if not isinstance(sent, dict):
        raise ValueError(f"Step {number} is not an object with a name and a prompt.")
    name = _text(sent.get("name"), f"The name of step {number}", MAX_NAME)
    if not STEP_NAME.fullmatch(name):
        raise ValueError(
            f"The name of step {number} must begin with a letter and hold only letters, digits and _ (at most 40)."
        )
    return Step(name, _text(sent.get("prompt"), f"The prompt of step {number}", MAX_PROMPT))


def _text(sent: object, what: str, at_most: int) -> str:
    text = sent.strip() if isinstance(sent, str) else ""
    if not text:
        raise ValueError(f"{what} is missing.")
    if len(text) > at_most:
        raise ValueError(f"{what} has {len(text):,} characters; {at_most:,} are the most.")
    return text


class FlowStore:
    """All flows, in one SQLite file. Every question names the user: nobody reaches another's flows, whatever id they
    show.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._database() as database:
            database.executescript(TABLE)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction."""
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            yield database

    def all_of(self, user_id: str) -> list[Flow]:
        """The latest saved first."""
        with self._database() as database:
            rows = database.execute(
                "SELECT name, steps, flow_id FROM flows WHERE user_id = ? ORDER BY saved_at DESC LIMIT ?",
                (user_id, MAX_FLOWS),
            ).fetchall()
        return [Flow(name, tuple(Step(**step) for step in json.loads(steps)), flow_id) for name, steps, flow_id in rows]

    def add(self, user_id: str, flow: Flow) -> Flow:
        """Raises ValueError when the user has as many as one may have."""
        flow_id = secrets.token_urlsafe(12)
        with self._database() as database:
            (count,) = database.execute("SELECT count(*) FROM flows WHERE user_id = ?", (user_id,)).fetchone()
            if count >= MAX_FLOWS:
                raise ValueError(f"You have {MAX_FLOWS} flows, which is the most. Delete one first.")
            database.execute(
                "INSERT INTO flows (flow_id, user_id, name, steps, saved_at) VALUES (?, ?, ?, ?, ?)",
                (flow_id, user_id, flow.name, _packed(flow), time.time()),
            )
        return Flow(flow.name, flow.steps, flow_id)

    def change(self, user_id: str, flow_id: str, flow: Flow) -> Flow | None:
        """The flow as it is now; None when this user has none of that id."""
        with self._database() as database:
            changed = database.execute(
                "UPDATE flows SET name = ?, steps = ?, saved_at = ? WHERE flow_id = ? AND user_id = ?",
                (flow.name, _packed(flow), time.time(), flow_id, user_id),
            ).rowcount
        return Flow(flow.name, flow.steps, flow_id) if changed else None

    def remove(self, user_id: str, flow_id: str) -> bool:
        """Whether there was one."""
        with self._database() as database:
            removed = database.execute("DELETE FROM flows WHERE flow_id = ? AND user_id = ?", (flow_id, user_id))
        return removed.rowcount > 0


def _packed(flow: Flow) -> str:
    return json.dumps([asdict(step) for step in flow.steps])

"""`tollhouse vault …`: the master keys under which secrets are stored."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer
from tollhouse.cli.output import Failure

app = typer.Typer()

BATCH = 500
"""Envelopes of one transaction."""

Version = Annotated[int, typer.Option("--version", help="The number of the key that is printed.", min=1, max=1_000_000)]


@app.command("init")
def init(
    start_over: Annotated[
        bool, typer.Option("--start-over", help="Also where secrets lie under keys that are lost: those stay lost.")
    ] = False,
    printed: Annotated[
        bool, typer.Option("--print", help="Only print a new key, for an environment or a secret manager.")
    ] = False,
    version: Version = 1,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Make the file of master keys with its first key. Nothing can be stored before."""
    from tollhouse.vault.master_keys import new_line  # noqa: PLC0415  only here and in `rotate`

    if printed:
        output.print_lines(new_line(version))
        return

    async def act(api: Api) -> dict[str, Any]:
        if api.kind == "network":
            raise Failure("The file is made where the gateway runs: without TOLLHOUSE_URL, on its machine.")
        path = _file(api, config)
        if path is None:
            raise Failure(
                "vault.master_keys says that the keys come from elsewhere; put one there yourself: "
                "`tollhouse vault init --print` makes it."
            )
        status = await api.get("/vault")
        lost = [row for row in status["versions"] if row["records"]]
        if lost and not start_over and not path.exists():
            raise Failure(
                f"{status['records']:,} secrets are stored under master keys {_versions(lost)}, which are not here. "
                f"Restore {path} from its backup. If it is lost, those secrets are; `--start-over` makes a new key "
                "beside them.",
                code="master_keys_missing",
            )
        from tollhouse.vault import key_file  # noqa: PLC0415  as above

        number = 1 + max((row["version"] for row in status["versions"]), default=0)
        key_file.make(path, number)
        return {"made": str(path), **await api.post("/vault/reload")}

    def show(made: dict[str, Any]) -> None:
        output.print_lines(f"Made {made['made']} with master key {made['current']}. Secrets can be stored now.")
        output.print_lines("Back it up, apart from the database: without it what is stored is lost for good.")

    print_answer(Way(None, config, as_json), act, show)


@app.command("status")
def status(url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Which master keys there are, and how much lies under each."""

    def show(found: dict[str, Any]) -> None:
        if not found["ready"]:
            output.print_lines("There is no master key, so nothing can be stored. Make one: tollhouse vault init")
        rows = [(row["version"], f"{row['records']:,}", _word(row, found["current"])) for row in found["versions"]]
        if rows:
            output.print_table((">Key", ">Secrets", ""), rows, empty="")
        if found["unopened"]:
            output.print_lines(f"{found['unopened']:,} stored secrets cannot be opened: restore their master keys.")

    print_answer(Way(url, config, as_json), lambda api: api.get("/vault"), show)


@app.command("rotate")
def rotate(
    forget_old: Annotated[
        bool, typer.Option("--forget-old", help="Then take the old keys out of their file. Old backups need them!")
    ] = False,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Make a new master key and bring everything under it, while calls are served. Broken off, it is run again."""

    async def act(api: Api) -> dict[str, Any]:
        path = _there(api, config)
        made = await _renewed(api, path)
        found = await api.post("/vault/reload")
        if not found["ready"]:
            raise Failure("There is no master key yet. Make one: tollhouse vault init", code="no_master_key")
        done, failed = await _rewrap(api, found["older"])
        found = await api.get("/vault")
        forgotten = await _forget(api, path, _unused(found)) if forget_old and path is not None else []
        left = await api.get("/vault")
        told = {"made": made, "rewrapped": done, "not_opened": failed, "forgotten": forgotten, "unused": _unused(left)}
        return {**told, **left}

    print_answer(Way(url, config, as_json), act, _show_rotated)


def _show_rotated(done: dict[str, Any]) -> None:
    if done["made"] is None:
        output.print_lines(f"No new master key was made; {done['current']} is the newest.")
    else:
        output.print_lines(f"Made master key {done['made']}. Back it up.")
    output.print_lines(f"Brought {done['rewrapped']:,} secrets under master key {done['current']}.")
    if done["forgotten"]:
        output.print_lines(f"Took out {', '.join(map(str, done['forgotten']))}. Backups from before need it still.")
    if done["unused"]:
        output.print_lines(f"Nothing lies under {', '.join(map(str, done['unused']))} any more, except in backups.")
    for one in done["not_opened"]:
        output.print_lines(output.clean(f"{one['noun']} {one['record']} stays as it is: {one['reason']}"))
    if done["unopened"]:
        output.print_lines(f"{done['unopened']:,} stored secrets cannot be opened: `tollhouse vault status`.")


async def _renewed(api: Api, path: Path | None) -> int | None:
    """The new version in the file; None where one that was begun goes on, or the operator adds it elsewhere."""
    if path is None:
        return None
    from tollhouse.settings import read_secret_file  # noqa: PLC0415  the network's way reads no settings
    from tollhouse.vault import key_file, parse_master_keys  # noqa: PLC0415  as above

    before = await api.get("/vault")
    there = parse_master_keys(read_secret_file(path, where="vault.master_keys"), where=str(path)).current
    if there > (before["current"] or 0) or before["older"]:
        return None
    key_file.append(path, there + 1)
    return there + 1


async def _rewrap(api: Api, older: int) -> tuple[int, list[dict[str, str]]]:
    """Batch after batch; how many there were, and some of those that do not open."""
    done, failed, after = 0, [], ""
    while True:
        batch = await api.post("/vault/rewrap", {"limit": BATCH, "after": after})
        done += batch["rewrapped"]
        failed += batch["not_opened"]
        over = batch["after"] is None
        _progress(done, older, over=over)
        if over:
            return done, failed[:BATCH]
        after = batch["after"]


def _progress(done: int, of: int, *, over: bool) -> None:
    if of and sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {of:,} secrets" + ("\n" if over else ""))
        sys.stderr.flush()


async def _forget(api: Api, path: Path, versions: list[int]) -> list[int]:
    """Take these out of the file."""
    if versions:
        from tollhouse.vault import key_file  # noqa: PLC0415  as above

        key_file.forget(path, versions)
        await api.post("/vault/reload")
    return versions


def _unused(found: dict[str, Any]) -> list[int]:
    """Older versions under which nothing lies."""
    older = [row for row in found["versions"] if row["configured"] and row["version"] < found["current"]]
    return [row["version"] for row in older if not row["records"]]


def _file(api: Api, config: Path | None) -> Path | None:
    """The file of master keys on this machine, whether or not it is there; None where they come from elsewhere."""
    if api.kind == "network":
        return None
    from tollhouse.settings import load  # noqa: PLC0415  as above
    from tollhouse.storage.home import MASTER_KEYS_NAME  # noqa: PLC0415  as above

    settings = load(config)
    named = settings.vault.master_keys
    if not named:
        return settings.home / MASTER_KEYS_NAME
    return Path(named.removeprefix("file:")).expanduser() if named.startswith("file:") else None


def _there(api: Api, config: Path | None) -> Path | None:
    """The file, if it is there."""
    path = _file(api, config)
    return path if path is not None and path.exists() else None


def _versions(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(str(row["version"]) for row in rows)


def _word(row: dict[str, Any], current: int | None) -> str:
    if not row["configured"]:
        return "not here: these cannot be opened"
    if not row["opens"]:
        return "another key has this number: these cannot be opened"
    return "seals what is stored from now on" if row["version"] == current else ""

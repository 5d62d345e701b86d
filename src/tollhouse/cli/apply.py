"""`tollhouse apply -f FILE`: say what a file would change, ask, and make it so."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, call, print_answer
from tollhouse.cli.declared_file import DeclaredFile, read_file
from tollhouse.cli.output import Failure

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="End what the file declared before and no longer names: revoke, block, remove.")
]
KeysTo = Annotated[
    Path | None,
    typer.Option("--keys-to", help="Write the secrets of new keys into this new file (0600), as JSON.", metavar="FILE"),
]

_SIGNS = {"create": "+", "update": "~", "delete": "-", "left": "."}


def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="The YAML file.", metavar="FILE")],
    prune: Prune = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    keys_to: KeysTo = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Make users, teams, keys, plans, budgets and providers what a YAML file says."""
    try:
        declared = read_file(file)
        tree = dict(declared.tree)
        owner = tree.pop("owner", file.name)
    except Failure as failure:
        raise typer.Exit(output.report(failure, as_json=as_json)) from failure
    body = {"owner": owner, "resources": tree, "prune": prune}
    carry_out(body, declared, Way(url, config, as_json), yes=yes, dry_run=dry_run, keys_to=keys_to)


def carry_out(
    body: dict[str, Any],
    declared: DeclaredFile,
    way: Way,
    *,
    yes: bool,
    dry_run: bool,
    keys_to: Path | None,
) -> None:
    """Plan, ask, apply."""
    if way.as_json and not (yes or dry_run):
        raise typer.BadParameter("--json asks nothing: add --yes, or --dry-run to see the plan.")

    async def ask(api: Api) -> Any:
        try:
            return await api.post("/declarations", {**body, "dry_run": True})
        except Failure as failure:
            raise declared.explain(failure) from failure

    async def act(api: Api) -> Any:
        with new_file(keys_to) as keep:
            answer = await api.post("/declarations", body)
            return {**answer, "keys": keep(answer["keys"])}

    if dry_run:
        print_answer(way, ask, print_plan)
        return
    if not way.as_json:
        plan = call(way, ask)
        print_plan(plan)
        if not _changes(plan):
            return
    if not yes and not _agreed():
        raise typer.Exit(1)
    print_answer(way, act, lambda done: _print_done(done, keys_to))


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask: add --yes to apply this, or --dry-run to only see it.")
    return typer.confirm("Apply this?", err=True)


def _changes(plan: dict[str, Any]) -> int:
    return sum(int(plan["summary"][act]) for act in ("create", "update", "delete"))


def print_plan(plan: dict[str, Any]) -> None:
    lines = []
    for change in plan["changes"]:
        sign = _SIGNS.get(change["act"])
        if sign is None:
            continue
        note = "   no longer named; --prune ends it" if change["act"] == "left" else ""
        lines.append(f"{sign} {change['kind']} {change['name']}{note}")
        for field in change["fields"]:
            before = "" if change["act"] == "create" else f"{_shown(field['before'])} → "
            lines.append(f"    {field['field']}: {before}{_shown(field['after'])}")
    count = plan["summary"]
    lines.append(
        f"{plan['owner']}: {count['create']} to create, {count['update']} to change, {count['delete']} to end, "
        f"{count['unchanged']} unchanged, {count['left']} no longer named"
    )
    output.print_lines(*(output.clean(line) for line in lines))


def _shown(value: object) -> str:
    return "none" if value is None else msgspec.json.encode(value).decode()


def _print_done(done: dict[str, Any], keys_to: Path | None) -> None:
    keys = done["keys"]
    if keys and keys_to is None:
        output.print_lines("", "New keys. This is the only time they are shown; store them now.", "")
        output.print_lines(
            *(f"  {output.clean(key['name'])} of {output.clean(key['user_id'])}: {key['key']}" for key in keys)
        )
    count = done["summary"]
    kept = f"; the secrets of {len(keys)} new keys are in {keys_to}" if keys and keys_to is not None else ""
    output.print_lines(f"Applied: {count['create']} created, {count['update']} changed, {count['delete']} ended{kept}.")


@contextlib.contextmanager
def new_file(path: Path | None) -> Iterator[Any]:
    """Where secrets are kept: a function that writes them down and returns what may be shown of them. The file is made
    before anything is changed, so that no secret is lost for want of a place; it goes again when it was not needed.
    """
    if path is None:
        yield lambda keys: keys
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        hint = "; keys are never written over others" if isinstance(error, FileExistsError) else ""
        raise Failure(f"--keys-to {path}: {error.strerror}{hint}.", code="usage", exit_code=2) from error
    written = False

    def keep(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nonlocal written
        if keys:
            os.write(descriptor, msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n")
            os.fsync(descriptor)
            written = True
        return [{name: value for name, value in key.items() if name != "key"} for key in keys]

    try:
        yield keep
    finally:
        os.close(descriptor)
        if not written:
            path.unlink(missing_ok=True)

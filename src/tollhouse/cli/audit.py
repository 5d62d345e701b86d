"""`tollhouse audit …`: who did what, and whether the record of it is what was written."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, call, print_list
from tollhouse.cli.output import Failure

app = typer.Typer()

PAGE = 500
MAX_TOLD = 20
"""Faults that are printed one by one; all are counted."""

Actor = Annotated[
    str | None, typer.Option("--actor", help="Only what this user (or key, operator, house) did.", metavar="WHO")
]
Object = Annotated[str | None, typer.Option("--object", help="Only what was done to this id.", metavar="ID")]
Kind = Annotated[str | None, typer.Option("--kind", help="Only things of this kind: user, key, budget, session, …")]
Act = Annotated[str | None, typer.Option("--act", help="Only this act: created, changed, removed, refused, …")]
Action = Annotated[str | None, typer.Option("--action", help="Only by this action, such as keys:write.")]
Since = Annotated[str | None, typer.Option("--since", help="7d (ago), 2026-11-01, a time with zone.", metavar="WHEN")]
Until = Annotated[str | None, typer.Option("--until", help="As --since; not included.", metavar="WHEN")]


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


@app.command("list")
def list_all(
    actor: Actor = None,
    object_: Object = None,
    kind: Kind = None,
    act: Act = None,
    action: Action = None,
    since: Since = None,
    until: Until = None,
    limit: options.PageSize = 50,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show what was done, newest first."""
    wanted = _wanted(actor, object_, kind, act, action, since, until)
    columns = (">No.", "When", "Who", "From", "Did", "What", "Which", "Changed")
    print_list(
        Way(url, config, as_json),
        lambda api: api.pages("/audit", limit=limit, **wanted),
        columns,
        _row,
        empty="No records. What is changed from now on leaves one.",
    )


@app.command("export")
def export(
    actor: Actor = None,
    object_: Object = None,
    kind: Kind = None,
    act: Act = None,
    action: Action = None,
    since: Since = None,
    until: Until = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Print all records, oldest first, one JSON document a line (JSONL)."""
    wanted = _wanted(actor, object_, kind, act, action, since, until)

    async def stream(api: Api) -> None:
        cursor: str | None = None
        while True:
            page = await api.get("/audit", cursor=cursor, limit=PAGE, order=Order.OLDEST.value, **wanted)
            for item in page["items"]:
                sys.stdout.write(msgspec.json.encode(item).decode() + "\n")
            cursor = page["next_cursor"]
            if cursor is None:
                return

    call(Way(url, config, as_json), stream)


@app.command("verify")
def verify(
    head: Annotated[
        str | None,
        typer.Option("--head", help="A head you kept elsewhere, that the trail must have.", metavar="SEQ:HASH"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Verify only what came after this head, which you trust.", metavar="SEQ:HASH"),
    ] = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Find every record that was edited, removed, moved, inserted or cut off. Exit code 1 when there is any."""

    async def act(api: Api) -> dict[str, Any]:
        found: dict[str, Any] = {"records": 0, "faults": [], "head": "", "anchor": None}
        after, count = since, 0
        while True:
            part = await api.get("/audit/verification", after=after, head=head)
            found["records"] += part["records"]
            count += len(part["faults"])
            found["faults"] += part["faults"][: MAX_TOLD - len(found["faults"])]
            found.update(head=part["head"], anchor=part["anchor"])
            _progress(found["records"], as_json=as_json, over=part["next"] is None)
            if part["next"] is None:
                return {**found, "intact": not count, "fault_count": count}
            after = part["next"]

    way = Way(url, config, as_json)
    found = call(way, act)
    if as_json:
        output.print_json(found)
    else:
        _show(found)
    if not found["intact"]:
        broken = Failure(f"The audit trail is broken: {found['fault_count']} faults.", code="audit_broken")
        raise typer.Exit(broken.exit_code if as_json else output.report(broken, as_json=False))


def _wanted(
    actor: str | None,
    thing: str | None,
    kind: str | None,
    act: str | None,
    action: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, str | None]:
    return {
        "actor": actor,
        "object": thing,
        "kind": kind,
        "act": act,
        "action": action,
        "since": since,
        "until": until,
    }


def _progress(records: int, *, as_json: bool, over: bool) -> None:
    if not as_json and sys.stderr.isatty():
        sys.stderr.write(f"\r{records:,} records{chr(10) if over else ''}")


def _show(found: dict[str, Any]) -> None:
    for fault in found["faults"]:
        output.print_lines(output.clean(f"at {fault['seq']}: {fault['what']}"))
    if found["fault_count"] > len(found["faults"]):
        output.print_lines(f"… and {found['fault_count'] - len(found['faults'])} more")
    behind = ""
    if found["anchor"] is not None and found["intact"]:
        steps = int(found["head"].partition(":")[0]) - int(found["anchor"].partition(":")[0])
        behind = f" (the home's copy of the head is {steps} behind, as after a crash)" if steps > 0 else ""
    output.print_facts(("records", f"{found['records']:,}"), ("head", found["head"] + behind))
    if found["intact"]:
        output.print_lines("The audit trail is whole.")


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    who = record["actor"] or record["actor_kind"]
    place = " ".join(part for part in (record["address"] or record["way"], record["client"]) if part)
    return (
        record["seq"],
        output.local_time(record["at"]),
        who,
        place,
        record["act"],
        record["kind"],
        record["object"],
        _changed(record),
    )


MAX_SHOWN = 60


def _changed(record: dict[str, Any]) -> str:
    """The fields that changed, with both sides where they are short."""
    told = []
    for change in record["changes"]:
        before, after = (_short(change[side]) for side in ("before", "after"))
        if before == after:
            continue
        told.append(f"{change['field']} {before} → {after}" if change["before"] is not None else change["field"])
    text = ", ".join(told)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _short(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()

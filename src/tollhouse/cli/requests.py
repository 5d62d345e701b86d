"""`tollhouse requests …`: what was asked and answered in one call, where its key has it kept."""

import sys
from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Way, print_answer
from tollhouse.client.asks import segment

app = typer.Typer()

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The x-tollhouse-request-id of its answer.")]


@app.callback()
def requests() -> None:
    """Single calls."""


@app.command("content")
def content(
    request: RequestId, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Print the bodies of a request and its answer, where its key has them kept."""
    path = f"/requests/{segment(request)}/content"
    print_answer(Way(url, config, as_json), lambda api: api.get(path), _print_content)


def _print_content(found: dict[str, Any]) -> None:
    output.print_facts(
        ("request", found["request_id"]),
        ("user", found["user_id"]),
        ("key", found["key_id"]),
        ("at", output.local_time(found["at"])),
        ("kept until", output.local_time(found["expires_at"])),
    )
    for name in ("request", "answer"):
        side = found[name]
        told = f", cut after {len(side['body']):,} characters" if side["cut"] else ""
        coded = ", base64" if side["encoding"] == "base64" else ""
        output.print_lines("", f"--- {name}: {side['bytes']:,} bytes{coded}{told}")
        # Line by line: what was written by others may not steer the terminal.
        sys.stdout.write("".join(f"{output.clean(line)}\n" for line in side["body"].splitlines()))

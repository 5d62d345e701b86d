"""`tollhouse import litellm config.yaml`: another gateway's configuration as a declared file."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from tollhouse.cli import options, output
from tollhouse.cli.apply import DryRun, KeysTo, Prune, Yes, carry_out
from tollhouse.cli.client import Way
from tollhouse.cli.declared_file import DeclaredFile, read_file
from tollhouse.cli.from_litellm import Converted, convert
from tollhouse.cli.output import Failure

app = typer.Typer()


@app.callback()
def _root() -> None:
    """Take over another gateway's configuration."""


@app.command("litellm")
def litellm(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="LiteLLM's config.yaml.")],
    apply: Annotated[bool, typer.Option("--apply", help="Apply it at once, as `apply` does.")] = False,
    prune: Prune = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    keys_to: KeysTo = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Print a file for `tollhouse apply` made of LiteLLM's; what could not be taken over goes to stderr."""
    try:
        converted = convert(read_file(file).tree)
    except (Failure, ValueError) as error:
        failure = error if isinstance(error, Failure) else Failure(f"{file}: {error}", code="invalid_file", exit_code=2)
        raise typer.Exit(output.report(failure, as_json=as_json)) from error
    if not apply:
        _print(converted, file, as_json=as_json)
        return
    _tell(converted.notes)
    text = yaml.safe_dump(converted.declared, sort_keys=False)
    body = {"owner": file.name, "resources": converted.declared, "prune": prune}
    declared = DeclaredFile(f"what was made of {file}", text)
    carry_out(body, declared, Way(url, config, as_json), yes=yes, dry_run=dry_run, keys_to=keys_to)


def _print(converted: Converted, file: Path, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"declared": converted.declared, "notes": converted.notes})
        return
    output.print_lines(f"# Made of LiteLLM's {output.clean(file.name)}. Look at it, then: tollhouse apply -f THIS-FILE")
    sys.stdout.write(yaml.safe_dump(converted.declared, sort_keys=False, default_flow_style=None, width=120))
    _tell(converted.notes)


def _tell(notes: list[str]) -> None:
    if notes:
        lines = ["Not taken over, or yours to do:", *(f"  {output.clean(note)}" for note in notes)]
        sys.stderr.write("\n".join(lines) + "\n")

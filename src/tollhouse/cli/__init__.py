"""The commands, one noun a file.

A noun's module is imported only when its noun is typed: `serve` does not pay for the tables of `usage`, and `--help`
for none. A module offers either `app` (a Typer of verbs: keys, users, budgets) or one function of the noun's own name
(usage, doctor). Errors leave through one door, `output.report`, as a sentence or as JSON, with 2 for wrong usage and 1
for anything else.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any

COMMANDS = {
    "serve": "Run the gateway.",
    "demo": "Run it with the embedded model and stream one governed answer.",
    "users": "Users: create, list, show, edit, block, unblock, erase.",
    "keys": "Virtual keys: create, mint, list, show, edit, rotate, pause, resume, revoke.",
    "teams": "Teams: create, list, show, edit, block, unblock; add and remove members.",
    "plans": "Plans: create, list, show, edit, remove.",
    "budgets": "Hard caps over the organisation, a team, a user or a key: set, list, edit, remove.",
    "credentials": "Stored credentials of providers: list, add, replace, test, assign, unassign, remove.",
    "vault": "Master keys under which secrets are stored: init, status, rotate.",
    "providers": "Providers: list; refresh, to have a credential read again now.",
    "apply": "Make users, teams, keys, plans, budgets and providers what a YAML file says.",
    "import": "Another gateway's configuration as a file to apply: litellm.",
    "webhooks": "Who is told of notices: create, list, show, edit, test, deliveries, remove.",
    "notices": "What happened here: budgets nearly spent, lock-outs, unusual use.",
    "usage": "What was used and what it cost, by user, key, team, model, client, session, end user or day.",
    "requests": "What was asked and answered in a call, where its key has it kept: content.",
    "audit": "Who did what: list, export, verify.",
    "doctor": "What is configured, reachable, priced, insecure; the exit code tells.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 well, 1 failed, 2 used wrongly, 130 interrupted."""
    import typer  # noqa: PLC0415  not needed by whoever imports the package

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from tollhouse import __version__  # noqa: PLC0415  not needed by whoever imports the package

        print(f"tollhouse {__version__}")
        return 0
    command = typer.main.get_command(_root(arguments[0] if arguments else ""))
    try:
        code = command.main(arguments or ["--help"], prog_name="tollhouse", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return _leave_quietly()
    except typer.TyperException as error:
        from tollhouse.cli.output import report_usage  # noqa: PLC0415  not needed by whoever imports the package

        return report_usage(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0


def _root(noun: str) -> Any:
    """The tree of commands with only `noun` loaded; the others are names for the help."""
    import typer  # noqa: PLC0415  not needed by whoever imports the package

    root = typer.Typer(
        name="tollhouse",
        help="A gateway between users and LLM providers: keys, limits, exact budgets, one ledger.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    for name, help_text in COMMANDS.items():
        if name != noun:
            root.command(name, help=help_text)(_unloaded)
            continue
        module = import_module(f"tollhouse.cli.{name}_" if iskeyword(name) else f"tollhouse.cli.{name}")
        if hasattr(module, "app"):
            root.add_typer(module.app, name=name, help=help_text, no_args_is_help=True)
        else:
            root.command(name, help=help_text)(getattr(module, name))
    return root


def _unloaded() -> None:
    raise AssertionError("only the noun that was typed is run, and that one is loaded")


def _leave_quietly() -> int:
    """The reader of our output went away (`| head`): no traceback at exit either."""
    sys.stdout = sys.stderr
    return 1

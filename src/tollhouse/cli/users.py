"""`tollhouse users …`: a user's limits and budgets hold over the sum of their keys."""

import sys
from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Way, print_answer, print_list
from tollhouse.client.asks import segment

app = typer.Typer()

Role = Annotated[
    str | None,
    typer.Option("--role", help="What they are here.", metavar="owner|admin|member|viewer|service"),
]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]


@app.command("create")
def create(
    user: UserName,
    name: Annotated[str | None, typer.Option("--name", help="A name for people.")] = None,
    email: Annotated[str | None, typer.Option("--email")] = None,
    role: Role = None,
    team: options.Team = None,
    plan: options.Plan = None,
    budget: options.BudgetText = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    metadata: options.Metadata = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create a user (a key's user is created on first mention, too)."""
    body = options.typed_only(
        user_id=user,
        name=name,
        email=email,
        role=role,
        budget=budget,
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        metadata=options.metadata_body(metadata or []),
    ) | options.or_none(team_id=team, plan_id=plan)
    print_answer(Way(url, config, as_json), lambda api: api.post("/users", body), _print_user)


@app.command("list")
def list_all(
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List users."""
    columns = ("User", "Name", "Role", "Team", "Plan", "Status", "Limits", "Since")
    empty = "No users yet. Make one with a key: tollhouse keys create --user alice"
    print_list(Way(url, config, as_json), lambda api: api.pages("/users", limit=limit), columns, _row, empty=empty)


@app.command("show")
def show(user: UserName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show one user, their limits, and what is left of their budgets."""
    print_answer(Way(url, config, as_json), lambda api: api.get(f"/users/{segment(user)}"), _print_user)


@app.command("edit")
def edit(
    user: UserName,
    name: Annotated[str | None, typer.Option("--name", help="A name for people.")] = None,
    email: Annotated[str | None, typer.Option("--email")] = None,
    role: Role = None,
    team: options.Team = None,
    plan: options.Plan = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    metadata: options.Metadata = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change a user; effective on their next call. Budgets: `tollhouse budgets set … --user USER`."""
    body = options.typed_only(
        name=name,
        email=email,
        role=role,
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        metadata=options.metadata_body(metadata or []),
    ) | options.or_none(team_id=team, plan_id=plan)
    if not body:
        raise typer.BadParameter("say what to change, such as --rpm 60 or --name 'Alice Doe'.")
    print_answer(Way(url, config, as_json), lambda api: api.patch(f"/users/{segment(user)}", body), _print_user)


@app.command("block")
def block(
    user: UserName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Refuse every call of this user's keys from now on."""
    print_answer(Way(url, config, as_json), lambda api: api.post(f"/users/{segment(user)}/block"), _print_user)


@app.command("unblock")
def unblock(
    user: UserName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Let the user's keys work again."""
    print_answer(Way(url, config, as_json), lambda api: api.post(f"/users/{segment(user)}/unblock"), _print_user)


@app.command("erase")
def erase(
    user: UserName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Erase everything personal of a user, for good; what was used and what it cost stays, under a pseudonym."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("this cannot be undone: say --yes where nobody can be asked.")
        typer.echo(
            f"Erasing {output.clean(user)} revokes their keys, ends their sessions and calls, and deletes who they "
            "are. It cannot be undone.",
            err=True,
        )
        if typer.prompt("Type the user's id to go on", err=True) != user:
            raise typer.Abort

    def show(nobody: dict[str, Any]) -> None:
        output.print_lines(f"Erased. What they used stands under {nobody['user_id']}.")

    print_answer(Way(url, config, as_json), lambda api: api.post(f"/users/{segment(user)}/erase"), show)


def _row(user: dict[str, Any]) -> tuple[object, ...]:
    return (
        user["user_id"],
        user["name"],
        user["role"],
        user["team_id"] or "",
        user["plan_id"] or "",
        user["status"],
        output.limits_text(user["limits"]),
        output.local_time(user["created_at"]),
    )


def _print_user(user: dict[str, Any]) -> None:
    output.print_facts(
        ("user", user["user_id"]),
        ("name", user["name"]),
        ("email", user["email"]),
        ("role", user["role"]),
        ("team", user["team_id"]),
        ("plan", user["plan_id"]),
        ("status", user["status"]),
        ("limits", output.limits_text(user["limits"])),
        ("metadata", output.metadata_text(user["metadata"])),
        ("teams", ", ".join(f"{one['team_id']} ({one['role']})" for one in user["teams"])),
        ("declared by", user["owned_by"]),
        budgets=user["budgets"],
    )

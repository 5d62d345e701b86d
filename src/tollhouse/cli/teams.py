"""`tollhouse teams …`: users and keys whose spend counts together; who is in them."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer, print_list
from tollhouse.client.asks import segment

app = typer.Typer()

TeamName = Annotated[str, typer.Argument(metavar="TEAM", help="The team's id.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]
Name = Annotated[str | None, typer.Option("--name", help="A name for people.")]


@app.command("create")
def create(
    team: TeamName,
    name: Name = None,
    plan: options.Plan = None,
    budget: options.BudgetText = None,
    models: options.Models = None,
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
    """Create a team; its limits and budget hold over everything that counts toward it."""
    body = options.typed_only(
        team_id=team,
        name=name,
        budget=budget,
        models=options.models_body(models or []),
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        metadata=options.metadata_body(metadata or []),
        **options.or_none(plan_id=plan),
    )
    print_answer(Way(url, config, as_json), lambda api: api.post("/teams", body), _print_team)


@app.command("list")
def list_all(
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List teams."""
    columns = ("Team", "Name", "Status", "Plan", "Models", "Limits")
    empty = "No teams yet. Make one: tollhouse teams create red --budget 100/month"
    print_list(Way(url, config, as_json), lambda api: api.pages("/teams", limit=limit), columns, _row, empty=empty)


@app.command("show")
def show(team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show one team, its members, and what is left of its budgets."""

    async def act(api: Api) -> Any:
        found = await api.get(f"/teams/{segment(team)}")
        return {**found, "members": await api.pages(f"/teams/{segment(team)}/members", limit=1_000)}

    print_answer(Way(url, config, as_json), act, _print_team)


@app.command("edit")
def edit(
    team: TeamName,
    name: Name = None,
    plan: options.Plan = None,
    models: options.Models = None,
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
    """Change a team; effective on the next call. Budgets: `tollhouse budgets set … --team TEAM`."""
    body = options.typed_only(
        name=name,
        models=options.models_body(models or []),
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        metadata=options.metadata_body(metadata or []),
    ) | options.or_none(plan_id=plan)
    if not body:
        raise typer.BadParameter("say what to change, such as --plan free or --rpm 600.")
    print_answer(Way(url, config, as_json), lambda api: api.patch(f"/teams/{segment(team)}", body), _print_team)


@app.command("block")
def block(
    team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Refuse every call that counts toward this team from now on."""
    print_answer(Way(url, config, as_json), lambda api: api.post(f"/teams/{segment(team)}/block"), _print_team)


@app.command("unblock")
def unblock(
    team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Let the team's calls through again."""
    print_answer(Way(url, config, as_json), lambda api: api.post(f"/teams/{segment(team)}/unblock"), _print_team)


@app.command("add")
def add(
    team: TeamName,
    user: UserName,
    role: Annotated[str, typer.Option("--role", help="What they are in the team.", metavar="admin|member|viewer")] = (
        "member"
    ),
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Take a user into a team, or give them another role there."""

    def show(member: dict[str, Any]) -> None:
        output.print_lines(f"{output.clean(user)} is {member['role']} in {output.clean(team)}.")

    path = f"/teams/{segment(team)}/members/{segment(user)}"
    print_answer(Way(url, config, as_json), lambda api: api.put(path, {"role": role}), show)


@app.command("remove")
def remove(
    team: TeamName,
    user: UserName,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Take a user out of a team; their keys in it are revoked."""

    def show(gone: dict[str, Any]) -> None:
        count = len(gone["revoked_keys"])
        output.print_lines(f"{output.clean(user)} is no longer in {output.clean(team)}; {count} keys revoked.")

    path = f"/teams/{segment(team)}/members/{segment(user)}"
    print_answer(Way(url, config, as_json), lambda api: api.delete(path), show)


def _row(team: dict[str, Any]) -> tuple[object, ...]:
    return (
        team["team_id"],
        team["name"],
        team["status"],
        team["plan_id"] or "",
        output.models_text(team["models"]),
        output.limits_text(team["limits"]),
    )


def _print_team(team: dict[str, Any]) -> None:
    output.print_facts(
        ("team", team["team_id"]),
        ("name", team["name"]),
        ("status", team["status"]),
        ("plan", team["plan_id"]),
        ("models", output.models_text(team["models"])),
        ("limits", output.limits_text(team["limits"])),
        ("metadata", output.metadata_text(team["metadata"])),
        ("declared by", team["owned_by"]),
        ("members", ", ".join(f"{one['user_id']} ({one['role']})" for one in team.get("members", ()))),
        budgets=team["budgets"],
    )

"""`tollhouse teams …`: users and keys whose spend counts together; who is in them."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, call
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

    async def act(api: Api) -> Any:
        return await api.post("/teams", body)

    _print_team(call(Way(url, config), act, as_json=as_json), as_json=as_json)


@app.command("list")
def list_all(
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List teams."""

    async def act(api: Api) -> list[Any]:
        return await api.pages("/teams", limit=limit)

    teams = call(Way(url, config), act, as_json=as_json)
    if as_json:
        output.print_json({"items": teams})
        return
    rows = [
        (
            team["team_id"],
            team["name"],
            team["status"],
            team["plan_id"] or "",
            ", ".join(team["models"] or ["all"]),
            output.limits_text(team["limits"]),
        )
        for team in teams
    ]
    columns = ("Team", "Name", "Status", "Plan", "Models", "Limits")
    output.print_table(columns, rows, empty="No teams yet. Make one: tollhouse teams create red --budget 100/month")


@app.command("show")
def show(team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show one team, its members, and what is left of its budgets."""

    async def act(api: Api) -> Any:
        found = await api.get(f"/teams/{segment(team)}")
        return {**found, "members": await api.pages(f"/teams/{segment(team)}/members", limit=1_000)}

    _print_team(call(Way(url, config), act, as_json=as_json), as_json=as_json)


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

    async def act(api: Api) -> Any:
        return await api.patch(f"/teams/{segment(team)}", body)

    _print_team(call(Way(url, config), act, as_json=as_json), as_json=as_json)


@app.command("block")
def block(
    team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Refuse every call that counts toward this team from now on."""
    _act_on("block", team, Way(url, config), as_json=as_json)


@app.command("unblock")
def unblock(
    team: TeamName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Let the team's calls through again."""
    _act_on("unblock", team, Way(url, config), as_json=as_json)


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

    async def act(api: Api) -> Any:
        return await api.put(f"/teams/{segment(team)}/members/{segment(user)}", {"role": role})

    member = call(Way(url, config), act, as_json=as_json)
    if as_json:
        output.print_json(member)
    else:
        output.print_lines(f"{output.clean(user)} is {member['role']} in {output.clean(team)}.")


@app.command("remove")
def remove(
    team: TeamName,
    user: UserName,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Take a user out of a team; their keys in it are revoked."""

    async def act(api: Api) -> Any:
        return await api.delete(f"/teams/{segment(team)}/members/{segment(user)}")

    gone = call(Way(url, config), act, as_json=as_json)
    if as_json:
        output.print_json(gone)
    else:
        count = len(gone["revoked_keys"])
        output.print_lines(f"{output.clean(user)} is no longer in {output.clean(team)}; {count} keys revoked.")


def _act_on(verb: str, team: str, way: Way, *, as_json: bool) -> None:
    async def act(api: Api) -> Any:
        return await api.post(f"/teams/{segment(team)}/{verb}")

    _print_team(call(way, act, as_json=as_json), as_json=as_json)


def _print_team(team: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(team)
        return
    facts: list[tuple[str, object]] = [
        ("team", team["team_id"]),
        ("name", team["name"]),
        ("status", team["status"]),
        ("plan", team["plan_id"]),
        ("models", ", ".join(team["models"] or ["all"])),
        ("limits", output.limits_text(team["limits"])),
        ("metadata", ", ".join(f"{name}={value}" for name, value in team["metadata"].items())),
        ("declared by", team["owned_by"]),
        ("members", ", ".join(f"{one['user_id']} ({one['role']})" for one in team.get("members", ()))),
    ]
    output.print_facts([*facts, *(("budget", output.budget_line(budget)) for budget in team["budgets"])])

"""`tollhouse budgets …`: hard caps over the organisation, a team, a user (all their keys together) or one key."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer, print_list
from tollhouse.cli.keys import key_id
from tollhouse.cli.output import Failure
from tollhouse.client.asks import segment

app = typer.Typer()

Cap = Annotated[
    str,
    typer.Argument(metavar="CAP", help="20/month, $5/day, 5/5h, '1M tokens/month', '500 requests/day', 20 (in all)."),
]
OfUser = Annotated[str | None, typer.Option("--user", help="Over all keys of this user.")]
OfKey = Annotated[str | None, typer.Option("--key", help="Over this key (id or name).")]
OfTeam = Annotated[str | None, typer.Option("--team", help="Over everything that counts toward this team.")]
OfAll = Annotated[bool, typer.Option("--organisation", help="Over everybody.")]
Edge = Annotated[
    str | None,
    typer.Option("--edge", help="clamp: shorten the answer to what is left; refuse: refuse.", metavar="clamp|refuse"),
]
BudgetId = Annotated[str, typer.Argument(metavar="BUDGET", help="The budget's id, from `tollhouse budgets list`.")]


@app.command("set")
def set_budget(
    cap: Cap,
    user: OfUser = None,
    key: OfKey = None,
    team: OfTeam = None,
    organisation: OfAll = False,
    timezone: Annotated[str | None, typer.Option("--timezone", help="Whose midnight: an IANA name.")] = None,
    edge: Edge = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Set a cap. One of the same unit and window that is there is changed; what was spent stays spent."""
    if sum((user is not None, key is not None, team is not None, organisation)) != 1:
        raise typer.BadParameter("say over what, by exactly one of --user, --key, --team, --organisation.")

    async def act(api: Api) -> Any:
        scope, scope_id = await _scope(api, user, key, team)
        body = options.typed_only(scope=scope, scope_id=scope_id, amount=cap, timezone=timezone, edge=edge)
        try:
            return await api.post("/budgets", body)
        except Failure as failure:
            existing = failure.problem.get("existing")
            if existing is None:
                raise
            if timezone is not None:
                raise Failure(
                    f"The time zone of a budget cannot be changed: remove {existing} first, then set it anew.",
                    code="budget_exists",
                ) from failure
            return await api.patch(f"/budgets/{segment(existing)}", options.typed_only(amount=cap, edge=edge))

    print_answer(Way(url, config, as_json), act, _print_budget)


@app.command("list")
def list_all(
    user: OfUser = None,
    key: OfKey = None,
    team: OfTeam = None,
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List budgets with what is spent, held by calls under way, and left."""

    async def act(api: Api) -> list[Any]:
        if user is None and key is None and team is None:
            return await api.pages("/budgets", limit=limit)
        scope, scope_id = await _scope(api, user, key, team)
        return await api.pages("/budgets", limit=limit, scope=scope, scope_id=scope_id)

    columns = ("Over", "Window", ">Limit", ">Spent", ">Held", ">Left", "", "Resets", "Edge", "Id")
    empty = "No budgets yet. Set one: tollhouse budgets set 20/month --user alice"
    print_list(Way(url, config, as_json), act, columns, _row, empty=empty)


@app.command("edit")
def edit_budget(
    budget: BudgetId,
    amount: Annotated[str | None, typer.Option("--amount", help="The new limit, in the budget's own unit.")] = None,
    edge: Edge = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change how much, or what happens at the edge."""
    body = options.typed_only(amount=amount, edge=edge)
    if not body:
        raise typer.BadParameter("say what to change: --amount or --edge.")
    print_answer(Way(url, config, as_json), lambda api: api.patch(f"/budgets/{segment(budget)}", body), _print_budget)


@app.command("remove")
def remove(
    budget: BudgetId, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Remove a cap; what it counted stays in the ledger."""

    def show(answer: dict[str, Any]) -> None:
        removed = answer["removed"]
        limit = output.amount(removed["limit"], removed["unit"])
        output.print_lines(f"Removed {limit} ({removed['window']}) of {output.clean(_over(removed))}.")

    print_answer(Way(url, config, as_json), lambda api: api.remove(f"/budgets/{segment(budget)}"), show)


async def _scope(api: Api, user: str | None, key: str | None, team: str | None) -> tuple[str, str | None]:
    if team is not None:
        return "team", team
    if user is not None:
        return "user", user
    if key is not None:
        return "key", await key_id(api, key)
    return "organisation", None


def _over(budget: dict[str, Any]) -> str:
    return "organisation" if budget["scope"] == "organisation" else f"{budget['scope']} {budget['scope_name']}"


def _row(budget: dict[str, Any]) -> tuple[str, ...]:
    unit = budget["unit"]
    return (
        _over(budget),
        budget["window"],
        output.amount(budget["limit"], unit),
        output.amount(budget["posted"], unit),
        output.amount(budget["held"], unit),
        output.amount(budget["remaining"], unit),
        output.gauge(output.taken_share(budget["limit"], budget["remaining"])),
        output.local_time(budget["resets_at"]) or "never",
        budget["edge"],
        budget["budget_id"],
    )


def _print_budget(budget: dict[str, Any]) -> None:
    output.print_lines(f"{output.clean(_over(budget))}: {output.budget_line(budget)}")

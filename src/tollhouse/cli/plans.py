"""`tollhouse plans …`: named bundles of limits, budgets and models; each holder has them for themselves."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Way, print_answer, print_list
from tollhouse.client.asks import segment

app = typer.Typer()

PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is, for people.")]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", help="A cap for each holder, repeated: 5/month, '1M tokens/month'; none.", metavar="CAP"),
]
MaxTokens = Annotated[
    str | None, typer.Option("--max-tokens", help="Most output tokens of one call, or none.", metavar="N|none")
]
Edge = Annotated[
    str | None,
    typer.Option("--edge", help="clamp: shorten the answer; refuse: refuse the call.", metavar="clamp|refuse"),
]
OwnKey = Annotated[
    str | None,
    typer.Option(
        "--own-key",
        help="Whether the user's own provider key pays.",
        metavar="never|own_first|shared_first|own_only",
    ),
]
Without = Annotated[
    str | None,
    typer.Option("--without-own-key", help="The plan that holds while the shared key pays.", metavar="PLAN|none"),
]
FallBack = Annotated[
    bool | None,
    typer.Option(
        "--fall-back/--no-fall-back", help="own_first: when their key is refused, send it with the shared one."
    ),
]
CountsOwnKey = Annotated[
    bool | None,
    typer.Option("--count-own-key/--no-count-own-key", help="What own keys pay counts toward budgets."),
]


@app.command("create")
def create(
    plan: PlanName,
    description: Description = None,
    budget: Budgets = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    models: options.Models = None,
    max_tokens: MaxTokens = None,
    edge: Edge = None,
    own_key: OwnKey = None,
    without_own_key: Without = None,
    fall_back: FallBack = None,
    counts_own_key: CountsOwnKey = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create a plan. Give it: tollhouse users edit USER --plan PLAN."""
    limits = options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth)
    own = _own(own_key, without_own_key, fall_back, counts_own_key)
    body = {"plan_id": plan} | _body(description, budget, limits, models, max_tokens, edge) | own
    print_answer(Way(url, config, as_json), lambda api: api.post("/plans", body), _print_plan)


@app.command("edit")
def edit(
    plan: PlanName,
    description: Description = None,
    budget: Budgets = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    models: options.Models = None,
    max_tokens: MaxTokens = None,
    edge: Edge = None,
    own_key: OwnKey = None,
    without_own_key: Without = None,
    fall_back: FallBack = None,
    counts_own_key: CountsOwnKey = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change a plan; its holders have it on their next call."""
    limits = options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth)
    body = _body(description, budget, limits, models, max_tokens, edge)
    body |= _own(own_key, without_own_key, fall_back, counts_own_key)
    if not body:
        raise typer.BadParameter("say what to change, such as --rpm 60 or --budget '2M tokens/month'.")
    print_answer(Way(url, config, as_json), lambda api: api.patch(f"/plans/{segment(plan)}", body), _print_plan)


def _body(
    description: str | None,
    budgets: list[str] | None,
    limits: dict[str, int | None],
    models: list[str] | None,
    max_tokens: str | None,
    edge: str | None,
) -> dict[str, Any]:
    """What was typed; `none` takes something away. Raises BadParameter."""
    body = options.typed_only(
        description=description,
        limits=limits,
        models=options.models_body(models or []),
        edge=edge,
    )
    if budgets:
        body["budgets"] = [] if budgets == ["none"] else budgets
    if max_tokens is not None:
        body["max_output_tokens"] = options.number("--max-tokens", max_tokens)
    return body


def _own(
    own_key: str | None, without_own_key: str | None, fall_back: bool | None, counts_own_key: bool | None
) -> dict[str, Any]:
    """Whose key pays, and what of it counts."""
    typed = options.typed_only(own_key=own_key, fall_back=fall_back, counts_own_key=counts_own_key)
    return typed | options.or_none(without_own_key=without_own_key)


@app.command("list")
def list_all(
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List plans."""
    columns = ("Plan", "Limits", "Budgets", "Output", "Models", "Own key", "")
    empty = "No plans yet. Make some: tollhouse apply -f examples/plans.yaml"
    print_list(Way(url, config, as_json), lambda api: api.pages("/plans", limit=limit), columns, _row, empty=empty)


@app.command("show")
def show(plan: PlanName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show one plan."""
    print_answer(Way(url, config, as_json), lambda api: api.get(f"/plans/{segment(plan)}"), _print_plan)


@app.command("remove")
def remove(
    plan: PlanName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Remove a plan that nobody holds."""

    def show(_: object) -> None:
        output.print_lines(f"Removed the plan {output.clean(plan)}.")

    print_answer(Way(url, config, as_json), lambda api: api.remove(f"/plans/{segment(plan)}"), show)


def _budgets(plan: dict[str, Any]) -> str:
    found = [f"{output.amount(one['limit'], one['unit'])}/{one['window']}" for one in plan["budgets"]]
    return ", ".join(found) or output.NO_LIMIT


def _cap(plan: dict[str, Any]) -> str:
    cap = plan["max_output_tokens"]
    return output.NO_LIMIT if cap is None else f"{cap:,} tokens"


def _without(plan: dict[str, Any]) -> str:
    """What holds while the shared key pays, and whether it does where the own one is refused."""
    found = [plan["without_own_key"]] if plan["without_own_key"] else []
    return ", ".join([*found, "falls back to the shared key"] if plan["fall_back"] else found)


def _row(plan: dict[str, Any]) -> tuple[object, ...]:
    return (
        plan["plan_id"],
        output.limits_text(plan["limits"]),
        _budgets(plan),
        _cap(plan),
        output.models_text(plan["models"]),
        plan["own_key"],
        plan["description"],
    )


def _print_plan(plan: dict[str, Any]) -> None:
    output.print_facts(
        ("plan", plan["plan_id"]),
        ("description", plan["description"]),
        ("limits", output.limits_text(plan["limits"])),
        ("budgets", f"{_budgets(plan)} each"),
        ("longest answer", _cap(plan)),
        ("models", output.models_text(plan["models"])),
        ("beyond", plan["edge"]),
        ("own key", plan["own_key"]),
        ("else", _without(plan)),
        ("own key counts", "toward budgets" if plan["counts_own_key"] else ""),
        ("declared by", plan["owned_by"]),
    )

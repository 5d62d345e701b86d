"""`tollhouse keys …`: a key is named by its id, or by its name where only one has it."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer, print_list
from tollhouse.cli.output import Failure
from tollhouse.client.asks import segment

app = typer.Typer()

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="The key's id or name.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What to call it.")] = "",
    user: Annotated[str, typer.Option("--user", help="Whose it is; created on first mention. Default: the name.")] = "",
    team: options.Team = None,
    plan: options.Plan = None,
    budget: options.BudgetText = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    models: options.Models = None,
    expires: options.Expires = None,
    metadata: options.Metadata = None,
    capture: options.Capture = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Create a key and print it, this once."""
    if not (user or name):
        raise typer.BadParameter("say whose key it is: --user, or at least --name.")
    body = options.typed_only(
        user_id=user or name,
        name=name or None,
        budget=budget,
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        models=options.models_body(models or []),
        expires=expires,
        metadata=options.metadata_body(metadata or []),
        capture_days=options.capture_body(capture),
    ) | options.or_none(team_id=team, plan_id=plan)

    async def act(api: Api) -> dict[str, Any]:
        return {**await api.post("/keys", body), "base_url": await base_url(api)}

    print_answer(Way(url, config, as_json), act, _print_secret)


@app.command("mint")
def mint(
    ttl: Annotated[str, typer.Option("--ttl", help="How long it works.", metavar="1h")] = "1h",
    user: Annotated[str | None, typer.Option("--user", help="Whose it is.")] = None,
    team: options.Team = None,
    models: options.Models = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Print a short-lived key and nothing else, as a tool's `apiKeyHelper` wants it."""
    models_in = options.models_body(models or [])
    body = options.typed_only(ttl=ttl, user_id=user, models=models_in) | options.or_none(team_id=team)

    def show(minted: dict[str, Any]) -> None:
        output.print_lines(minted["key"])

    print_answer(Way(url, config, as_json), lambda api: api.post("/keys/mint", body), show)


@app.command("list")
def list_all(
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List keys, revoked ones too."""
    columns = ("Name", "User", "Key", "Status", "Models", "Limits", "Expires", "Id")
    empty = "No keys yet. Make one: tollhouse keys create --name ci --budget 20/month"
    way = Way(url, config, as_json)
    print_list(way, lambda api: api.pages("/keys", limit=limit, user=user), columns, _row, empty=empty)


@app.command("show")
def show(key: KeyName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Show one key, its limits, and what is left of its budgets."""

    async def act(api: Api) -> Any:
        return await api.get(f"/keys/{segment(await key_id(api, key))}")

    print_answer(Way(url, config, as_json), act, _print_key)


@app.command("edit")
def edit(
    key: KeyName,
    name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    team: options.Team = None,
    plan: options.Plan = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    parallel: options.Parallel = None,
    rpd: options.Rpd = None,
    rpmonth: options.Rpmonth = None,
    models: options.Models = None,
    expires: options.Expires = None,
    metadata: options.Metadata = None,
    capture: options.Capture = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change a key; effective on its next call. Budgets: `tollhouse budgets set … --key KEY`."""
    body = options.typed_only(
        name=name,
        limits=options.limits_body(rpm=rpm, tpm=tpm, parallel=parallel, rpd=rpd, rpmonth=rpmonth),
        models=options.models_body(models or []),
        expires=expires,
        metadata=options.metadata_body(metadata or []),
        capture_days=options.capture_body(capture),
    ) | options.or_none(team_id=team, plan_id=plan)
    if not body:
        raise typer.BadParameter("say what to change, such as --rpm 60 or --models 'claude-*'.")

    async def act(api: Api) -> Any:
        return await api.patch(f"/keys/{segment(await key_id(api, key))}", body)

    print_answer(Way(url, config, as_json), act, _print_key)


@app.command("rotate")
def rotate(
    key: KeyName,
    grace: Annotated[str, typer.Option("--grace", help="How long the old one still works.", metavar="1h")] = "0",
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Give a key a new secret and print it, this once."""

    async def act(api: Api) -> dict[str, Any]:
        path = f"/keys/{segment(await key_id(api, key))}/rotate"
        return {**await api.post(path, {"grace": grace}), "base_url": await base_url(api)}

    def show(rotated: dict[str, Any]) -> None:
        _print_secret(rotated)
        old = [one for one in rotated["secrets"] if one["expires_at"]]
        if old and grace != "0":
            until = output.local_time(old[-1]["expires_at"])
            output.print_lines("", f"The old one (…{old[-1]['hint']}) works until {until}.")

    print_answer(Way(url, config, as_json), act, show)


@app.command("pause")
def pause(
    key: KeyName,
    reason: Annotated[str, typer.Option("--reason", help="Why; told to whoever calls with the key.")] = "",
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Refuse a key from its next call on, until it is resumed."""

    async def act(api: Api) -> Any:
        return await api.post(f"/keys/{segment(await key_id(api, key))}/pause", {"reason": reason})

    print_answer(Way(url, config, as_json), act, _print_key)


@app.command("resume")
def resume(key: KeyName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Take a paused key up again."""

    async def act(api: Api) -> Any:
        return await api.post(f"/keys/{segment(await key_id(api, key))}/resume", {})

    print_answer(Way(url, config, as_json), act, _print_key)


@app.command("revoke")
def revoke(key: KeyName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Revoke a key for good; its next call is refused."""

    async def act(api: Api) -> Any:
        return await api.delete(f"/keys/{segment(await key_id(api, key))}")

    def show(revoked: dict[str, Any]) -> None:
        label = revoked["name"] or revoked["key_id"]
        output.print_lines(f"Revoked {output.clean(label)} (…{revoked['hint']}) of {output.clean(revoked['user_id'])}.")

    print_answer(Way(url, config, as_json), act, show)


async def key_id(api: Api, name: str) -> str:
    """The id of a key by id or name. Raises Failure when there is none, or more than one, of this name."""
    if name.startswith("sk-th-"):
        raise Failure("Name a key by its name or id, not by its secret: commands are kept in the shell's history.")
    if name.startswith("key_"):
        return name
    found = (await api.get("/keys", name=name, limit=500))["items"]
    alive = [key for key in found if key["status"] != "revoked"]
    chosen = alive or found
    if len(chosen) == 1:
        return str(chosen[0]["key_id"])
    if not chosen:
        raise Failure(f"There is no key named {name!r}. `tollhouse keys list` shows those there are.", code="not_found")
    ids = ", ".join(f"{key['key_id']} (user {key['user_id']}, …{key['hint']})" for key in chosen[:10])
    raise Failure(f"{len(chosen)} keys are named {name!r}; say which by its id: {ids}.", code="ambiguous")


async def base_url(api: Api) -> str:
    """Where clients reach the gateway: as it says itself, else as the settings or --url say."""
    status = await api.get("/status")
    return str(status.get("base_url") or api.base_url)


def _row(key: dict[str, Any]) -> tuple[object, ...]:
    return (
        key["name"],
        key["user_id"],
        f"…{key['hint']}",
        key["status"],
        output.models_text(key["models"]),
        output.limits_text(key["limits"]),
        output.local_time(key["expires_at"]) or "never",
        key["key_id"],
    )


def _print_secret(key: dict[str, Any]) -> None:
    secret, root = key["key"], key["base_url"]
    output.print_lines(f"  {secret}", "", "This is the only time it is shown. Store it now.", "")
    _print_key(key)
    output.print_lines(
        "",
        "Anthropic clients:",
        f"  export ANTHROPIC_BASE_URL={root}",
        f"  export ANTHROPIC_AUTH_TOKEN={secret}",
        "OpenAI clients:",
        f"  export OPENAI_BASE_URL={root}/v1",
        f"  export OPENAI_API_KEY={secret}",
    )


def _why_paused(key: dict[str, Any]) -> str:
    if key.get("paused_at") is None:
        return ""
    return f"{output.local_time(key['paused_at'])} {key['pause_reason']}".strip()


def _print_key(key: dict[str, Any]) -> None:
    running_out = [
        f"…{one['hint']} until {output.local_time(one['expires_at'])}" for one in key["secrets"] if one["expires_at"]
    ]
    output.print_facts(
        ("key", f"{key['name']} ({key['key_id']})" if key["name"] else key["key_id"]),
        ("user", key["user_id"]),
        ("team", key["team_id"]),
        ("plan", key["plan_id"]),
        ("ends in", f"…{key['hint']}"),
        ("status", key["status"]),
        ("paused", _why_paused(key)),
        ("models", output.models_text(key["models"])),
        ("limits", output.limits_text(key["limits"])),
        ("expires", output.local_time(key["expires_at"]) or "never"),
        ("content kept", f"{key['capture_days']} days" if key["capture_days"] else ""),
        ("old secrets", ", ".join(running_out)),
        ("metadata", output.metadata_text(key["metadata"])),
        ("declared by", key["owned_by"]),
        budgets=key["budgets"],
    )

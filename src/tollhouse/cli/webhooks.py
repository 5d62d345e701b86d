"""`tollhouse webhooks …`: who is told of notices over HTTP."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer, print_list
from tollhouse.client.asks import segment
from tollhouse.events.signature import new_secret

app = typer.Typer()

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id, from `tollhouse webhooks list`.")]
Name = Annotated[str | None, typer.Option("--name", help="What people call it.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kinds", help="Kinds of notices: names or globs, repeated or with commas.", metavar="GLOB"),
]


@app.command("create")
def create(
    address: Annotated[str, typer.Argument(metavar="URL", help="Where notices are sent; https.")],
    name: Name = None,
    kinds: Kinds = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Have notices sent to an address, and print the secret that signs them, this once."""
    body = options.typed_only(url=address, name=name, kinds=options.models_body(kinds or []))

    def show(made: dict[str, Any]) -> None:
        _print_secret(made["secret"])
        _print_webhook(made)

    print_answer(Way(url, config, as_json), lambda api: api.post("/webhooks", body), show)


@app.command("list")
def list_all(
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List webhooks, those of the settings too."""
    columns = ("Name", "Status", "Kinds", "Address", "Id")
    empty = "No webhooks yet. Make one: tollhouse webhooks create https://example.org/hook"
    print_list(Way(url, config, as_json), lambda api: api.pages("/webhooks", limit=limit), columns, _row, empty=empty)


@app.command("show")
def show_one(
    webhook: WebhookId, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Show one webhook."""
    print_answer(Way(url, config, as_json), lambda api: api.get(f"/webhooks/{segment(webhook)}"), _print_webhook)


@app.command("edit")
def edit(
    webhook: WebhookId,
    address: Annotated[str | None, typer.Option("--address", help="Where notices are sent from now on.")] = None,
    name: Name = None,
    kinds: Kinds = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Switch it on or off.")] = None,
    rotate: Annotated[bool, typer.Option("--new-secret", help="Sign with a new secret, and print it, once.")] = False,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Change a webhook."""
    secret = new_secret() if rotate else None
    body = options.typed_only(url=address, name=name, kinds=options.models_body(kinds or []), secret=secret)
    if enabled is not None:
        body["enabled"] = enabled
    if not body:
        raise typer.BadParameter("say what to change, such as --off or --kinds 'budget.*'.")

    async def act(api: Api) -> Any:
        changed = await api.patch(f"/webhooks/{segment(webhook)}", body)
        return changed if secret is None else {**changed, "secret": secret}

    def show(changed: dict[str, Any]) -> None:
        if secret is not None:
            _print_secret(secret)
        _print_webhook(changed)

    print_answer(Way(url, config, as_json), act, show)


@app.command("test")
def send_test(
    webhook: WebhookId, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Send a test to a webhook and say how that went."""

    def show(delivery: dict[str, Any]) -> None:
        if delivery["state"] == "delivered":
            output.print_lines(f"Delivered: the receiver answered {delivery['status']}.")
        else:
            output.print_lines(f"Not delivered: {output.clean(delivery['error'] or 'not tried yet')}.")
            if delivery["next_at"]:
                output.print_lines(f"It is tried again at {output.local_time(delivery['next_at'])}.")

    print_answer(Way(url, config, as_json), lambda api: api.post(f"/webhooks/{segment(webhook)}/test", {}), show)


@app.command("deliveries")
def deliveries(
    webhook: WebhookId,
    state: Annotated[
        str | None, typer.Option("--state", help="Only those that stand so.", metavar="pending|delivered|dead")
    ] = None,
    limit: options.PageSize = 50,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List what was sent to a webhook and what it is owed, newest first."""

    async def act(api: Api) -> list[Any]:
        query = options.typed_only(state=state)
        return await api.pages(f"/webhooks/{segment(webhook)}/deliveries", limit=limit, **query)

    columns = ("At", "Kind", "State", ">Tries", "Next", "Error", "Id")
    print_list(Way(url, config, as_json), act, columns, _delivery_row, empty="Nothing was sent to it yet.")


@app.command("remove")
def remove(
    webhook: WebhookId, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Remove a webhook; what it is owed is forgotten."""

    def show(removed: dict[str, Any]) -> None:
        output.print_lines(f"Removed the webhook {output.clean(removed['name'] or removed['webhook_id'])}.")

    print_answer(Way(url, config, as_json), lambda api: api.delete(f"/webhooks/{segment(webhook)}"), show)


def _row(hook: dict[str, Any]) -> tuple[object, ...]:
    return (hook["name"], hook["status"], ", ".join(hook["kinds"]), hook["url"], hook["webhook_id"])


def _delivery_row(delivery: dict[str, Any]) -> tuple[object, ...]:
    return (
        output.local_time(delivery["created_at"]),
        delivery["kind"],
        delivery["state"],
        f"{delivery['attempts']}",
        output.local_time(delivery["next_at"]),
        delivery["error"],
        delivery["notice_id"],
    )


def _print_secret(secret: str) -> None:
    if secret:
        output.print_lines(f"  {secret}", "", "This is the only time it is shown. Store it now.", "")


def _print_webhook(hook: dict[str, Any]) -> None:
    output.print_facts(
        ("webhook", f"{hook['name']} ({hook['webhook_id']})" if hook["name"] else hook["webhook_id"]),
        ("address", hook["url"]),
        ("status", hook["status"]),
        ("kinds", ", ".join(hook["kinds"])),
        ("secret ends in", f"…{hook['hint']}" if hook["hint"] else ""),
        ("stands in", "the settings" if hook["declared"] else ""),
    )

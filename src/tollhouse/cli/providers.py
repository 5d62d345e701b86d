"""`tollhouse providers …`: which there are, and where their credentials are read from."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Way, print_answer, print_list
from tollhouse.client.asks import segment

app = typer.Typer()

ProviderName = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's name.")]


@app.command("list")
def list_all(url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """List the providers in use, in the order in which they are asked for a model."""
    columns = ("Provider", "Address", "Credential", "Read", "Again", "")
    empty = "None is in use. Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or write providers: into the settings."

    async def ask(api: Any) -> list[Any]:
        items: list[Any] = (await api.get("/providers"))["items"]
        return items

    print_list(Way(url, config, as_json), ask, columns, _row, empty=empty)


@app.command("refresh")
def refresh(
    provider: ProviderName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Read a provider's credential now. Exit code 1: that failed, and the one read before serves on."""
    failures: list[str] = []

    async def ask(api: Any) -> dict[str, Any]:
        read: dict[str, Any] = await api.post(f"/providers/{segment(provider)}/refresh")
        failures.append(read["failure"])
        return read

    print_answer(Way(url, config, as_json), ask, lambda read: _print(provider, read))
    if any(failures):
        raise typer.Exit(1)


def _row(provider: dict[str, Any]) -> tuple[object, ...]:
    read = provider.get("credential") or {}
    hint = f" …{provider['credential_hint']}" if provider.get("credential_hint") else ""
    return (
        provider["name"],
        provider["base_url"],
        f"{provider['api_key'] or read.get('source', '')}{hint}",
        output.local_time(read.get("read_at")),
        output.local_time(read.get("next_read_at")),
        state(read),
    )


def state(read: dict[str, Any]) -> str:
    """What is wrong with a credential; empty when nothing is."""
    if read.get("failure"):
        return f"cannot be read: {read['failure']}"
    if read.get("older_serves"):
        return "the newest one is refused, the one before serves"
    return f"refused ({read['refused_status']})" if read.get("refused_status") else ""


def _print(provider: str, read: dict[str, Any]) -> None:
    output.print_facts(
        ("provider", provider),
        ("read from", read["source"]),
        ("kind", read["kind"]),
        ("state", state(read) or "good"),
        ("read", output.local_time(read["read_at"])),
        ("changed", output.local_time(read["changed_at"])),
        ("expires", output.local_time(read["expires_at"])),
        ("read again", output.local_time(read["next_read_at"])),
    )

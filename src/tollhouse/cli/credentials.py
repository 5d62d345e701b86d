"""`tollhouse credentials …`: providers' credentials that are stored here. A secret is typed or piped, never an
argument: those are kept in the shell's history and seen by whoever lists processes.
"""

import getpass
import sys
from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer, print_list
from tollhouse.cli.output import Failure
from tollhouse.client.asks import segment

app = typer.Typer()

MAX_PIPED_BYTES = 65_536
CredentialName = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its id, or a name of the operator's.")]
ProviderName = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider it is for.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The user.")]
Name = Annotated[str | None, typer.Option("--name", help="What it is called; the operator's are found by it.")]


@app.command("add")
def add(
    provider: ProviderName,
    user: Annotated[str | None, typer.Option("--user", help="Whose own it is; without, the operator's.")] = None,
    name: Name = None,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Store a credential; its secret is asked for, or read from standard input."""
    body = {"provider": provider, "secret": _secret(), **options.typed_only(user_id=user, name=name)}
    print_answer(Way(url, config, as_json), lambda api: api.post("/credentials", body), _print)


@app.command("list")
def list_all(
    user: Annotated[str | None, typer.Option("--user", help="Only this user's own.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Only those for this provider.")] = None,
    limit: options.PageSize = 1_000,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """List stored credentials."""
    columns = ("Provider", "Whose", "Name", "Secret", "Kind", "Last used", "Refused", "Id")
    empty = "None are stored. Store one: tollhouse credentials add anthropic --name pool"
    way = Way(url, config, as_json)
    print_list(
        way,
        lambda api: api.pages("/credentials", limit=limit, user=user, provider=provider),
        columns,
        _row,
        empty=empty,
    )


@app.command("show")
def show(
    credential: CredentialName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Show what is known of one, and whom it is assigned to."""

    async def act(api: Api) -> Any:
        return await api.get(await _path(api, credential))

    print_answer(Way(url, config, as_json), act, _print)


@app.command("rename")
def rename(
    credential: CredentialName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Give one another name."""

    async def act(api: Api) -> Any:
        return await api.patch(await _path(api, credential), {"name": name})

    print_answer(Way(url, config, as_json), act, _print)


@app.command("replace")
def replace(
    credential: CredentialName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Put another secret in its place, asked for or from standard input: calls from now on are sent with it."""
    body = {"secret": _secret()}

    async def act(api: Api) -> Any:
        return await api.put(f"{await _path(api, credential)}/secret", body)

    print_answer(Way(url, config, as_json), act, _print)


@app.command("test")
def ask_provider(
    credential: CredentialName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Ask the provider whether it takes it, by one call that costs nothing. The exit code tells."""
    said: dict[str, Any] = {}

    async def act(api: Api) -> Any:
        said.update(await api.post(f"{await _path(api, credential)}/test"))
        return said

    def show(answer: dict[str, Any]) -> None:
        word = "takes it" if answer["ok"] else f"says {answer['status']}" if answer["status"] else "was not reached"
        tail = f": {output.clean(answer['message'])}" if answer["message"] else "."
        output.print_lines(f"{answer['host']} {word}{tail}")

    print_answer(Way(url, config, as_json), act, show)
    if not said["ok"]:
        raise typer.Exit(1)


@app.command("assign")
def assign(
    credential: CredentialName,
    user: UserName,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Send a user's calls to its provider with one of the operator's, instead of the shared one."""

    async def act(api: Api) -> Any:
        found = await api.get(await _path(api, credential))
        path = f"/users/{segment(user)}/credentials/{segment(found['provider'])}"
        return await api.put(path, {"credential_id": found["credential_id"]})

    def show(made: dict[str, Any]) -> None:
        user_id, provider = output.clean(made["user_id"]), made["provider"]
        output.print_lines(f"Calls of {user_id} to {provider} are sent with {made['credential_id']}.")

    print_answer(Way(url, config, as_json), act, show)


@app.command("unassign")
def unassign(
    user: UserName,
    provider: ProviderName,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Send a user's calls to a provider with the shared credential again."""

    async def act(api: Api) -> Any:
        await api.delete(f"/users/{segment(user)}/credentials/{segment(provider)}")
        return {"unassigned": {"user_id": user, "provider": provider}}

    def show(_: Any) -> None:
        output.print_lines(f"Calls of {output.clean(user)} to {output.clean(provider)} are sent with the shared one.")

    print_answer(Way(url, config, as_json), act, show)


@app.command("remove")
def remove(
    credential: CredentialName, url: options.Url = None, config: options.Config = None, as_json: options.Json = False
) -> None:
    """Forget one, and take it from the users it was assigned to."""

    async def act(api: Api) -> Any:
        return await api.remove(await _path(api, credential))

    def show(answer: dict[str, Any]) -> None:
        gone = answer["removed"]
        output.print_lines(f"Removed {gone['credential_id']} for {gone['provider']}.")

    print_answer(Way(url, config, as_json), act, show)


def _secret() -> str:
    """Typed unseen, or piped. Raises Exit when there is none."""
    if sys.stdin.isatty():
        text = getpass.getpass("API key (not shown): ")
    else:
        text = sys.stdin.read(MAX_PIPED_BYTES)
    if not text.strip():
        failure = Failure("No secret was given: type it, or pipe it in: `… credentials add anthropic < key`.")
        raise typer.Exit(output.report(failure, as_json=False))
    return text.strip()


async def _path(api: Api, name: str) -> str:
    """Of a credential by id, or by the name of one of the operator's. Raises Failure."""
    if name.startswith(("cred_", "own_")):
        return f"/credentials/{segment(name)}"
    if name.startswith("sk-"):
        raise Failure("Name a credential by its id or name, never by its secret: commands are kept in the history.")
    found = await api.pages("/credentials", limit=100_000, managed=True)
    chosen = [one["credential_id"] for one in found if one["name"] == name]
    if not chosen:
        raise Failure(f"The operator stored none called {name!r}; `tollhouse credentials list` shows all.")
    return f"/credentials/{segment(chosen[0])}"


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        one["provider"],
        one["user_id"] or "(operator)",
        one["name"],
        f"…{one['hint']}" if one["hint"] else "",
        one["kind"],
        output.local_time(one["last_used_at"]) or "never",
        output.local_time(one["refused_at"]),
        one["credential_id"],
    )


def _print(one: dict[str, Any]) -> None:
    output.print_facts(
        ("credential", f"{one['name']} ({one['credential_id']})" if one["name"] else one["credential_id"]),
        ("provider", one["provider"]),
        ("whose", one["user_id"] or "the operator's"),
        ("sent to", one["host"]),
        ("ends in", f"…{one['hint']}" if one["hint"] else ""),
        ("kind", one["kind"]),
        ("fingerprint", one["fingerprint"]),
        ("stored", f"{output.local_time(one['stored_at'])} by {one['stored_by'] or 'the operator'}"),
        ("last used", output.local_time(one["last_used_at"]) or "never"),
        ("refused", output.local_time(one["refused_at"])),
        ("assigned to", ", ".join(one.get("assigned_to", ()))),
    )

"""`tollhouse serve`: run the gateway until it is told to stop."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tollhouse.cli import options, output
from tollhouse.logs import log_the_uncaught, mask_records
from tollhouse.terms.errors import TollhouseError

if TYPE_CHECKING:
    from tollhouse.app import House
    from tollhouse.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (listen.host).")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on, 0 for any (listen.port).", min=0, max=65535)
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Run the gateway. Provider keys found in the environment are enough: no file is needed."""
    set_up_logging()
    try:
        settings = with_listener(load_settings(config), host, port)
        run(settings, lambda house, url: _greet(house, url, as_json=as_json))
    except TollhouseError as error:
        failure = output.Failure(str(error), code="settings")
        raise typer.Exit(output.report(failure, as_json=as_json)) from error


def set_up_logging(level: int = logging.INFO) -> None:
    """Lines on stderr, without secrets; stdout belongs to what the command prints."""
    mask_records()
    log_the_uncaught()
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    for chatty in ("uvicorn", "uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


def load_settings(config: Path | None) -> "Settings":
    from tollhouse.settings import load  # noqa: PLC0415  0.3 s that --help does not need

    return load(config)


def with_listener(settings: "Settings", host: str | None, port: int | None) -> "Settings":
    """The settings with what was typed on the command line."""
    typed: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"listen": settings.listen.model_copy(update=typed)}) if typed else settings


def run(settings: "Settings", greet: Any) -> None:
    """Serve on uvloop; `greet(house, base URL)` is called once everything listens. Raises TollhouseError."""
    import uvloop  # noqa: PLC0415  only when something is served

    from tollhouse.app import serve as serve_app  # noqa: PLC0415  the whole house

    async def on_ready(house: "House", url: str) -> None:
        result = greet(house, url)
        if asyncio.iscoroutine(result):
            await result

    uvloop.run(serve_app(settings, on_ready))


def _greet(house: "House", url: str, *, as_json: bool) -> None:
    providers = [provider.name for provider in house.providers]
    here = house.settings.listen.public_url or url
    set_up = f"{here}/setup/{house.setup_token}" if house.setup_token else ""
    if as_json:
        facts: dict[str, Any] = {
            "url": url,
            "home": str(house.settings.home),
            "providers": providers,
            "warnings": house.warnings,
        }
        if set_up:
            facts["setup_url"] = set_up
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
        sys.stdout.flush()
        return
    recovered = house.store.recovery
    lines = [
        f"Tollhouse serves on {url}",
        f"  providers  {', '.join(providers) or 'none'}",
        f"  home       {house.settings.home}",
    ]
    if recovered is not None and recovered.crashed:
        lines.append(f"  recovered  {recovered.crashed} calls that had not ended, posted at their upper bound")
    if house.settings.master_key:
        lines.append("  owner      the master key, or this home's socket")
    if set_up:
        lines.append(f"  set up     {set_up}")
        lines.append("             makes you the owner who signs in; good once, and for a day")
    lines.append("  next       tollhouse keys create --name me --user me --budget 20/month")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()

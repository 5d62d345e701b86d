"""`tollhouse notices`: what happened here that somebody may want to be told of."""

from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_list


def notices(
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only this kind, or what begins so, such as `budget.`.")
    ] = None,
    limit: options.PageSize = 50,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """What happened here, newest first."""

    async def act(api: Api) -> list[Any]:
        return await api.pages("/notices", limit=limit, **options.typed_only(kind=kind))

    print_list(Way(url, config, as_json), act, ("At", "Kind", "What"), _row, empty="Nothing happened yet.")


def _row(notice: dict[str, Any]) -> tuple[object, ...]:
    return (output.local_time(notice["at"]), notice["kind"], notice["text"])

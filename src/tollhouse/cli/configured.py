"""What `doctor` can say of providers and prices from the settings alone, whether or not a gateway runs."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tollhouse.cli.checks import Finding, fine, problem, warning
from tollhouse.rules.credential_kinds import classify
from tollhouse.terms.errors import SettingsError, SourceError, StorageError

if TYPE_CHECKING:
    from tollhouse.settings import Settings
    from tollhouse.settings.sections import ProviderSettings
    from tollhouse.upstream.providers import ProviderSpec
    from tollhouse.workers import Wanted

MAX_NAMED = 10
"""Models named in one line."""

NO_PROVIDER = problem(
    "providers",
    "None is configured: no call can be answered.",
    "Set ANTHROPIC_API_KEY or OPENAI_API_KEY, write providers: into the settings, or install tollhouse[local].",
)


def configured(settings: "Settings") -> Iterator[Finding]:
    """Each provider row with its credential, masked; the models that are named, with or without a price."""
    from tollhouse.app import providers as setup  # noqa: PLC0415  the whole house, for this one command

    specs = []
    rows = setup.provider_rows(settings)
    for row, read in zip(rows, asyncio.run(_credentials(settings, rows)), strict=True):
        check = f"provider {row.name}"
        if isinstance(read, SettingsError):
            yield problem(check, str(read), "Correct its row in the settings, or what it names.")
            continue
        if isinstance(read, SourceError):
            yield warning(check, str(read), "A gateway starts without it, and answers its calls with 503 until then.")
            continue
        misplaced = setup.base_url_problem(settings, row)
        if misplaced is not None:
            yield problem(check, misplaced, "Correct base_url in its row.")
            continue
        spec = setup.provider_spec(row, read)
        specs.append(spec)
        shown = f"credential …{read[-4:]} ({classify(read)})" if read else "no credential"
        yield fine(check, f"{spec.base_url or 'the vendor'}, {shown}, models {', '.join(spec.models)}")
    local = setup.wants_local(settings)
    if local:
        yield fine("provider local", "The embedded model.")
    elif not specs:
        yield NO_PROVIDER
    if specs and settings.home.is_dir():
        yield from _prices(settings, specs)


async def _credentials(
    settings: "Settings", rows: "Sequence[ProviderSettings]"
) -> list[str | SettingsError | SourceError]:
    """Of each row, read where it says, or why it cannot be: with a SourceError a gateway starts all the same."""
    from tollhouse.app import providers as setup  # noqa: PLC0415  as above
    from tollhouse.app.key_sources import open_keyring  # noqa: PLC0415  as above

    keyring = open_keyring(settings, lambda _: None)

    async def read(wanted: "Wanted") -> str | SettingsError | SourceError:
        try:
            return await keyring.read_once(wanted)
        except (SettingsError, SourceError) as error:
            return error

    return await asyncio.gather(*(read(setup.wanted(row)) for row in rows))


def _prices(settings: "Settings", specs: "list[ProviderSpec]") -> Iterator[Finding]:
    from tollhouse.app import providers as setup  # noqa: PLC0415  as above
    from tollhouse.app.fleet import PRICES_NAME  # noqa: PLC0415  as above
    from tollhouse.storage.catalog import open_catalogue  # noqa: PLC0415  as above

    try:
        catalogue = open_catalogue(
            settings.home / PRICES_NAME,
            price_ids=setup.price_ids(tuple(specs)),
            overrides=setup.price_overrides(settings),
        )
    except (SettingsError, StorageError, ValueError) as error:
        yield problem("prices", str(error), "Correct prices: in the settings.")
        return
    yield from prices_found(
        {model: catalogue.facts(spec.name, model).card is not None for spec in specs for model in spec.advertised}
    )


def prices_found(priced: Mapping[str, bool]) -> Iterator[Finding]:
    """Of models by name, whether each has a price."""
    unpriced = [model for model, known in priced.items() if not known]
    if unpriced:
        more = f" and {len(unpriced) - MAX_NAMED} more" if len(unpriced) > MAX_NAMED else ""
        yield warning(
            "prices",
            f"{len(unpriced)} of {len(priced)} models have no price: {', '.join(unpriced[:MAX_NAMED])}{more}.",
            "Keys with a budget are refused there; set prices.<model> in the settings.",
        )
    elif priced:
        yield fine("prices", f"All {len(priced)} models named have a price.")

"""What `doctor` can say of providers and prices from the settings alone, whether or not a gateway runs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tollhouse.cli.checks import Finding, fine, problem, warning
from tollhouse.terms.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from tollhouse.settings import Settings
    from tollhouse.upstream.providers import ProviderSpec

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
    for row in setup.provider_rows(settings):
        check = f"provider {row.name}"
        try:
            spec = setup.provider_spec(row)
        except SettingsError as error:
            yield problem(check, str(error), "Correct its row in the settings, or the variable or file it names.")
            continue
        specs.append(spec)
        shown = f"credential …{spec.credential[-4:]}" if spec.credential else "no credential"
        yield fine(check, f"{spec.base_url or 'the vendor'}, {shown}, models {', '.join(spec.models)}")
    local = setup.wants_local(settings)
    if local:
        yield fine("provider local", "The embedded model.")
    elif not specs:
        yield NO_PROVIDER
    if specs and settings.home.is_dir():
        yield from _prices(settings, specs)


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

"""The catalogue of models from its three sources: compiled prices, our reviewed file, the operator's settings.

Prices are compiled from genai-prices by a child process (`storage/price_compiler`) into a JSON file in a directory the
caller gives, named after the versions of the data and of the compiler. Reading it needs neither genai-prices nor
pydantic, and decodes only the providers asked for.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from importlib import metadata, resources
from pathlib import Path

import msgspec

from tollhouse.rules.catalog import Catalogue, PriceOverride, ProviderPrices, ReviewedProvider
from tollhouse.storage.price_compiler import COMPILER_VERSION, Compiled
from tollhouse.terms.errors import StorageError

COMPILE_TIMEOUT_S = 120.0
MAX_FILE_BYTES = 64 * 1024 * 1024


def open_catalogue(
    directory: Path,
    *,
    price_ids: Mapping[str, str],
    overrides: Mapping[str, PriceOverride] | None = None,
    free: frozenset[str] = frozenset(),
    today: date | None = None,
) -> Catalogue:
    """The catalogue of these providers, compiled first if `directory` has no current file (about two seconds).

    price_ids   our provider's name → provider id of the price data; only these are decoded. An id the data does not
                know makes that provider's models unpriced.
    today       UTC; None asks the clock
    Raises StorageError when compiling or reading fails, ValueError when an override is wrong.
    """
    today = today or datetime.now(UTC).date()
    prices = load_prices(directory, set(price_ids.values()), today)
    return Catalogue(prices, reviewed=load_reviewed(), overrides=overrides, price_ids=price_ids, free=free)


def load_prices(directory: Path, provider_ids: Iterable[str], today: date) -> dict[str, ProviderPrices]:
    """Compiled prices of these providers and of those they fall back to."""
    path = directory / f"prices-{metadata.version('genai-prices')}-{COMPILER_VERSION}.json"
    compiled = _read(path, today)
    if compiled is None:
        _compile_in_child(path)
        compiled = _read(path, date.min)
        if compiled is None:
            raise StorageError(f"{path} was just written and cannot be read; is the disk full?")
    prices: dict[str, ProviderPrices] = {}
    for provider_id in provider_ids:
        _decode(compiled, provider_id, prices)
    for fallback in [each for decoded in prices.values() for each in decoded.fallbacks]:
        _decode(compiled, fallback, prices)
    return prices


def _decode(compiled: Compiled, provider_id: str, into: dict[str, ProviderPrices]) -> None:
    if provider_id in compiled.providers and provider_id not in into:
        into[provider_id] = msgspec.json.decode(compiled.providers[provider_id], type=ProviderPrices)


def _read(path: Path, today: date) -> Compiled | None:
    """The file if it is there, whole, and no other price has started since it was compiled."""
    try:
        with path.open("rb") as file:
            compiled = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Compiled)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if compiled.valid_until and today >= date.fromisoformat(compiled.valid_until):
        return None
    return compiled


def _compile_in_child(path: Path) -> None:
    command = [sys.executable, "-P", "-m", "tollhouse.storage.price_compiler", str(path)]
    try:
        # Our own interpreter and module; the path is an argument, there is no shell.
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"prices could not be compiled: {error}") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise StorageError(f"prices could not be compiled: {last[0]}")


def load_reviewed() -> dict[str, ReviewedProvider]:
    """Our reviewed file of windows, maximum outputs and fees, by provider id of the price data."""
    text = resources.files("tollhouse").joinpath("data/models.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), type=dict[str, ReviewedProvider])

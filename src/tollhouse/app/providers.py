"""From settings and environment to providers: which there are, what they may be shown, what is refused at load."""

import os
import ssl
import urllib.request
from urllib.parse import urlsplit

import msgspec

from tollhouse.rules import secret_references
from tollhouse.rules.access import admits
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.rules.catalog import PriceOverride, ReviewedProvider
from tollhouse.rules.credential_kinds import upstream_problem
from tollhouse.settings import Settings
from tollhouse.settings.sections import ProviderSettings
from tollhouse.storage.catalog import load_reviewed
from tollhouse.terms.errors import SettingsError
from tollhouse.upstream.guard import AddressGuard
from tollhouse.upstream.local import LocalModelOptions, find_weights
from tollhouse.upstream.origin import Proxy, address_of
from tollhouse.upstream.own_endpoint import OwnEndpoints
from tollhouse.upstream.providers import KINDS, ProviderSpec, parse_base_url, unusable
from tollhouse.workers import Wanted

ENVIRONMENT_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
DEFAULT_MODELS = {
    "anthropic": ("claude-*",),
    "openai": ("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "text-embedding-*"),
}
LOCAL = "local"
LOCAL_KEEP_ALIVE_S = 4.0
"""llama.cpp's server closes connections that are idle for 5 s."""
LOCAL_MAX_CONNECTIONS = 48
"""Each call it is working on or keeps waiting holds one of its 64 threads; with none left even its health check waits.
"""


def provider_rows(settings: Settings) -> tuple[ProviderSettings, ...]:
    """The rows of the settings; without any, one for each vendor whose key is in the environment."""
    if settings.providers or settings.only_local:
        return () if settings.only_local else settings.providers
    return tuple(
        ProviderSettings(name=kind, kind=kind, api_key=f"env:{variable}", models=DEFAULT_MODELS[kind])
        for kind, variable in ENVIRONMENT_KEYS.items()
        if os.environ.get(variable, "").strip()
    )


def reference_of(row: ProviderSettings) -> str:
    """Where a row's credential is read from; empty when it has none."""
    return row.api_key or ("" if row.base_url else f"env:{ENVIRONMENT_KEYS[row.kind]}")


def base_url_problem(settings: Settings, row: ProviderSettings) -> str | None:
    """Why no provider can be called where this row says; None when one can."""
    try:
        parse_base_url(
            row.base_url or KINDS[row.kind].base_url,
            where=f"providers.{row.name}.base_url",
            allow_plain_http=settings.upstream.allow_plain_http,
        )
    except SettingsError as error:
        return str(error)
    return None


def credential_problem(text: str) -> str | None:
    """Why this cannot be a provider's credential; None when it can."""
    problem = upstream_problem(text)
    if problem is None and (why := unusable(text)) is not None:
        problem = f"it {why}"
    return problem


def wanted(row: ProviderSettings) -> Wanted:
    """The credential of a row, as the keyring is asked for it. Raises SettingsError."""
    reference = reference_of(row)
    scheme, _ = secret_references.split(reference)
    patient = bool(reference) and secret_references.SCHEMES[scheme].patient
    base_url, host = row.base_url or KINDS[row.kind].base_url, ""
    if scheme == "stored":
        address = parse_base_url(base_url, where=f"providers.{row.name}.base_url", allow_plain_http=True)
        host = address_of(address.scheme, address.host, address.port)
    return Wanted(row.name, reference, f"providers.{row.name}.api_key", patient, host)


def provider_spec(row: ProviderSettings, credential: str = "", unavailable: str = "") -> ProviderSpec:
    """A row with its credential."""
    return ProviderSpec(
        row.name,
        row.kind,
        row.base_url,
        credential,
        row.models,
        row.list_models or listed_models(row),
        row.price_provider,
        row.cancel_stops_billing,
        unavailable=unavailable,
    )


def listed_models(row: ProviderSettings) -> tuple[str, ...]:
    """What `/v1/models` shows of a row: the names it states, and those of the reviewed file that its globs admit."""
    stated = tuple(model for model in row.models if not set(model) & set("*?"))
    price_provider = KINDS[row.kind].price_provider if row.price_provider is None else row.price_provider
    reviewed = load_reviewed().get(price_provider, ReviewedProvider())
    known = (name for entry in reviewed.models for name in entry.names if admits(row.models, name))
    return tuple(dict.fromkeys((*stated, *known)))


def wants_local(settings: Settings, *, others: bool = False) -> bool:
    """Whether the embedded model is to run: asked for, or nothing else is configured and it is installed. `others`:
    files declare providers.
    """
    if settings.local.enabled is not None:
        return settings.local.enabled
    return not others and not provider_rows(settings) and find_weights(local_options(settings)) is not None


def local_options(settings: Settings) -> LocalModelOptions:
    local = settings.local
    return LocalModelOptions(
        gguf=None if local.gguf is None else str(local.gguf),
        alias=local.alias,
        context_tokens=local.context_tokens,
        parallel=local.parallel,
        threads=local.threads,
        start_timeout_s=local.start_timeout_s,
    )


def local_spec(base_url: str, api_key: str, model: str) -> ProviderSpec:
    """The embedded model as a provider row."""
    return ProviderSpec(
        LOCAL,
        LOCAL,
        base_url,
        api_key,
        (model,),
        (model,),
        price_provider="",
        cancel_stops_billing=True,
        keep_alive_s=LOCAL_KEEP_ALIVE_S,
        max_connections=LOCAL_MAX_CONNECTIONS,
    )


def price_ids(specs: tuple[ProviderSpec, ...]) -> dict[str, str]:
    """Provider name → id in the price data."""
    return {
        spec.name: KINDS[spec.kind].price_provider if spec.price_provider is None else spec.price_provider
        for spec in specs
        if spec.kind in KINDS
    }


def price_overrides(settings: Settings) -> dict[str, PriceOverride]:
    """The operator's own prices. Raises SettingsError naming the model."""
    overrides = {}
    for model, facts in settings.prices.items():
        try:
            overrides[model] = msgspec.convert(facts, PriceOverride)
        except msgspec.ValidationError as error:
            raise SettingsError(f"prices.{model}: {error}") from error
    return overrides


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Certificates and names are checked, always; `upstream.ca_file` adds a private authority."""
    try:
        context = ssl.create_default_context(cafile=None)
        if settings.upstream.ca_file is not None:
            context.load_verify_locations(settings.upstream.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"upstream.ca_file: cannot load {settings.upstream.ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def own_endpoints(settings: Settings) -> OwnEndpoints | None:
    """How users' own endpoints are reached; None: this gateway calls none."""
    vault = settings.vault
    if not vault.own_base_urls:
        return None
    guard = AddressGuard(AddressRules(read_networks(vault.allowed_networks)))
    return OwnEndpoints(guard, tls_context(settings), proxy_for, vault.own_endpoint_connections)


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl reads them; loopback is never proxied."""
    if host in ("127.0.0.1", "localhost", "::1") or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(
            f"the environment names the proxy {parts.scheme}://{parts.hostname}; only http:// proxies are supported"
        )
    return Proxy.from_url(parts)

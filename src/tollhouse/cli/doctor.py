"""`tollhouse doctor`: what is configured, reachable, priced, insecure. Exit code 0: nothing wrong; 1: problems."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.checks import Finding, Level, fine, local_findings, problem, warning
from tollhouse.cli.client import Api, Way, connect
from tollhouse.cli.configured import NO_PROVIDER, configured, prices_found
from tollhouse.cli.output import Failure
from tollhouse.terms.errors import SettingsError, TollhouseError

MAX_SKEW_S = 5.0
_SIGNS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def doctor(url: options.Url = None, config: options.Config = None, as_json: options.Json = False) -> None:
    """Look at everything that can be wrong, with or without a running server."""
    way = Way(url, config)
    elsewhere = bool(url or os.environ.get("TOLLHOUSE_URL"))
    findings = asyncio.run(_look_there(way))[1] if elsewhere else _look_here(way)
    _print(findings, as_json=as_json)
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(1)


def _look_here(way: Way) -> list[Finding]:
    """This machine's settings and home, then the gateway; what is configured, where none runs that could say it."""
    from tollhouse.settings import load  # noqa: PLC0415  not for a gateway elsewhere

    try:
        settings = load(way.config)
    except SettingsError as error:
        return [problem("settings", str(error), "Correct the file or variable it names.")]
    findings = [fine("settings", f"Read; the home is {settings.home}."), *local_findings(settings)]
    runs = False
    if settings.home.is_dir():  # asking would make it
        runs, found = asyncio.run(_look_there(way))
        findings += found
    return findings if runs else [*findings, *configured(settings)]


async def _look_there(way: Way) -> tuple[bool, list[Finding]]:
    """Whether a gateway runs, and what it says."""
    try:
        async with connect(way) as api:
            runs = api.kind != "offline"
            before_s = time.time()
            status = await api.get("/status", probe=runs or None)
            found = [_gateway(api, status), *_facts(api, status, before_s)]
            found += await _vault(api)
            if runs:
                models = (await api.get("/models"))["items"]
                found += [*_providers(status), *_models(models)]
            return runs, found
    except Failure as failure:
        return False, [problem("gateway", failure.message, "")]
    except TollhouseError as error:
        return False, [problem("gateway", str(error), "")]


async def _vault(api: Api) -> list[Finding]:
    """What lies under which master key, and what no longer opens."""
    vault = await api.get("/vault")
    if vault["unopened"]:
        missing = [str(row["version"]) for row in vault["versions"] if row["records"] and not row["opens"]]
        detail = f"{vault['unopened']:,} of {vault['records']:,} stored secrets cannot be opened."
        return [problem("vault", detail, f"Restore master key {', '.join(missing)} from its backup.")]
    if not vault["ready"]:
        return [fine("vault", "No master key, so nothing can be stored. `tollhouse vault init` makes one.")]
    detail = f"{vault['records']:,} stored secrets open; master key {vault['current']} seals. Back the master keys up."
    if vault["older"]:
        return [warning("vault", f"{detail} {vault['older']:,} lie under older ones.", "Run `tollhouse vault rotate`.")]
    return [fine("vault", detail)]


def _gateway(api: Api, status: dict[str, Any]) -> Finding:
    version = status.get("version", "?")
    if api.kind == "offline":
        return fine("gateway", f"Not running; version {version} looked at from here. Start it with `tollhouse serve`.")
    where = status.get("base_url") or api.base_url
    if status.get("ready"):
        return fine("gateway", f"Version {version} serves at {where}.")
    return problem("gateway", f"It runs at {where}, but may not serve: {status.get('not_ready')}.", "See its log.")


def _facts(api: Api, status: dict[str, Any], before_s: float) -> Iterator[Finding]:
    """Journal and database as the gateway sees them, and its clock against ours."""
    for name in ("journal", "database"):
        state = status.get(name)
        if isinstance(state, dict):
            detail = str(state.get("detail") or ("Healthy." if state.get("healthy") else "Not healthy."))
            detail = f"{state['kind']}, {state['place']}: {detail}" if "place" in state else detail
            healthy = state.get("healthy", False)
            yield fine(name, detail) if healthy else problem(name, detail, "Look at the disk and the gateway's log.")
    if api.kind == "network" and isinstance(status.get("now"), str):
        theirs_s = datetime.fromisoformat(status["now"]).timestamp()
        skew_s = theirs_s - before_s if theirs_s < before_s else max(0.0, theirs_s - time.time())
        if abs(skew_s) > MAX_SKEW_S:
            yield warning("clock", f"The gateway's clock is {skew_s:+.0f} s from this one.", "Set both by NTP.")


def _providers(status: dict[str, Any]) -> Iterator[Finding]:
    providers = status.get("providers") or []
    if not providers:
        yield NO_PROVIDER
    probes = status.get("probes") or {}
    for warned in status.get("warnings") or []:
        yield warning("gateway", str(warned), "")
    for provider in providers:
        yield _provider(provider, probes.get(provider["name"]))
        if provider.get("credential_source"):
            yield _credential(provider["name"], provider["credential_source"], str(status.get("now", "")))


def _provider(provider: dict[str, Any], probe: dict[str, Any] | None) -> Finding:
    check = f"provider {provider['name']}"
    credential = provider.get("credential") or ""
    about = f"{provider.get('base', '')}, {f'credential {credential}' if credential else 'no credential'}"
    if probe is not None and not probe.get("reachable"):
        return problem(
            check, f"{about}: cannot be reached: {probe.get('detail', '')}", "Check base_url and the network."
        )
    if not credential and provider.get("kind") != "local" and not provider.get("credential_source"):
        return warning(check, about, "Where it needs one, name it by api_key in its row: env:NAME, file:/path, …")
    reached = f", answers in {probe.get('duration_ms', 0):.0f} ms" if probe is not None else ""
    return fine(check, about + reached)


def _credential(name: str, read: dict[str, Any], now: str) -> Finding:
    """How a provider's credential is read: what it is, how old, when again, what went wrong."""
    check = f"credential of {name}"
    now_ns = datetime.fromisoformat(now).timestamp() * 1e9 if now else time.time() * 1e9

    def told(what: str, at_ns: int | None) -> str:
        if at_ns is None:
            return ""
        away_s = (at_ns - now_ns) / 1e9
        return f", {what} {output.span(abs(away_s))} ago" if away_s <= 0 else f", {what} in {output.span(away_s)}"

    about = (
        f"{read['kind'] or 'none'} from {read['source']}{told('read', read['read_at_ns'])}"
        f"{told('runs out', read['expires_at_ns'])}{told('read again', read['next_read_at_ns'])}"
    )
    if read["failure"]:
        found = f"{about}{told('failing since', read['failing_since_ns'])}: {read['failure']}."
        if read["kind"]:
            return warning(check, found, "The one read before serves on. Repair it before the provider ends that one.")
        return problem(check, found, "Its calls are answered with 503 until it can be read.")
    if read["older_serves"]:
        return warning(check, f"{about}; the provider refuses it, and the one before serves.", "Read another one.")
    if read["refused_status"]:
        return warning(check, f"{about}; refused lately ({read['refused_status']}).", "See whether it was revoked.")
    return fine(check, f"{about}.")


def _models(models: list[dict[str, Any]]) -> Iterator[Finding]:
    named = [model for model in models if not set(str(model["id"])) & set("*?[")]
    yield from prices_found({str(model["id"]): bool(model.get("priced")) for model in named})


def _print(findings: list[Finding], *, as_json: bool) -> None:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    if as_json:
        output.print_json({"findings": findings, "problems": problems, "warnings": warnings})
        return
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        sign, colour = _SIGNS[finding.level]
        typer.secho(f"{sign} {output.clean(finding.check):<{width}}  ", fg=colour, nl=False)
        output.print_lines(output.clean(finding.detail))
        if finding.remedy:
            output.print_lines(f"  {'':<{width}}  → {output.clean(finding.remedy)}")
    output.print_lines("", f"{problems} problems, {warnings} warnings.")

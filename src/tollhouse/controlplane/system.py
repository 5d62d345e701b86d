"""The gateway itself: is it alive, may it serve, what does it offer; and the API's own description."""

import base64
import hashlib
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from tollhouse import __version__
from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.description import described
from tollhouse.controlplane.problems import NO_STORE, Problem
from tollhouse.controlplane.times import iso_ns

router = APIRouter(tags=["system"])

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem 1rem .3rem 0;vertical-align:top}"
    "tr{border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}code{white-space:nowrap}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-{_STYLE_HASH}'"


class Health(BaseModel):
    status: str


class ModelsOut(BaseModel):
    items: list[dict[str, Any]]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(deps: Deps) -> Health:
    """Whether calls may be served; 503 with the reason when not."""
    reason = deps.ready()
    if reason is not None:
        raise Problem(503, "not_ready", reason, headers={"retry-after": "1"})
    return Health(status="ready")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(deps: Deps) -> Response:
    """Prometheus text."""
    return Response(deps.metrics(), headers={"content-type": METRICS_TYPE, **NO_STORE})


@router.get("/api/v1/status")
async def status(deps: Deps, probe: bool = False) -> dict[str, Any]:
    """Facts of the running gateway. `probe`: also look whether each provider can be reached, within a short time."""
    reason = deps.ready()
    facts = {
        "version": __version__,
        "now": iso_ns(deps.now_ns()),
        "ready": reason is None,
        "not_ready": reason or "",
        **deps.status(),
    }
    if probe and deps.probe is not None:
        facts["probes"] = await deps.probe()
    return facts


@router.get("/api/v1/models")
async def models(deps: Deps) -> ModelsOut:
    """What can be asked for, by which provider, and whether it has a price."""
    return ModelsOut(items=list(deps.models()))


@router.get("/api/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The description of this API."""
    api: FastAPI = request.app
    return JSONResponse(described(api), headers=NO_STORE)


@router.get("/api/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The same for people: one plain page that loads nothing from anywhere."""
    api: FastAPI = request.app
    headers = {**NO_STORE, "content-security-policy": _POLICY}
    return HTMLResponse(_page(described(api)), headers=headers)


def _page(description: dict[str, Any]) -> str:
    rows = []
    for path, verbs in sorted(description["paths"].items()):
        for verb, route in verbs.items():
            who = route["x-permission"].replace("_", " ")
            about = escape(str(route.get("description", route.get("summary", ""))))
            rows.append(
                f"<tr><td>{verb.upper()}</td><td><code>{escape(path)}</code></td><td>{who}</td><td>{about}</td></tr>"
            )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Tollhouse API</title><style>{_STYLE}</style>'
        f"<h1>Tollhouse API {escape(__version__)}</h1>"
        '<p>Machines read <a href="/api/openapi.json">openapi.json</a>. The owner shows the master key as a Bearer '
        "token or comes by the Unix socket; a virtual key reads <code>/api/v1/me</code> and its own requests.</p>"
        "<table><thead><tr><th>Method<th>Path<th>Who<th>What</tr></thead><tbody>"
        f"{''.join(rows)}</tbody></table></html>"
    )

"""The look of the few pages that work without a script: one style, strict policy, nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from fastapi.responses import HTMLResponse

from tollhouse.controlplane.problems import NO_STORE

STYLE = (
    ":root{color-scheme:light dark;--line:color-mix(in srgb,CanvasText 35%,Canvas);--soft:color-mix(in srgb,"
    "CanvasText 68%,Canvas)}*{box-sizing:border-box}"
    "body{font:1rem/1.5 system-ui,sans-serif;margin:0;padding:1rem;min-height:100vh;display:grid;place-items:center}"
    "main{width:100%;max-width:24rem}h1{font-size:1.5rem;margin:0 0 1rem}.field{margin:0 0 1rem}"
    "label{display:block;font-weight:600}small{display:block;color:var(--soft)}"
    "input{font:inherit;width:100%;padding:.6rem;border:1px solid var(--line);border-radius:.4rem;background:Field;"
    "color:FieldText}button,.way{font:inherit;font-weight:600;display:block;width:100%;padding:.7rem;margin:0 0 .75rem;"
    "border:1px solid var(--line);border-radius:.4rem;text-align:center;text-decoration:none;color:inherit;"
    "background:transparent;cursor:pointer}button.main{background:#1d4ed8;border-color:#1d4ed8;color:#fff}"
    "button:hover,.way:hover{border-color:CanvasText}:focus-visible{outline:3px solid #3b82f6;outline-offset:2px}"
    ".no{border-left:4px solid #dc2626;padding:.25rem .75rem;margin:0 0 1rem}p.or{text-align:center;color:var(--soft)}"
    ".who{overflow-wrap:anywhere}"
)
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {**NO_STORE, "content-security-policy": POLICY, "referrer-policy": "same-origin", "x-frame-options": "DENY"}
"""Tokens of links stand in paths, which no other site may be told. `no-referrer` would do more than that: browsers then
send forms with `Origin: null`, as if they were another site's.
"""


def page(title: str, *parts: str, status: int = 200, refresh_to: str = "") -> HTMLResponse:
    """`parts` are HTML already. `refresh_to`: where the browser goes on by itself."""
    onward = f'<meta http-equiv="refresh" content="0; url={escape(refresh_to)}">' if refresh_to else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{onward}<title>{escape(title)} · Tollhouse</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>"
    )
    return HTMLResponse(text, status, HEADERS)


def refused(message: str) -> str:
    """Why the form before was not taken; nothing without a message."""
    return f'<p class="no" role="alert">{escape(message)}</p>' if message else ""


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def form(action: str, hidden: dict[str, str], fields: Iterable[str], button: str) -> str:
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden.items()
    )
    return (
        f'<form method="post" action="{escape(action)}">{kept}{"".join(fields)}'
        f'<button class="main">{escape(button)}</button></form>'
    )


def field(
    name: str,
    label: str,
    *,
    kind: str = "text",
    value: str = "",
    complete: str = "off",
    hint: str = "",
    required: bool = True,
    first: bool = False,
    fixed: bool = False,
) -> str:
    """A labelled input. `complete` is HTML's autocomplete, which password managers read."""
    flags = "".join((" required" * required, " autofocus" * first, " readonly" * fixed))
    about = f'<small id="{name}-hint">{escape(hint)}</small>' if hint else ""
    described = f' aria-describedby="{name}-hint"' if hint else ""
    return (
        f'<p class="field"><label for="{name}">{escape(label)}</label>{about}'
        f'<input id="{name}" name="{name}" type="{kind}" value="{escape(value)}" autocomplete="{complete}"'
        f"{described}{flags}></p>"
    )


def way(href: str, label: str) -> str:
    """A link that looks like a button."""
    return f'<a class="way" href="{escape(href)}">{escape(label)}</a>'

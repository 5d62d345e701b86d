"""One page with a form: what is filled in comes back from this very browser, or is not taken.

The form carries a token that belongs to a cookie. Only this origin can set that cookie, and SameSite keeps it from what
other sites make a browser send.
"""

import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from fastapi import Request, Response

from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in import html
from tollhouse.controlplane.sign_in.cookies import cookies_of, refuse_foreign_page, set_cookie
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.tokens import TOKEN_BYTES, Tokens

FORM_COOKIE = "__Host-tollhouse-form"
FORM_S = 12 * 3_600
MAX_FORM_BYTES = 16_384
MAX_FIELDS = 20
_TOKEN = "form"  # noqa: S105  the field's name


class Sheet:
    def __init__(self, request: Request, keeper: Doorkeeper) -> None:
        tokens = keeper.form_tokens
        shown = cookies_of(request.scope).get(FORM_COOKIE, "")
        self.cookie = shown if tokens.digest(shown) else Tokens.mint(keeper.random_bytes(TOKEN_BYTES))
        digest = tokens.digest(self.cookie)
        assert digest is not None
        self._token = tokens.derived(digest, "form")
        self._request = request
        self._public_url = keeper.options.public_url

    def form(self, action: str, hidden: Mapping[str, str], fields: Iterable[str], button: str) -> str:
        return html.form(action, {**hidden, _TOKEN: self._token}, fields, button)

    def page(self, title: str, *parts: str, problem: Problem | None = None) -> Response:
        """With what was wrong with the form before, if anything was."""
        response = html.page(title, *parts, status=200 if problem is None else problem.status)
        if problem is not None:
            response.headers.update(problem.headers)
        response.headers.append("set-cookie", set_cookie(FORM_COOKIE, self.cookie, FORM_S))
        return response

    async def filled_in(self) -> dict[str, str]:
        """The fields. Raises Problem (403) for a form that is not from a page this browser was given."""
        refuse_foreign_page(self._request, self._public_url)
        fields = await fields_of(self._request)
        if not hmac.compare_digest(fields.get(_TOKEN, "").encode(), self._token.encode()):
            raise Problem(403, "csrf", "This form is too old, or your browser takes no cookies. Go back and try again.")
        return fields


async def fields_of(request: Request) -> dict[str, str]:
    """A posted form. Raises Problem: 413, 415, 400."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "not_a_form", "This takes a form: application/x-www-form-urlencoded.")
    body = await request.body()
    if len(body) > MAX_FORM_BYTES:
        raise Problem(413, "request_too_large", f"A form here has at most {MAX_FORM_BYTES:,} bytes.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise Problem(400, "invalid_form", "This is not a form that a browser makes.") from None

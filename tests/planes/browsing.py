"""A browser at a `Desk`: it keeps cookies, says where its pages are from, and shows the CSRF token of its session."""

from typing import Any

import httpx

from tests.planes.control import Desk
from tollhouse.terms.sessions import CSRF_HEADER, SESSION_COOKIE

HOME = "http://tollhouse:4000"
GOOD = "wardrobe plinth seven otters"
"""A password that is taken."""


class Browser:
    def __init__(self, desk: Desk, origin: str | None = HOME) -> None:
        self.desk = desk
        self.origin = origin
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    @property
    def token(self) -> str:
        return self.cookies.get(SESSION_COOKIE, "")

    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> httpx.Response:
        """As a script of a page would."""
        headers = {"user-agent": "Tests/1", **how.pop("headers", {})}
        if self.cookies:
            headers.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if method != "GET":
            if self.origin is not None:
                headers.setdefault("origin", self.origin)
            if self.csrf:
                headers.setdefault(CSRF_HEADER, self.csrf)
        answer = self.desk.ask(method, path, body, bearer=None, headers=headers, **how)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def done(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """The decoded answer, which must be a success."""
        answer = self.ask(method, path, body, **how)
        assert answer.is_success, answer.text
        told = answer.json() if answer.content else None
        if isinstance(told, dict) and "csrf_token" in told:
            self.csrf = told["csrf_token"]
        return told

    def problem(self, status: int, method: str, path: str, body: Any = None, **how: Any) -> str:
        """The code of a refusal."""
        answer = self.ask(method, path, body, **how)
        assert answer.status_code == status, answer.text
        code: str = answer.json()["code"]
        return code

    def sign_up(self, email: str, password: str = GOOD, name: str = "") -> Any:
        return self.done("POST", "/api/v1/sign-up", {"email": email, "password": password, "name": name})

    def sign_in(self, email: str, password: str = GOOD) -> Any:
        return self.done("POST", "/api/v1/sign-in", {"email": email, "password": password})

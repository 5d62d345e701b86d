"""`vault:MOUNT/PATH#FIELD`: a secret of HashiCorp Vault's (or OpenBao's) key-value engine, version 2.

How long it is good: the lease of the answer if it has one, else the `ttl` of the secret's custom metadata (`30m`, or
seconds), else `ttl_s`; never longer than until the version is deleted (`delete_version_after`).

The token is read anew for each request, so that an agent may replace its file. One that can be renewed is renewed when
half of its time is over; that is why a secret may be looked at again before its own time asks for it.

    GET  /v1/MOUNT/data/PATH             (KV secrets engine, version 2, HTTP API: read secret version)
    GET  /v1/auth/token/lookup-self      (token auth method, HTTP API)
    POST /v1/auth/token/renew-self
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from tollhouse.ports import Reading
from tollhouse.terms.errors import SourceError

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
LOOK_AGAIN_S: Final = 60.0
"""After a token could not be looked up or renewed."""
OK, DENIED, MISSING, REDIRECTS = 200, 403, 404, (301, 302, 303, 307, 308)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+)([smhd]?)")


class HashiCorpOptions(msgspec.Struct, frozen=True):
    """Settings under `key_sources.hashicorp`."""

    address: str
    namespace: str = ""
    ttl_s: float = 300.0
    timeout_s: float = 5.0
    max_bytes: int = 256 * 1024


class HashiCorp:
    """One server. `token` reads the token; raises SourceError."""

    def __init__(self, options: HashiCorpOptions, token: Callable[[], str], tls: ssl.SSLContext) -> None:
        self.options = options
        self._read_token = token
        self._tls = tls
        self._by_proxy = urlsplit(options.address).hostname not in LOOPBACK
        """A proxy of the environment is for what is elsewhere; to one the token of this machine's agent would go in
        clear.
        """
        self._token = ""
        self._renew_at = -float("inf")
        self._lock = asyncio.Lock()

    async def secret(self, path: str) -> tuple[dict[str, Any], float]:
        """The answer to reading this secret, and in how many seconds the token wants to be looked at. Raises
        SourceError.
        """
        await self._keep_token()
        mount, _, rest = path.strip("/").partition("/")
        status, answer = await self._ask("GET", f"{quote(mount)}/data/{quote(rest)}")
        if status != OK:
            raise SourceError(self._explained(status, answer, f"{mount}/{rest}"))
        return answer, self._renew_at - monotonic()

    def _explained(self, status: int, answer: dict[str, Any], path: str) -> str:
        at = f"Vault at {self.options.address}"
        if status == DENIED:
            return f"{at} does not let the token read {path} (403): its policy lacks it, or it has expired"
        if status == MISSING:
            deleted = isinstance(answer.get("data"), dict)  # then it tells the metadata of the version
            what = "the latest version is deleted" if deleted else "no such secret, or no key-value engine of version 2"
            return f"{at} has nothing at {path} (404): {what}"
        if status == 503:
            return f"{at} is sealed or not ready (503)"
        if status in REDIRECTS:
            return f"{at} sends elsewhere ({status}), which is not followed: name the address of the active node"
        return f"{at} answered {status} for {path}"

    async def _keep_token(self) -> None:
        """Look at a token that is new here, and renew one whose half is over. A policy may forbid both: then the token
        serves as long as it does.
        """
        async with self._lock:
            token = await asyncio.to_thread(self._read_token)
            if token != self._token:
                self._token, self._renew_at = token, -float("inf")
            if monotonic() < self._renew_at:
                return
            self._renew_at = monotonic() + LOOK_AGAIN_S
            status, answer = await self._ask("GET", "auth/token/lookup-self")
            facts = answer.get("data") or {}
            left_s, renewable = _seconds(facts.get("ttl")), facts.get("renewable") is True
            if status != OK or not (left_s or renewable):
                if status == OK:
                    self._renew_at = float("inf")  # it never ends
                return
            if renewable:
                status, answer = await self._ask("POST", "auth/token/renew-self")
                left_s = _seconds((answer.get("auth") or {}).get("lease_duration")) if status == OK else left_s
            self._renew_at = monotonic() + max(left_s / 2, 1.0)

    async def _ask(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer; an empty one where it is not JSON. Raises SourceError."""
        import httpx  # noqa: PLC0415  keeps it out of serving where nobody has a Vault

        options = self.options
        headers = {"x-vault-token": self._token, "x-vault-request": "true"}
        if options.namespace:
            headers["x-vault-namespace"] = options.namespace
        url = f"{options.address.rstrip('/')}/v1/{path}"
        body = bytearray()
        try:
            async with (
                asyncio.timeout(options.timeout_s),
                httpx.AsyncClient(verify=self._tls, timeout=options.timeout_s, trust_env=self._by_proxy) as client,
                client.stream(method, url, headers=headers) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > options.max_bytes:
                        raise SourceError(f"Vault at {options.address} answers more than {options.max_bytes} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise SourceError(f"Vault at {options.address} did not answer within {options.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            why = str(error) or type(error).__name__
            raise SourceError(f"Vault at {options.address} cannot be reached: {why}") from error
        try:
            return answer.status_code, msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            if answer.status_code == OK:
                raise SourceError(f"what answers at {options.address} is no Vault") from None
            return answer.status_code, {}


class HashiCorpSecret:
    """One field of one secret. `rest` is `MOUNT/PATH#FIELD`."""

    def __init__(self, rest: str, server: HashiCorp) -> None:
        self.name = f"vault:{rest}"
        self._path, _, self._field = rest.partition("#")
        self._server = server

    async def read(self) -> Reading:
        answer, token_s = await self._server.secret(self._path)
        found = answer.get("data")
        fields = found.get("data") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(fields, dict):
            raise SourceError(f"{self.name}: the engine there is not key-value version 2")
        secret = fields.get(self._field)
        if not isinstance(secret, str) or not secret.strip():
            raise SourceError(f"{self.name}: the secret has no field of this name with a text in it")
        lifetime_s = self._lifetime_s(answer, found.get("metadata"))
        return Reading(secret.strip(), lifetime_s, again_s=token_s if token_s < lifetime_s else None)

    def _lifetime_s(self, answer: dict[str, Any], metadata: Any) -> float:
        metadata = metadata if isinstance(metadata, dict) else {}
        custom = metadata.get("custom_metadata")
        stated = _seconds(custom.get("ttl")) if isinstance(custom, dict) else 0.0
        lifetime_s = _seconds(answer.get("lease_duration")) or stated or self._server.options.ttl_s
        deleted_at = metadata.get("deletion_time")
        if isinstance(deleted_at, str) and deleted_at:
            try:
                left_s = datetime.fromisoformat(deleted_at).astimezone(UTC).timestamp() - time()
            except ValueError:
                return lifetime_s
            lifetime_s = max(1.0, min(lifetime_s, left_s))
        return lifetime_s


def _seconds(duration: Any) -> float:
    """`90`, `\"90\"`, `1h30m`; 0 for what is none."""
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        return max(0.0, float(duration))
    if not isinstance(duration, str) or not re.fullmatch(r"(\d+[smhd]?)+", duration):
        return 0.0
    return float(sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration)))

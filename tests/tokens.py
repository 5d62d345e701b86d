"""An identity provider's keys, and tokens made with them: good ones, and such as no library would make."""

import base64
import json
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

ISSUER = "https://id.example/"
AUDIENCE = "https://llm.example"
NOW_S = 1_790_000_000


@cache
def key(kind: str, kid: str) -> Any:
    """The private key of this name; the same one all through a run. Kinds: RSA, EC, OKP, RSA-1024."""
    facts: Any = {"kid": kid}
    if kind == "RSA":
        return RSAKey.generate_key(2048, facts)
    if kind == "OKP":
        return OKPKey.generate_key("Ed25519", facts)
    return ECKey.generate_key("P-256", facts)


def key_set(*keys: Any, **more: Any) -> bytes:
    """As a JWKS URL answers."""
    rows = [{**one.as_dict(private=False), "use": "sig", **more} for one in keys]
    return json.dumps({"keys": rows}).encode()


def claims(sub: str = "alice", **more: Any) -> dict[str, Any]:
    """Good ones, but for what is said otherwise; None leaves one out."""
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": NOW_S, "exp": NOW_S + 3_600, **more}
    return {name: value for name, value in found.items() if value is not None}


def mint(what: dict[str, Any] | bytes, signer: Any, algorithm: str = "ES256", **header: Any) -> str:
    """A signed token. What is bytes is signed as it is."""
    payload = what if isinstance(what, bytes) else json.dumps(what).encode()
    named = {"alg": algorithm, "typ": "JWT", "kid": signer.kid, **header}
    head = {name: value for name, value in named.items() if value is not None}
    signed = encode(json.dumps(head).encode()) + b"." + encode(payload)
    return (signed + b"." + encode(jws.JWSRegistry.algorithms[algorithm].sign(signed, signer))).decode()


def by_secret(what: dict[str, Any], secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    """A token that is signed with any bytes for a secret, such as a public key's."""
    signer = OctKey.import_key(secret)
    return mint(what, signer, algorithm, kid=header.pop("kid", None), **header)


def unsigned(what: dict[str, Any], **header: Any) -> str:
    head = {"alg": "none", "typ": "JWT", **header}
    return (encode(json.dumps(head).encode()) + b"." + encode(json.dumps(what).encode()) + b".").decode()


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")

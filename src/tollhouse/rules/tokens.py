"""Tokens that somebody else's identity provider has signed (JWT, RFC 7519, in the compact form of RFC 7515): what is
read of one, by which keys it may be signed, and whether its claims hold. After RFC 8725, the best current practices:

1. The algorithm is one of a list of ours, and a key is for its own kind of algorithm alone: a public key never checks
   an HMAC, and a shared secret comes from the operator, never from a key set.
2. Keys come from the issuer's own set, by `kid`. Whatever a token says of keys itself (`jwk`, `jku`, `x5u`, `x5c`) is
   not looked at, and one with a critical extension (`crit`) is refused: none is known here.
3. A name that stands twice in a token is refused, for two readers could take two meanings from it.
4. Issuer, expiry, and at least one of audience and authorised party must be there and right.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey, RSAKey

MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""
MAX_KEYS: Final = 100
"""More of one key set are not looked at."""
MAX_KID_CHARS: Final = 256
MAX_HEADER_BYTES: Final = 4096
LAST_S: Final = 253_402_300_799
"""The last second of the year 9999: an expiry after it is as good as this one."""

_RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_CURVES: Final = {
    "secp256r1": frozenset(("ES256",)),
    "secp384r1": frozenset(("ES384",)),
    "secp521r1": frozenset(("ES512",)),
    "ed25519": frozenset(("EdDSA", "Ed25519")),
}
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms by a shared secret, and how long that must be (RFC 7518, 3.2)."""
ASYMMETRIC: Final = _RSA | frozenset(name for names in _CURVES.values() for name in names)


class TokenError(ValueError):
    """Why a token is not good, for who sent it; nothing of the token is repeated. `code` is stable."""

    def __init__(self, message: str, code: str = "invalid_token") -> None:
        super().__init__(message)
        self.code = code


class Token(msgspec.Struct, frozen=True):
    """One that can be read; nobody has looked at its signature yet."""

    text: str
    algorithm: str
    kid: str | None
    claims: Mapping[str, Any]


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What must be so for a token of one issuer to count.

    audiences, parties   each that is not empty must be met: one of `aud`, or `azp`
    leeway_s             by so much clocks may differ
    """

    issuer: str
    algorithms: frozenset[str]
    audiences: frozenset[str] = frozenset()
    parties: frozenset[str] = frozenset()
    leeway_s: int = 60


class SigningKey(msgspec.Struct, frozen=True, eq=False):
    """A key and the algorithms that it may be used with. `kid` None: it is for tokens of any."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any
    thumbprint: str


def looks_like_token(credential: bytes) -> bool:
    """Whether a credential is meant as a token: the base64url of a JSON object, and a dot."""
    return credential.startswith(b"eyJ") and b"." in credential


def open_token(credential: bytes, max_bytes: int) -> Token:
    """Read a token without believing it. Raises TokenError."""
    if len(credential) > max_bytes:
        raise TokenError(f"The token has {len(credential):,} bytes; at most {max_bytes:,} are read.")
    parts = credential.split(b".")
    if len(parts) == 5:
        raise TokenError("The token is encrypted (JWE), as Auth.js keeps its own. Send one that is signed only.")
    if len(parts) != 3 or len(parts[0]) > MAX_HEADER_BYTES or not credential.isascii():
        raise TokenError("The token is not a signed JWT: three parts with dots between them.")
    header, claims = (_read_part(part) for part in parts[:2])
    algorithm, kid = header.get("alg"), header.get("kid")
    if "crit" in header or header.get("b64", True) is not True:
        raise TokenError("The token has critical extensions (crit), and none is known here.")
    if not isinstance(algorithm, str) or not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_KID_CHARS)):
        raise TokenError("The token's header does not say by which algorithm and key it is signed.")
    return Token(credential.decode("ascii"), algorithm, kid, claims)


def _read_part(part: bytes) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part).decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, TokenError) else "The token cannot be read: it is not base64url of JSON."
        raise TokenError(why) from None
    if not isinstance(found, dict):
        raise TokenError("The token cannot be read: it is not made of JSON objects.")
    return found


def _decoded(part: bytes) -> bytes:
    """base64url without padding. Raises ValueError."""
    if b"+" in part or b"/" in part or b"=" in part:
        raise ValueError("not base64url")
    return base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenError("The token names something twice; which of the two counts is not defined.")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def candidates(token: Token, keys: Iterable[SigningKey], trust: Trust) -> Iterator[SigningKey]:
    """The keys that may have signed it. Raises TokenError for an algorithm that is not on the list."""
    if token.algorithm not in trust.algorithms:
        allowed = ", ".join(sorted(trust.algorithms))
        raise TokenError(f"The token is not signed by an algorithm that is accepted here ({allowed}).")
    for key in keys:
        if token.algorithm in key.algorithms and (token.kid is None or key.kid is None or key.kid == token.kid):
            yield key


def is_signed_by(token: Token, key: SigningKey) -> bool:
    """Whether the key fits the token's signature."""
    signed, _, signature = token.text.rpartition(".")
    model = jws.JWSRegistry.algorithms[token.algorithm]
    try:
        model.check_key(key.key)
        return model.verify(signed.encode("ascii"), _decoded(signature.encode("ascii")), key.key)
    except (JoseError, ValueError):
        return False


def check_claims(claims: Mapping[str, Any], trust: Trust, now_s: float) -> float:
    """When the token ends, leeway included; seconds since 1970 UTC. Raises TokenError."""
    if claims.get("iss") != trust.issuer:
        raise TokenError("The token is of another issuer.")
    expires_s = _time(claims, "exp")
    if expires_s is None:
        raise TokenError("The token has no end (exp).")
    if now_s >= expires_s + trust.leeway_s:
        raise TokenError("The token has expired. Ask its issuer for a new one.", "token_expired")
    for name in ("nbf", "iat"):
        at_s = _time(claims, name)
        if at_s is not None and at_s > now_s + trust.leeway_s:
            raise TokenError(f"The token is not valid yet ({name}). Are both clocks right?")
    if trust.audiences and trust.audiences.isdisjoint(_audiences(claims)):
        raise TokenError("The token is for another audience (aud).")
    if trust.parties and claims.get("azp") not in trust.parties:
        raise TokenError("The token was made for another party (azp).")
    return expires_s + trust.leeway_s


def issued_at_s(claims: Mapping[str, Any]) -> float:
    """When it was made; 0 when it does not say."""
    return _time(claims, "iat") or 0.0


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    found = claims.get("aud")
    some = found if isinstance(found, list) else [found]
    return [one for one in some if isinstance(one, str)]


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(min(found, LAST_S)):
        raise TokenError(f"The token's {name} is not a time in seconds.")
    return float(max(min(found, LAST_S), -LAST_S))


# Keys


def read_key_set(body: bytes) -> tuple[SigningKey, ...]:
    """The keys of a JWK set (RFC 7517) that can check a token's signature; others are left out, secrets above all.
    Raises ValueError when it is not a JWK set.
    """
    try:
        rows = json.loads(body)["keys"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError("it is not a JWK set") from None
    if not isinstance(rows, list):
        raise ValueError("it is not a JWK set")
    return tuple(key for row in rows[:MAX_KEYS] if isinstance(row, dict) and (key := _of_set(row)) is not None)


def _of_set(row: dict[str, Any]) -> SigningKey | None:
    operations = row.get("key_ops", ["verify"])
    kid = row.get("kid")
    if row.get("kty") not in ("RSA", "EC", "OKP") or row.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kid, str | None):
        return None
    public: dict[str, Any] = {name: row[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in row}
    try:
        key = JWKRegistry.import_key(public)
        algorithms = _algorithms(key.raw_value)
        thumbprint = key.thumbprint()
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if "alg" in row:
        algorithms &= {row["alg"]} if isinstance(row["alg"], str) else set()
    return SigningKey(kid, algorithms, key, thumbprint) if algorithms else None


def read_public_key(pem: str) -> SigningKey:
    """A key of a PEM file, for tokens of any `kid`. Raises ValueError with what is wrong."""
    if "PRIVATE KEY" in pem:
        raise ValueError("this is a private key; give its public key")
    try:
        raw = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise ValueError("this is not the PEM of a public key (-----BEGIN PUBLIC KEY-----)") from error
    algorithms = _algorithms(raw)
    if not algorithms:
        raise ValueError(f"keys are RSA of {MIN_RSA_BITS} bits or more, P-256, P-384, P-521 or Ed25519")
    kind = RSAKey if isinstance(raw, RSAPublicKey) else ECKey if isinstance(raw, EllipticCurvePublicKey) else OKPKey
    key = kind.import_key(pem)
    return SigningKey(None, algorithms, key, key.thumbprint())


def shared_secret(secret: str, algorithms: Iterable[str]) -> SigningKey:
    """A secret that the issuer and the operator share. Raises ValueError when it is too short."""
    size, least = len(secret.encode()), max(SECRET_BYTES[name] for name in algorithms)
    if size < least:
        raise ValueError(f"the secret has {size} bytes; these algorithms need {least}")
    key = OctKey.import_key(secret)
    return SigningKey(None, frozenset(algorithms), key, key.thumbprint())


def _algorithms(raw: Any) -> frozenset[str]:
    """What a public key can check."""
    if isinstance(raw, RSAPublicKey):
        return _RSA if raw.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(raw, EllipticCurvePublicKey):
        return _CURVES.get(raw.curve.name, frozenset())
    return _CURVES["ed25519"] if isinstance(raw, Ed25519PublicKey) else frozenset()

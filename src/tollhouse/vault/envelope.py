"""The envelope of one secret: AES-256-GCM under a data key of its own, which lies beside it under a master key.

    sealed = format | version | nonce, wrapped data key | nonce, encrypted secret         (msgpack array)

Both layers authenticate what the secret is bound to: tenant, record, provider, host. An envelope moved to another row,
another provider or another address does not open. Nonces are random: each data key seals once, and a master key wraps
far fewer than the 2**32 data keys at which NIST SP 800-38D (8.3) would have it changed.
"""

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from tollhouse.terms.errors import VaultError
from tollhouse.vault.master_keys import KEY_BYTES, MasterKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT: Final = 1
NONCE_BYTES: Final = 12


class Binding(msgspec.Struct, frozen=True, array_like=True):
    """What a secret is bound to. `host` is scheme, host and port; empty for what is sent nowhere."""

    tenant: str
    record: str
    provider: str
    host: str


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    format: int
    version: int
    """Of the master key."""
    key_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    encrypted: bytes


_decode = msgspec.msgpack.Decoder(Envelope).decode
_encode = msgspec.msgpack.Encoder().encode


def seal(keys: MasterKeys, secret: bytes, binding: Binding) -> bytes:
    """Raises VaultError without a master key."""
    if not keys.current:
        raise VaultError("no master key is configured, so nothing can be stored: `tollhouse vault init` makes one")
    bound = _encode(binding)
    data_key = secrets.token_bytes(KEY_BYTES)
    nonce = secrets.token_bytes(NONCE_BYTES)
    encrypted = _cipher(data_key).encrypt(nonce, secret, bound)
    return _wrapped(keys, data_key, bound, nonce, encrypted)


def unseal(keys: MasterKeys, sealed: bytes, binding: Binding) -> bytes:
    """Raises VaultError: damaged, bound to something else, or under a master key that is not here."""
    envelope = read(sealed)
    bound = _encode(binding)
    data_key = _data_key(keys, envelope, bound)
    secret = _opened(data_key, envelope.nonce, envelope.encrypted, bound)
    if secret is None:
        raise VaultError(f"the stored secret {binding.record} is damaged")
    return secret


def rewrap(keys: MasterKeys, sealed: bytes, binding: Binding) -> bytes:
    """The same secret with its data key under the current master key. Raises VaultError as `unseal`."""
    envelope = read(sealed)
    bound = _encode(binding)
    data_key = _data_key(keys, envelope, bound)
    return _wrapped(keys, data_key, bound, envelope.nonce, envelope.encrypted)


def read(sealed: bytes) -> Envelope:
    """Raises VaultError."""
    try:
        envelope = _decode(sealed)
    except msgspec.DecodeError:
        envelope = None
    if envelope is None or envelope.format != FORMAT:
        raise VaultError("a stored secret is not an envelope of this program")
    return envelope


def _wrapped(keys: MasterKeys, data_key: bytes, bound: bytes, nonce: bytes, encrypted: bytes) -> bytes:
    key_nonce = secrets.token_bytes(NONCE_BYTES)
    wrapped_key = _cipher(keys[keys.current]).encrypt(key_nonce, data_key, bound)
    return _encode(Envelope(FORMAT, keys.current, key_nonce, wrapped_key, nonce, encrypted))


def _data_key(keys: MasterKeys, envelope: Envelope, bound: bytes) -> bytes:
    if envelope.version not in keys:
        here = ", ".join(map(str, keys.versions)) or "none"
        raise VaultError(
            f"a stored secret is sealed under master key {envelope.version}, which is not configured (here: {here})"
        )
    data_key = _opened(keys[envelope.version], envelope.key_nonce, envelope.wrapped_key, bound)
    if data_key is None or len(data_key) != KEY_BYTES:
        raise VaultError(
            "a stored secret does not open: another master key sealed it, it was changed, or it is bound to another "
            "tenant, record, provider or host"
        )
    return data_key


def _opened(key: bytes, nonce: bytes, encrypted: bytes, bound: bytes) -> bytes | None:
    """None when it is not what this key sealed, bound to this."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  first use: keeps it out of a start

    try:
        return _cipher(key).decrypt(nonce, encrypted, bound)
    except (InvalidTag, ValueError):  # the latter for a nonce of another length
        return None


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  as above

    return AESGCM(key)

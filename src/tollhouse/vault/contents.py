"""How both sides of a call lie in one envelope, bound to their request: one cannot be taken for the other's."""

import msgspec

from tollhouse.terms.captures import Content
from tollhouse.terms.errors import VaultError
from tollhouse.vault.envelope import Binding
from tollhouse.vault.vault import Vault

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


def binding_of_content(org_id: str, request_id: str) -> Binding:
    return Binding(org_id, request_id, "content", "")


def seal_content(vault: Vault, content: Content) -> bytes:
    """Raises VaultError without a master key."""
    plain = _encode((content.request.data, content.answer.data))
    return vault.seal(plain, binding_of_content(content.org_id, content.request_id))


def open_content(vault: Vault, sealed: bytes, *, org_id: str, request_id: str) -> tuple[bytes, bytes]:
    """The kept parts of the request and of the answer. Raises VaultError as `Vault.unseal`."""
    plain = vault.unseal(sealed, binding_of_content(org_id, request_id))
    try:
        return _decode(plain)
    except msgspec.DecodeError:
        raise VaultError(f"the kept content of {request_id} is damaged") from None

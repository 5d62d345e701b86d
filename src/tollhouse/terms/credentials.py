"""Providers' credentials that somebody stored here, and whose of them pays for a call."""

from enum import StrEnum
from typing import Final

import msgspec

OWN_PREFIX: Final = "own_"
"""Begins the id of a user's own credential."""
MANAGED_PREFIX: Final = "cred_"
"""Begins the id of one that the operator stored."""


class PaidBy(StrEnum):
    """Whose key a call is sent with."""

    SHARED = "shared"
    """The operator's, of the provider's row."""
    ASSIGNED = "assigned"
    """The operator's, one that they gave this user."""
    OWN = "own"
    """The user's."""


class Credential(msgspec.Struct, frozen=True):
    """A stored credential. Its secret is in `sealed` and nowhere else; nothing here tells it.

    provider       name of the provider's row it is for
    user_id        whose own it is; empty: the operator's
    base_url       of the user's own endpoint; empty: the provider's
    host           scheme, host and port it is bound to (`https://api.anthropic.com:443`): it is sent nowhere else
    kind           what the secret is, by its form (`rules.credential_kinds`)
    hint           last four characters of the secret
    fingerprint    keyed hash of the secret, by which the same one is known again
    refused_at_ns  when its provider last refused it; None since it last worked
    sealed         the envelope (`tollhouse.vault`)
    """

    credential_id: str
    provider: str
    host: str
    user_id: str = ""
    org_id: str = ""
    name: str = ""
    base_url: str = ""
    kind: str = ""
    hint: str = ""
    fingerprint: str = ""
    created_by: str = ""
    created_at_ns: int = 0
    last_used_at_ns: int | None = None
    refused_at_ns: int | None = None
    sealed: bytes = b""


def paid_by(credential_id: str) -> PaidBy:
    """Whose key that is; of a call without a stored credential, the shared one."""
    if credential_id.startswith(OWN_PREFIX):
        return PaidBy.OWN
    return PaidBy.ASSIGNED if credential_id.startswith(MANAGED_PREFIX) else PaidBy.SHARED

"""Asking a provider whether it takes a stored credential.

One call that costs nothing, to the very address the credential is bound to. The provider's words are passed on, cut and
without the secret, which some providers repeat.
"""

import re

import msgspec
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.credential_shapes import TestOut
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.storing import HINT_CHARS, binding_of
from tollhouse.storage import credentials as stored
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import VaultError

MAX_WORDS = 500
"""Characters of a provider's message."""
REFUSED = (401, 403)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


async def tested(deps: ControlDeps, caller: Caller, credential: Credential) -> TestOut:
    """Raises Problem: 409 for what cannot be opened or has moved, 503 without a running gateway; Refusal: 429."""
    if deps.ask_provider is None:
        raise Problem(503, "no_server", "No gateway is running here that could ask: start `tollhouse serve`.")
    secret = opened(deps, credential)
    who = f"user {caller.user_id}" if caller.user_id else "operator"
    word = await deps.ask_provider(who, credential.provider, credential.host, secret, credential.base_url)
    if word.status:
        await _note(deps, credential, refused=word.status in REFUSED)
    return TestOut(
        ok=200 <= word.status < 300,
        status=word.status,
        message=scrubbed(word.message, secret),
        host=credential.host,
        duration_ms=word.duration_ms,
    )


def opened(deps: ControlDeps, credential: Credential) -> str:
    """Its secret, if its provider is still where it was. Raises Problem (409)."""
    host = deps.providers.host_of(credential.provider)
    if host is None:
        raise Problem(409, "provider_gone", f"There is no provider {credential.provider!r} any more.")
    if host != credential.host and not credential.base_url:
        raise Problem(
            409,
            "provider_moved",
            f"It was stored for {credential.host}, but {credential.provider} is at {host} now, and it is sent nowhere "
            "else. Store it again if it is meant for there.",
        )
    try:
        return deps.vault.unseal(credential.sealed, binding_of(credential)).decode()
    except VaultError as error:
        raise Problem(409, "cannot_be_opened", f"This credential cannot be opened: {error}. Store it again.") from error


async def _note(deps: ControlDeps, credential: Credential, *, refused: bool) -> None:
    """When its provider refused it, or that it works again."""
    if not refused and credential.refused_at_ns is None:
        return
    at_ns = deps.now_ns() if refused else None

    def change(connection: Connection) -> Credential | None:
        now = stored.get_credential(connection, credential.credential_id)
        if now is None or now.sealed != credential.sealed:
            return None  # removed or replaced meanwhile
        stored.update_credential(connection, msgspec.structs.replace(now, refused_at_ns=at_ns))
        return now

    await deps.write(change, touches=lambda found: credential.user_id or None)


def scrubbed(words: str, secret: str) -> str:
    """A provider's message as it may be shown: one line, cut, without the secret or what it begins or ends with."""
    for telling in dict.fromkeys((secret, *_parts(secret))):
        words = words.replace(telling, "…")
    words = _UNPRINTABLE.sub(" ", words).strip()
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"


def _parts(secret: str) -> list[str]:
    """Providers show parts of a key (`sk-proj-ab**…**wxyz`): beyond its public prefix and the hint, none is shown."""
    least = 3 * HINT_CHARS
    return [secret[:-HINT_CHARS], secret[HINT_CHARS:]] if len(secret) >= least else []

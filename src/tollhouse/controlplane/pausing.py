"""Pausing keys: a paused key is refused until somebody takes it up again. People do it, and rules that see something
unusual (`pause`).

Who has a key only as its user may pause it and not take it up again: whoever paused it had a reason.
"""

import msgspec
from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Connection

from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.key_shapes import KeyDetail
from tollhouse.controlplane.keys import alive, get_key, only_narrower
from tollhouse.controlplane.shapes import Input, NameText
from tollhouse.controlplane.visit import AS_OWNER, By, Visit
from tollhouse.storage import directory
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.people import VirtualKey

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])


class PauseIn(Input):
    reason: NameText = Field("", description="Why; told to whoever calls with the key")


@router.post("/{key_id}/pause")
async def pause_key(key_id: str, deps: Deps, by: By, body: PauseIn | None = None) -> KeyDetail:
    """Refuse the key from its next call on, until it is resumed. Paused already, it stays as it is."""
    await pause(deps, key_id, (body or PauseIn()).reason, by)
    return await get_key(key_id, deps, by)


@router.post("/{key_id}/resume")
async def resume_key(key_id: str, deps: Deps, by: By) -> KeyDetail:
    """Take a paused key up again; its next call passes."""

    def change(connection: Connection) -> str:
        key = alive(connection, by, key_id)
        after = msgspec.structs.replace(key, paused_at_ns=None, pause_reason="")
        only_narrower(connection, by.caller, key, after)
        directory.update_key(connection, after)
        return key.user_id

    await deps.write(change, touches=lambda user_id: user_id)
    return await get_key(key_id, deps, by)


async def pause(deps: ControlDeps, key_id: str, reason: str, by: Visit = AS_OWNER) -> bool:
    """Pause a key and tell of it; False when it was paused already. Raises Problem (404, 409) and StorageError."""

    def change(connection: Connection) -> tuple[VirtualKey, bool]:
        key = alive(connection, by, key_id)
        if key.paused_at_ns is not None:
            return key, False
        paused = msgspec.structs.replace(key, paused_at_ns=deps.now_ns(), pause_reason=reason)
        directory.update_key(connection, paused)
        return paused, True

    key, fresh = await deps.write(change, touches=lambda made: made[0].user_id)
    if fresh:
        deps.notify(notice_of(key))
    return fresh


def notice_of(key: VirtualKey) -> Notice:
    why = f": {key.pause_reason}" if key.pause_reason else "."
    return Notice(
        NoticeKind.KEY_PAUSED,
        f"key {key.key_id}",
        f"The key {key.name or key.key_id} of user {key.user_id} was paused{why}",
        {"key_id": key.key_id, "user_id": key.user_id, "reason": key.pause_reason},
    )

"""Erasing a user: nothing personal is left of them, sums stay (see `storage.erasing` for how)."""

from fastapi import APIRouter
from sqlalchemy import Connection

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.tenancy import known_user
from tollhouse.controlplane.users import UserDetail, get_user, not_the_last_owner, theirs_to_change
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.storage import directory, erasing
from tollhouse.storage.erasing import Erasure
from tollhouse.terms.errors import JournalError

router = APIRouter(prefix="/api/v1/users", tags=["users"])

_RANDOM_BYTES = 10


@router.post("/{user_id:path}/erase")
async def erase_user(user_id: str, deps: Deps, by: By) -> UserDetail:
    """Erase everything personal of a user, for good; sums stay under the pseudonym that the answer is about.

    Their keys are revoked, their sessions and calls under way end, their own credentials and captured content are
    deleted. Asked again for somebody whose erasure was broken off, it goes on with it.
    """
    now_ns = deps.now_ns()
    pseudonym = f"erased_{deps.random_bytes(_RANDOM_BYTES).hex()}"

    def change(connection: Connection) -> list[Erasure]:
        begun = erasing.unfinished(connection, user_id)
        if begun and directory.get_user(connection, user_id) is None:
            return begun
        user = known_user(connection, by.caller, Action.ERASE_USERS, user_id)
        theirs_to_change(by, user)
        writable(user)
        not_the_last_owner(connection, user, None)
        return [*begun, erasing.begin(connection, user, pseudonym, now_ns)]

    begun = await deps.write(change, touches=lambda _: None)
    if deps.doorkeeper is not None:
        await deps.doorkeeper.end_of_user(user_id, by="erasure")
    try:
        quiet = await deps.quiet(user_id, begun[-1].begun_at_ns)
    except JournalError as error:
        raise _later(str(error)) from error
    if not quiet:
        raise _later("calls of theirs are still ending")
    for erasure in begun:
        await erasing.complete(deps.database, erasure)
    await deps.changed(None)
    return await get_user(begun[-1].pseudonym, deps, by)


def _later(why: str) -> Problem:
    """Raised where all that could be done at once is done."""
    return Problem(
        503,
        "erasure_unfinished",
        f"Nobody can call or sign in as this user any more, but the log still names them: {why}. Erase them again to "
        "complete it.",
        headers={"retry-after": "10"},
    )

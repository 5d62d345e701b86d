"""What the holder of a virtual key may know: themselves, their limits, and what is left."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.access import caller_of
from tollhouse.controlplane.budgets import BudgetOut, budgets_out
from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.keys import KeyOut, key_out
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.users import UserOut, user_out
from tollhouse.storage import directory
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import Budget, User, VirtualKey

router = APIRouter(prefix="/api/v1/me", tags=["me"])


class MeOut(BaseModel):
    """`budgets` are all a call of this key must have room in: the organisation's, the user's, the key's."""

    user: UserOut
    key: KeyOut
    budgets: list[BudgetOut]


@router.get("")
async def get_me(request: Request, deps: Deps) -> MeOut:
    """The virtual key that asks: whose it is, what limits it, what is left."""
    holder = caller_of(request).key
    if holder is None:
        raise Problem(403, "key_only", "This is about a virtual key: call it with one.")
    key_id = holder.key_id

    def query(connection: Connection) -> tuple[User, VirtualKey, tuple[Budget, ...]] | None:
        key = directory.get_key(connection, key_id)
        user = None if key is None else directory.get_user(connection, key.user_id)
        if key is None or user is None:
            return None
        scopes = ((ScopeKind.ORGANISATION, DEFAULT_ORG), (ScopeKind.USER, key.user_id), (ScopeKind.KEY, key_id))
        budgets = [directory.list_budgets(connection, scope=scope, scope_id=scope_id) for scope, scope_id in scopes]
        return user, key, tuple(budget for some in budgets for budget in some)

    found = await deps.read(query)
    if found is None:
        raise Problem(401, "invalid_credentials", "This virtual key is no longer there.")
    user, key, budgets = found
    return MeOut(user=user_out(user), key=key_out(key, deps.now_ns()), budgets=await budgets_out(deps, budgets))

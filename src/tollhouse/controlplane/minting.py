"""Short-lived keys, as a tool's key helper asks for them every few minutes: few fields, an end, a bound on how many
work at once. What is long over is cleaned up when the next is minted; the ledger keeps what it did.
"""

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import Connection

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.key_shapes import KeyIn, KeyWithSecret
from tollhouse.controlplane.keys import create_key
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.shapes import Input, ModelGlobs, TeamName, UserIdText
from tollhouse.controlplane.times import NS_PER_S, parse_duration_s
from tollhouse.controlplane.visit import By
from tollhouse.storage import minted

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

MIN_TTL_S = 60
KEEP_S = 7 * 86_400
"""How long a minted key that is over stays in the list of keys."""
CLEAN_AT_ONCE = 200


class MintIn(Input):
    ttl: str = Field("1h", max_length=20, description="How long it works, such as `15m` or `1h`")
    user_id: UserIdText | None = Field(None, description="Whose; your own when missing and you are signed in")
    team_id: TeamName | None = None
    models: ModelGlobs | None = None


@router.post("/mint", status_code=201)
async def mint_key(body: MintIn, deps: Deps, by: By) -> KeyWithSecret:
    """Create a key that ends by itself soon; its user's limits and budgets hold for it."""
    try:
        ttl_s = parse_duration_s(body.ttl)
    except ValueError as error:
        raise invalid("ttl", str(error)) from error
    if not MIN_TTL_S <= ttl_s <= deps.options.minted_ttl_s:
        raise invalid(
            "ttl", f"is at least {MIN_TTL_S} s and at most {deps.options.minted_ttl_s} s (management.minted_ttl_s)"
        )
    user_id = body.user_id or by.caller.user_id
    if not user_id:
        raise invalid("user_id", "is missing: whose key is it")
    now_ns = deps.now_ns()

    def there_is_room(connection: Connection) -> None:
        minted.clean(connection, before_ns=now_ns - KEEP_S * NS_PER_S, limit=CLEAN_AT_ONCE)
        living, first_end_ns = minted.living(connection, user_id, now_ns)
        if living < deps.options.minted_living:
            return
        wait_s = 1 if first_end_ns is None else max(1, (first_end_ns - now_ns) // NS_PER_S + 1)
        raise Problem(
            429,
            "too_many_minted_keys",
            f"{living} minted keys of this user work already (management.minted_living); the first of them ends in "
            f"{wait_s} s. Ask less often, or for a shorter ttl.",
            headers={"retry-after": str(wait_s)},
        )

    fields = {"user_id": user_id, "name": minted.NAME, "team_id": body.team_id, "models": body.models}
    key = KeyIn.model_validate({**fields, "expires": body.ttl})
    return await create_key(key, deps, by, id_prefix=minted.ID_PREFIX, before=there_is_room)

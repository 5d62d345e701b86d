"""Plans: plain functions of a Connection, as in `directory`."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from tollhouse.storage.rows import decode_globs, decode_limits, encode, page
from tollhouse.storage.tables import plans, teams, users, virtual_keys
from tollhouse.terms.people import BudgetEdge, OwnKeyRule, Plan, PlanBudget

_budgets = msgspec.json.Decoder(tuple[PlanBudget, ...])


def create_plan(connection: Connection, plan: Plan) -> bool:
    """Insert a plan; False when there is one of this name."""
    if get_plan(connection, plan.plan_id) is not None:
        return False
    connection.execute(insert(plans).values(_plan_row(plan)))
    return True


def get_plan(connection: Connection, plan_id: str) -> Plan | None:
    row = connection.execute(select(plans).where(plans.c.plan_id == plan_id)).one_or_none()
    return None if row is None else _plan(row)


def list_plans(
    connection: Connection, *where: ColumnElement[bool], cursor: str = "", limit: int = 100
) -> tuple[Plan, ...]:
    """At most `limit` plans with a name after `cursor`, of those that meet all conditions."""
    return tuple(map(_plan, page(connection, plans, plans.c.plan_id, cursor, limit, *where)))


def all_plans(connection: Connection) -> tuple[Plan, ...]:
    """All there are: a handful."""
    return tuple(map(_plan, connection.execute(select(plans).order_by(plans.c.plan_id))))


def update_plan(connection: Connection, plan: Plan) -> bool:
    """Write all of a plan's fields; False when there is none of this name."""
    query = update(plans).where(plans.c.plan_id == plan.plan_id).values(_plan_row(plan))
    return connection.execute(query).rowcount == 1


def delete_plan(connection: Connection, plan_id: str) -> bool:
    """Remove a plan; who holds it is the caller's to ask. False when there is none of this name."""
    return connection.execute(delete(plans).where(plans.c.plan_id == plan_id)).rowcount == 1


def holders_of(connection: Connection, plan_id: str, limit: int) -> tuple[str, ...]:
    """Who has a plan, as `user alice`: at most `limit` of each kind. A plan that stands in for another's own key
    counts too.
    """
    found = []
    for kind, table, name in (
        ("team", teams, teams.c.team_id),
        ("user", users, users.c.user_id),
        ("key", virtual_keys, virtual_keys.c.key_id),
    ):
        ids = select(name).where(table.c.plan_id == plan_id).order_by(name).limit(limit)
        found += [f"{kind} {holder}" for holder in connection.scalars(ids)]
    others = select(plans.c.plan_id).where(plans.c.without_own_key == plan_id).order_by(plans.c.plan_id).limit(limit)
    return (*found, *(f"plan {other}" for other in connection.scalars(others)))


def _plan_row(plan: Plan) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(plan),
        "limits": encode(plan.limits),
        "budgets": encode(plan.budgets),
        "models": None if plan.models is None else encode(plan.models),
        "edge": plan.edge.value,
        "own_key": plan.own_key.value,
        "fall_back": int(plan.fall_back),
        "counts_own_key": int(plan.counts_own_key),
    }


def _plan(row: Row[Any]) -> Plan:
    return Plan(
        row.plan_id,
        description=row.description,
        limits=decode_limits(row.limits),
        budgets=_budgets.decode(row.budgets),
        models=None if row.models is None else decode_globs(row.models),
        max_output_tokens=row.max_output_tokens,
        edge=BudgetEdge(row.edge),
        own_key=OwnKeyRule(row.own_key),
        without_own_key=row.without_own_key,
        owned_by=row.owned_by,
        created_at_ns=row.created_at_ns,
        fall_back=bool(row.fall_back),
        counts_own_key=bool(row.counts_own_key),
    )

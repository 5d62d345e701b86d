"""What the ledger knows of the habits of keys: their spend by the hour, and the tools they are used with."""

from sqlalchemy import BigInteger, Connection, func, literal, select

from tollhouse.storage.tables import ledger

_S_NS = 10**9
_HOUR_NS = 3_600 * _S_NS


def hours_of_keys(connection: Connection, *, since_s: int, latest: int) -> list[tuple[str, str, int, int, str, int]]:
    """Key id, user id, hour (since 1970), nano-USD, client, calls: of the `latest` entries since then, in the order of
    hours.
    """
    entry = ledger.c
    some = (
        select(entry.key_id, entry.user_id, entry.at_ns, entry.amount_nusd, entry.client)
        .where(entry.at_ns >= since_s * _S_NS)
        .order_by(entry.at_ns.desc())
        .limit(latest)
        .subquery()
        .c
    )
    hour = (some.at_ns // literal(_HOUR_NS, BigInteger)).label("hour")
    groups = (some.key_id, some.user_id, hour, some.client)
    query = select(*groups, func.sum(some.amount_nusd).label("nusd"), func.count().label("calls"))
    rows = connection.execute(query.group_by(*groups).order_by(hour))
    return [(row.key_id, row.user_id, int(row.hour), int(row.nusd), row.client, row.calls) for row in rows]

"""What the nouns of the database share: small trees as JSON text, pages by id."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, select

from tollhouse.terms.people import Limits

MAX_PAGE = 1000
"""Most rows of one page, whatever is asked for."""

_encode = msgspec.json.Encoder().encode
decode_limits = msgspec.json.Decoder(Limits).decode
decode_mapping = msgspec.json.Decoder(dict[str, Any]).decode
decode_globs = msgspec.json.Decoder(tuple[str, ...]).decode


def encode(tree: object) -> str:
    """JSON text of a small tree, as its column takes it."""
    return _encode(tree).decode()


def page(
    connection: Connection, table: Table, by: ColumnElement[str], cursor: str, limit: int, *where: ColumnElement[bool]
) -> Sequence[Row[Any]]:
    """At most `limit` rows with `by` after `cursor`, in its order."""
    query = select(table).where(by > cursor, *where).order_by(by).limit(max(1, min(limit, MAX_PAGE)))
    return connection.execute(query).all()

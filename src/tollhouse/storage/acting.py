"""Who acts: known where a request comes in, needed where its changes are written, and of no interest between.

So it goes along with the task (a context variable), and the writer takes it when a transaction is asked for. What
nobody asked for is the house's own doing.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from tollhouse.terms.audit import THE_HOUSE, Author

_author: ContextVar[Author] = ContextVar("tollhouse_author", default=THE_HOUSE)


def author() -> Author:
    """Whoever acts now."""
    return _author.get()


@contextlib.contextmanager
def acting(who: Author) -> Iterator[None]:
    """What is written inside is this one's doing."""
    token = _author.set(who)
    try:
        yield
    finally:
        _author.reset(token)

"""Limits per day and month after a restart: they count what the request log has of earlier runs of this process."""

import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tollhouse.rules.budgets import window_of
from tollhouse.rules.plans import OWN_HOLDER
from tollhouse.storage.requests import HOLDER_KINDS, count_admitted
from tollhouse.terms.people import BudgetWindow

if TYPE_CHECKING:
    from tollhouse.app.house import House


def restore_limits(house: "House", connection: Connection) -> None:
    """Raises StorageError."""
    holders = {holder.name: holder for holder in house.snapshot.calendar_holders()}
    if not holders:
        return
    now_s, timezone = time.time(), house.settings.money.timezone
    day_ns, month_ns = (
        window_of(window, timezone, now_s, None)[0] * 10**9 for window in (BudgetWindow.DAY, BudgetWindow.MONTH)
    )
    monthly = any(holder.limits.requests_per_month is not None for holder in holders.values())
    apart = any(name.startswith(OWN_HOLDER) for name in holders)
    for kind in HOLDER_KINDS:
        count = partial(count_admitted, connection, kind)
        today = count(since_ns=day_ns)
        month = count(since_ns=month_ns) if monthly else today
        own_today = count(since_ns=day_ns, own_only=True) if apart else {}
        own_month = count(since_ns=month_ns, own_only=True) if apart and monthly else own_today
        for holder_id in month.keys() | today.keys():
            counts = today.get(holder_id, 0), month.get(holder_id, 0)
            own = holders.get(f"{OWN_HOLDER}{kind}:{holder_id}")
            if own is not None:  # what own keys paid counts there, and not for the others
                paid = own_today.get(holder_id, 0), own_month.get(holder_id, 0)
                house.limiter.restore(own, requests_today=paid[0], requests_this_month=paid[1])
                counts = counts[0] - paid[0], counts[1] - paid[1]
            holder = holders.get(f"{kind}:{holder_id}")
            if holder is not None:
                house.limiter.restore(holder, requests_today=counts[0], requests_this_month=counts[1])

"""A client of the management API, for applications: typed, sync and async.

    from tollhouse.client import Client, keys, users

    with Client("https://llm.example.org", os.environ["TOLLHOUSE_MASTER_KEY"]) as tollhouse:
        tollhouse(users.create("alice", plan_id="free"))
        key = tollhouse(keys.create("alice", budget="20/month")).key
        for one in tollhouse.all(keys.find(user="alice")):
            print(one.name, one.status)

Each noun is a module of plain functions. They send nothing: they describe a request and the type of its answer (`Ask`),
which a `Client` sends, or an `AsyncClient` in `await tollhouse(…)` and `async for … in tollhouse.all(…)`. So there is
one description for both, which a test can look at without a server.

What goes wrong is an `ApiError` of the kind that says what to do about it (`client.errors`). What may be sent again is
sent again, twice at most: a POST carries an Idempotency-Key for that, so nothing is made twice.
"""

from tollhouse.client import audit, budgets, credentials, keys, plans, providers, reports, teams, users, webhooks
from tollhouse.client.asks import UNSET, Ask, PageAsk
from tollhouse.client.errors import (
    ApiError,
    ChangedMeanwhile,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerFailed,
    Unauthorized,
    Unreachable,
)
from tollhouse.client.http import AsyncClient, Client

__all__ = [
    "UNSET",
    "ApiError",
    "Ask",
    "AsyncClient",
    "ChangedMeanwhile",
    "Client",
    "Conflict",
    "Forbidden",
    "InvalidRequest",
    "NotFound",
    "PageAsk",
    "RateLimited",
    "ServerFailed",
    "Unauthorized",
    "Unreachable",
    "audit",
    "budgets",
    "credentials",
    "keys",
    "plans",
    "providers",
    "reports",
    "teams",
    "users",
    "webhooks",
]

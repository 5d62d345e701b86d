"""Real processes under faults: a gateway that is killed, told to stop, starved of disk, refused by its storage, locked
out of its database or shown another time in the middle of many calls, before a provider that keeps its own bill.

    make chaos ARGS='--minutes 10 --json'

`kinds` lists the faults: `kills`, `starved`, `faulted` (by `tracer`), `jumped`. A round acts on a `world`: a gateway
from the `nursery`, whose `calls` a `provider` answers and bills. `books` holds bill, answers, journal and ledger to the
law; every figure of `books.LAW` must be 0.
"""

"""Real processes under faults: a gateway that is killed, told to stop, starved of disk and locked out of its database
in the middle of many calls, before a provider that keeps its own bill.

    make chaos ARGS='--minutes 10 --json'

`provider` bills, `calls` calls, `world` starts and ends, `rounds` breaks, `books` holds ledger and bill to the law.
Every figure of the law must be 0.
"""

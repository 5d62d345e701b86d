"""How long who guesses has to wait: a few tries are free, then each doubles the wait, up to a bound.

A try is counted before it is looked at, so that a hundred at once are a hundred tries; a good one is given back.
"""

import msgspec

NS_PER_S = 1_000_000_000


class Lockout(msgspec.Struct, frozen=True):
    """`free` tries, then waits of `first_s`, twice that, … `longest_s`; forgotten after `forget_s` without one."""

    free: int
    first_s: float
    longest_s: float
    forget_s: float


class Failures(msgspec.Struct, frozen=True):
    """Of one account or one address. Until `until_ns` nothing is tried."""

    count: int = 0
    last_ns: int = 0
    until_ns: int = 0


NONE = Failures()


def wait_s(failures: Failures, now_ns: int) -> float:
    """Seconds until the next try is looked at; 0 when it is now."""
    return max(0.0, (failures.until_ns - now_ns) / NS_PER_S)


def after_try(failures: Failures, rule: Lockout, now_ns: int) -> Failures:
    """With one more try, that has not yet turned out to be good."""
    forgotten = now_ns - failures.last_ns > rule.forget_s * NS_PER_S
    count = 1 if forgotten else failures.count + 1
    over = count - rule.free
    if over < 0:
        return Failures(count, now_ns)
    wait = min(rule.longest_s, rule.first_s * 2.0 ** min(over, 64))
    return Failures(count, now_ns, now_ns + int(wait * NS_PER_S))


def after_good_try(failures: Failures, rule: Lockout) -> Failures:
    """With the last try given back."""
    count = max(0, failures.count - 1)
    return Failures(count, failures.last_ns, failures.until_ns if count >= rule.free else 0)

"""A wall clock that jumps under load: hours and days, over a month's end, and back.

jumped      every call goes on, none is cut by a deadline; what budgets let through stays within their limit in every
            window of the clock's, a new window is open at once, and no call is let into one that is over; a limit per
            minute counts on; ids stay unique. Then kill -9 or SIGTERM, and a start with the clock set right again
"""

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.books import Round
from chaos.calls import Call, Fate, Key, Load, Mix, make_now
from chaos.parts import RICH_USD, Scale, check_refusal, explained, kill, kill_beneath, loaded, must_be_back, start_again
from chaos.world import PROBE_S, World
from tollhouse.rules.budgets import window_of
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.people import BudgetWindow

HOUR_S, DAY_S = 3600, 86_400
BEFORE_MONTH_S = 0.6
"""The clock is set so near to a month's end that calls run over it."""
MINUTE_S = 60.0
HELD_S = 10.0
"""A caller who left is settled by then."""
REQUESTS_A_MINUTE = 25
MIX = Mix(whole=0.5, leaving=0.05, finish=True)
WINDOWS = ("hour", "day", "month", "5h")
FILL_MOST = 400


def jumped(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    world.gateway.stop()  # it may have seen a later time, and opens no window before that
    world.start()
    keys = {window: world.key(f"{this.name} {window}", f"{_limit(dice)}/{window}") for window in WINDOWS}
    rich = world.key(f"{this.name} rich", RICH_USD)
    paced = _paced_key(world, this)
    known_s, began = time.time(), time.monotonic()  # the clock was right when the gateway learnt of these keys
    load = loaded(world, this, [*keys.values(), rich, paced], MIX, dice, scale.callers)
    offset_s = 0.0
    for number, offset_s in enumerate(_jumps(dice, scale.jumps)):
        world.gateway.set_clock(offset_s)
        _must_be_in_time(world, this, keys["hour"], f"jump {number}", time.time() + offset_s)
        time.sleep(scale.load_s * dice.random() + BEFORE_MONTH_S)
    _end(world, this, load, dice)
    _check_pace(this, paced, time.monotonic() - began)
    world.gateway.set_clock(dice.choice((0, -HOUR_S, offset_s)))
    start_again(world, this)
    must_be_back(world, this, rich, "again", scale)
    for window, key in keys.items():
        _fill(world, this, key, window)
    for call in this.calls:
        check_refusal(this, call)
    explained(this, this.calls, budget_exhausted=402, rate_limited=429, shutting_down=503)
    world.shipped()
    _check_windows(world, this, known_s)
    _check_ids(world, this)
    world.gateway.set_clock(0)


def _limit(dice: random.Random) -> str:
    """So little that it is spent soon after each jump: some ten holds."""
    return decimal_usd(dice.randint(150_000_000, 250_000_000))


def _paced_key(world: World, this: Round) -> Key:
    made = world.gateway.new_key(f"{this.name} rich", limits={"requests_per_minute": REQUESTS_A_MINUTE})
    budgets = world.gateway.budgets("user", f"{this.name} rich")
    return Key(made["key"], made["key_id"], tuple(row["budget_id"] for row in budgets))


def _jumps(dice: random.Random, near_ones: int) -> Iterator[float]:
    """What the clock is ahead of the true one, one after the other: some hours or days, then over a month's end."""
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month_end_s = (month + timedelta(days=32)).replace(day=1).timestamp()
    near = [HOUR_S, HOUR_S * (2 + dice.random()), -HOUR_S, DAY_S, 0.0, -DAY_S]
    dice.shuffle(near)
    yield from near[:near_ones]
    yield month_end_s - HOUR_S - time.time()
    yield month_end_s - BEFORE_MONTH_S - time.time()  # and then it runs over
    yield month_end_s - DAY_S - time.time()
    far_s = month_end_s + 40 * DAY_S * dice.random() - time.time()
    yield far_s
    yield far_s - DAY_S


def _must_be_in_time(world: World, this: Round, key: Key, name: str, clock_s: float) -> None:
    """Who is refused is told of a window that is not over."""
    call = Call(Fate(f"{this.name}-{name}", 0.1, 0.1, 0.0), key, stream=False, max_tokens=50)
    this.calls.append(make_now(world.port, call))
    late = not call.complete and call.details.get("resets_at", 0) <= clock_s
    this.breaks("wrong_windows", f"{name}: {call.status} {call.code} {call.details} at {clock_s}", int(late))


def _end(world: World, this: Round, load: Load, dice: random.Random) -> None:
    """kill -9 or SIGTERM under load, or kill -9 after a look at what is held when no call is open."""
    how = dice.choice(("kill", "stop", "rest"))
    if how == "kill":
        kill_beneath(world, this, load)
    elif how == "stop":
        world.gateway.terminate()
        this.killed = True  # for those who were cut at the end of the drain
        this.calls += load.stop()
        code = world.gateway.wait()
        this.breaks("unclean_stops", f"exit code {code}", int(code != 0))
    else:
        this.calls += load.stop()
        holds = _holds(world)
        this.breaks("stranded_holds", f"{holds} after the clock jumped", holds)
        kill(world, this)


def _holds(world: World) -> int:
    """Holds that do not end, although no caller is there."""
    until = time.monotonic() + HELD_S
    while (holds := int(world.status()["holds"])) and time.monotonic() < until:
        time.sleep(PROBE_S)
    return holds


def _fill(world: World, this: Round, key: Key, name: str) -> None:
    number, call = 0, None
    while call is None or (call.status == 200 and number < FILL_MOST):
        number += 1
        call = Call(Fate(f"{this.name}-fill {name}-{number}", 1.0, 1.0, 0.0), key, stream=False, max_tokens=400)
        this.calls.append(make_now(world.port, call))


def _check_pace(this: Round, key: Key, took_s: float) -> None:
    """The limit per minute lets through what it says, whatever the wall clock does: no less and no more."""
    calls = [call for call in this.calls if call.key is key]
    admitted = sum(call.code != "rate_limited" and call.status == 200 for call in calls)
    most = REQUESTS_A_MINUTE * (1 + int(took_s / MINUTE_S))
    this.breaks("wrong_pace", f"{admitted} of {len(calls)} in {took_s:.1f} s", max(0, admitted - most))
    if took_s < MINUTE_S:
        cut = sum(not call.status for call in calls)
        short = min(REQUESTS_A_MINUTE, len(calls)) - admitted - cut
        this.breaks("wrong_pace", f"only {admitted} of {len(calls)} in {took_s:.1f} s", max(0, short))


def _check_windows(world: World, this: Round, known_s: float) -> None:
    """Each call stands in the window of its time, or in a later one that was open: clocks may run backwards. So may a
    window that holds when budgets are read count as open, also if the clock jumps before the first call.
    """
    budgets = {row["budget_id"]: row for row in world.query("SELECT budget_id, window, timezone FROM budgets")}
    wrong: Counter[str] = Counter()
    for rows in _by_process(world, this).values():
        latest_s = 0.0 if any(row["session"].startswith(f"{this.name}-again") for row in rows) else known_s
        for row in rows:  # also those who were refused have seen the clock
            at_s = row["at_ns"] / 1e9
            latest_s = max(latest_s, at_s)
            for budget_id, start_s in row["windows"]:
                budget = budgets[budget_id]
                if not _stands(budget, start_s, at_s, latest_s):
                    wrong[f"{budget['window']} {start_s} at {at_s}, latest {latest_s}"] += 1
    this.breaks("wrong_windows", str(wrong.most_common(1)), wrong.total())


def _stands(budget: dict[str, Any], start_s: int, at_s: float, latest_s: float) -> bool:
    window = BudgetWindow(budget["window"])
    if window is BudgetWindow.FIVE_HOURS:
        return at_s < start_s + 5 * HOUR_S and start_s <= latest_s
    right_s, _ = window_of(window, budget["timezone"], at_s, None)
    return start_s == right_s or right_s < start_s <= latest_s


def _by_process(world: World, this: Round) -> dict[str, list[dict[str, Any]]]:
    """Rows of this round in the order of their admission, by the part of their ids that a process keeps."""
    entered = "SELECT request_id, at_ns, session, budgets FROM ledger WHERE session LIKE ?1"
    refused = "SELECT request_id, at_ns, session, '[]' FROM requests WHERE session LIKE ?1"
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in world.query(f"{entered} UNION ALL {refused}", f"{this.name}-%"):
        found[row["request_id"][-16:-6]].append({**row, "windows": json.loads(row["budgets"])})
    for rows in found.values():
        rows.sort(key=lambda row: int(row["request_id"][-6:], 16))
    return found


def _check_ids(world: World, this: Round) -> None:
    seen = Counter(call.request_id for call in this.calls if call.request_id)
    this.breaks("same_ids", str(seen.most_common(1)), sum(seen.values()) - len(seen))

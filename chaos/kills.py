"""Gateways that die or are told to stop in the middle of calls.

killed      kill -9 in the middle of streams; what was open is billed to the end by the provider; at times killed
            once more while it starts again
storm       clients leave, upstreams reset and fail, whole answers and streams; then kill -9
stopped     the same, then SIGTERM with a drain that is too short for some
spent       budgets that run out meanwhile, then kill -9; afterwards the last cent that fits is spent
changed     a limit lowered and a key revoked meanwhile, then kill -9
"""

import random
import time

from chaos.books import Round
from chaos.calls import Call, Fate, Key, Mix, make_now
from chaos.parts import (
    DRAIN_S,
    RICH_USD,
    STREAMS,
    Scale,
    check_refusal,
    explained,
    kill_and_start,
    kill_beneath,
    loaded,
    must_be_back,
    rich_keys,
    start_again,
)
from chaos.world import World
from tollhouse.terms.money import decimal_usd, parse_usd

AGAIN = 0.25
FILL_MOST = 400
"""Calls by which what is left of a budget is spent at most."""


def killed(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    load = loaded(world, this, rich_keys(world, this), Mix(finish=True), dice)
    load.wait_for(lambda call: call.status == 200, 15.0, STREAMS)
    time.sleep(dice.random() * scale.load_s)
    kill_beneath(world, this, load)
    if dice.random() < AGAIN:
        this.facts["killed_again"] = 1
        world.gateway.begin_and_die(dice.uniform(0.0, 0.5))
    start_again(world, this)
    explained(this, this.calls)


def storm(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    mix = Mix(whole=0.3, leaving=0.25, reset=0.15, failing=0.1, finish=True)
    load = loaded(world, this, rich_keys(world, this), mix, dice)
    time.sleep(0.5 + dice.random() * 2 * scale.load_s)
    kill_and_start(world, this, load)
    explained(this, this.calls)


def stopped(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    mix = Mix(whole=0.3, leaving=0.2, reset=0.1, failing=0.1, seconds=2 * DRAIN_S)
    load = loaded(world, this, rich_keys(world, this), mix, dice)
    time.sleep(0.5 + dice.random() * 2 * scale.load_s)
    began = time.monotonic()
    code = world.gateway.stop()
    this.facts["stop_s"] = round(time.monotonic() - began, 3)
    this.calls += load.stop()
    this.breaks("unclean_stops", f"exit code {code}", int(code != 0))
    entered = {row["session"] for row in world.query("SELECT session FROM ledger")}
    billed = [entry["call"] for entry in world.bill(f"{this.name}-") if "answered 4" not in entry["state"]]
    late = [name for name in billed if name not in entered]
    this.breaks("unclean_stops", f"not in the ledger when it had ended: {late[:1]}", len(late))
    start_again(world, this)
    this.breaks("unclean_stops", f"{this.facts['crashed']} calls taken for crashed", this.facts["crashed"])
    for call in this.calls:  # cut at the end of the drain, or never let in
        call.left = call.left or (call.ended_at >= began and not call.complete and call.status in (0, 200))
    explained(this, this.calls, shutting_down=503)


def spent(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    usd = decimal_usd(dice.randint(1_200_000_000, 2_000_000_000))
    one, two = f"{this.name} one", f"{this.name} two"
    keys = [world.key(one, usd), world.key(one, usd), world.key(two, RICH_USD), world.key(two, usd, of_key=True)]
    load = loaded(world, this, keys, Mix(whole=0.5, leaving=0.1, finish=True, seconds=0.6), dice)
    load.wait_for(lambda call: call.status == 402, 8.0)
    time.sleep(dice.random() * scale.load_s)
    kill_and_start(world, this, load)
    explained(this, this.calls, budget_exhausted=402)
    for key, name in ((keys[0], "fill"), (keys[3], "rest")):
        _spend_the_rest(world, this, key, f"{this.name}-{name}")
    for call in this.calls:
        check_refusal(this, call)


def _spend_the_rest(world: World, this: Round, key: Key, name: str) -> None:
    """One call after the other, until one is refused; it must be so only when its worst case does not fit."""
    number, call = 0, None
    while call is None or (call.status == 200 and number < FILL_MOST):
        number += 1
        call = Call(Fate(f"{name}-{number}", 1.0, 1.0, 0.0), key, stream=False, max_tokens=100)
        this.calls.append(make_now(world.port, call))
    if call.code != "budget_exhausted":
        this.breaks("unexpected_answers", f"{call.name}: {call.status} {call.code} {call.broken}")
    elif parse_usd(call.details["held"]):
        this.breaks("stranded_nusd", f"{call.name} was told that {call.details['held']} is held")
    _check_the_rest(world, this, key, f"{name}-")


def _check_the_rest(world: World, this: Round, key: Key, prefix: str) -> None:
    """By the ledger, not by the gateway's words: what is left is less than such a call was seen to hold."""
    world.shipped()
    holds = [row["hold_nusd"] for row in world.rows() if row["session"].startswith(prefix)]
    if holds:
        spent_nusd, limits = world.spent_nusd(), world.limits_nusd()
        room = min(limits[budget_id] - spent_nusd[budget_id] for budget_id in key.budgets)
        this.breaks("false_refusals", f"{prefix}: {room} was left, {max(holds)} needed", int(room >= max(holds)))


def changed(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    lowered, revoked = world.key(f"{this.name} one", RICH_USD), world.key(f"{this.name} two", RICH_USD)
    (budget_id,) = lowered.budgets
    load = loaded(world, this, [lowered, revoked], Mix(whole=0.5, finish=True, seconds=0.6), dice)
    load.wait_for(lambda call: call.complete and call.key is lowered, 8.0)
    time.sleep(dice.random() * scale.load_s)
    posted_nusd = parse_usd(world.gateway.owner("GET", f"/budgets/{budget_id}")["posted"])
    world.gateway.owner("PATCH", f"/budgets/{budget_id}", {"amount": decimal_usd(posted_nusd // 2 + 1)})
    since = {lowered.key_id: time.time_ns()}
    world.gateway.owner("DELETE", f"/keys/{revoked.key_id}")
    since[revoked.key_id] = time.time_ns()
    this.lowered.add(budget_id)
    this.most_nusd[budget_id] = parse_usd(RICH_USD)
    time.sleep(0.3 + dice.random() * scale.load_s)
    kill_and_start(world, this, load)
    explained(this, this.calls, budget_exhausted=402, key_revoked=401)
    for key in (lowered, revoked):
        call = Call(Fate(f"{this.name}-after {key.key_id}", 0.5, 0.5, 0.0), key, stream=False, max_tokens=50)
        this.calls.append(make_now(world.port, call))
    world.shipped()
    for key_id, at_ns in since.items():
        late = world.query("SELECT session FROM ledger WHERE key_id = ? AND at_ns > ?", key_id, at_ns)
        this.breaks("late_admissions", f"{key_id}: {late[:1]}", len(late))
    world.gateway.owner("PATCH", f"/budgets/{budget_id}", {"amount": RICH_USD})
    must_be_back(world, this, lowered, "raised", scale)

"""A flood of bad keys leaves its trace in the request log, and no more than that."""

from tollhouse.terms.events import Refused
from tollhouse.workers import StrangerGate


def row(user_id: str = "") -> Refused:
    return Refused("req_1", 0, "", user_id, "", "messages", "", 401, "invalid_key", 5)


def test_so_many_strangers_a_second_and_everybody_who_is_known() -> None:
    kept: list[Refused] = []
    now = [10.2]
    gate = StrangerGate(kept.append, 3, lambda: now[0])
    for _ in range(10):
        gate.put(row())
        gate.put(row("alice"))
    assert [refused.user_id for refused in kept].count("") == 3
    assert [refused.user_id for refused in kept].count("alice") == 10
    assert gate.dropped == 7
    now[0] = 11.0
    gate.put(row())
    assert len(kept) == 14

"""The sweep looks at every connection once a round, at many of them in slices."""

import asyncio
from typing import Any, cast

from tests.planes.plane import ListJournal
from tests.planes.virtual_time import VirtualLoop
from tollhouse.dataplane.edge import Edge
from tollhouse.dataplane.gate import SLICE, SWEEP_S, EdgeOptions, Gate, Phase
from tollhouse.dataplane.turn import Turn


class Watched:
    """As much of a connection as the sweep touches; notes when it is looked at."""

    def __init__(self) -> None:
        self.phase, self.phase_tick, self.served, self.working, self.running = Phase.WORK, 0, True, False, None
        self.flow = self.transport = self
        self.write_paused = False
        self.rests_until = 0
        self.looks: list[float] = []

    def is_closing(self) -> bool:
        return False

    def set_phase(self, _phase: Phase) -> None:
        self.looks.append(asyncio.get_running_loop().time())


def rounds(count: int, seconds: float) -> tuple[list[Watched], Gate]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_rounds(count, seconds))


async def _rounds(count: int, seconds: float) -> tuple[list[Watched], Gate]:
    loop = asyncio.get_running_loop()
    gate = Gate(EdgeOptions(), _nobody, loop, Turn(ListJournal(), loop))
    edges = [Watched() for _ in range(count)]
    gate.edges = cast("set[Edge]", set(edges))
    await asyncio.sleep(seconds)
    gate.close()
    return edges, gate


def test_each_is_looked_at_once_a_round_and_never_all_at_once() -> None:
    edges, gate = rounds(3 * SLICE + 1, 2.6 * SWEEP_S)
    looks = [len(edge.looks) for edge in edges]
    assert min(looks) >= 1
    assert max(looks) - min(looks) <= 1
    assert gate.ticks == 2
    moments = sorted(edge.looks[0] for edge in edges)
    assert moments[-1] - moments[0] > SWEEP_S / 2


def test_few_are_looked_at_together() -> None:
    edges, gate = rounds(SLICE, 1.5 * SWEEP_S)
    assert [len(edge.looks) for edge in edges] == [1] * SLICE
    assert gate.ticks == 1


def test_one_that_rests_is_not_looked_at_until_something_can_be_due() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        gate = Gate(EdgeOptions(keep_alive_s=5.0, head_timeout_s=10.0), _nobody, loop, Turn(ListJournal(), loop))
        asked = 0

        class Resting(Watched):
            def is_closing(self) -> bool:
                nonlocal asked
                asked += 1
                return False

            def close(self) -> None:
                self.looks.append(loop.time())

        edge = Resting()
        edge.phase = Phase.IDLE
        gate.edges = cast("set[Edge]", {edge})
        began = loop.time()
        await asyncio.sleep(4.9)
        assert asked == 1
        edge.phase_tick = gate.ticks  # a call came and went
        await asyncio.sleep(4.9)
        assert asked == 2
        assert edge.looks == []
        await asyncio.sleep(1.0)
        gate.close()
        assert edge.looks
        assert 4.9 + 5.0 <= edge.looks[0] - began <= 4.9 + 5.0 + 2 * SWEEP_S

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


def _nobody(*_: Any) -> Any:
    raise AssertionError("no request is made here")

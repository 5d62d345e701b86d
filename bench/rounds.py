"""One figure: what was measured of every gateway, round by round, and how it becomes one number."""

import statistics
from dataclasses import dataclass, field

YARDSTICK = "nginx"

Sample = dict[str, float]
Rounds = dict[str, list[Sample]]


@dataclass
class Figure:
    """One figure of every gateway: medians over the rounds, and the ratio to the yardstick where it has one."""

    name: str
    ratio_of: str | None
    rounds: Rounds
    absent: dict[str, str] = field(default_factory=dict)  # peers that could not do it, and why

    def medians(self) -> dict[str, Sample]:
        """Per gateway, the median of every quantity."""
        return {
            name: {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
            for name, samples in self.rounds.items()
            if samples
        }

    def ratios(self, name: str) -> list[float]:
        """Per round, this gateway's quantity over the yardstick's; empty where there is nothing to divide."""
        quantity, ours, base = self.ratio_of, self.rounds.get(name), self.rounds.get(YARDSTICK)
        if quantity is None or name == YARDSTICK or not (ours and base):
            return []
        if not all(sample.get(quantity) for sample in (*ours, *base)):
            return []
        return [mine[quantity] / theirs[quantity] for mine, theirs in zip(ours, base, strict=True)]

    def samples(self) -> list[Sample]:
        """Every measurement of every gateway."""
        return [sample for samples in self.rounds.values() for sample in samples]

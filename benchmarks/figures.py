"""Medians, spreads and percentiles, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Series:
    """One measurement, taken once a round."""

    rates: list[float] = field(default_factory=list)
    """Per second."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, of all rounds together."""

    def add(self, count: int, seconds: float, latencies: Sequence[float] = ()) -> None:
        """Note a round in which so many were done."""
        self.rates.append(count / seconds)
        self.latencies.extend(latencies)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)

    @property
    def shown_rate(self) -> str:
        """The median and, in brackets, the slowest and the fastest round."""
        return f"{self.rate:,.0f} ({min(self.rates):,.0f}-{max(self.rates):,.0f})"

    @property
    def shown_latencies(self) -> str:
        """The 50th and the 99th percentile."""
        if not self.latencies:
            return "-"
        ordered = sorted(self.latencies)
        half, most = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
        return f"{half:.2f} / {most:.2f}"


def ratio_of(ours: Series, theirs: Series) -> str:
    """The median of ours as a share of theirs, round by round."""
    shares = [one / other for one, other in zip(ours.rates, theirs.rates, strict=True)]
    return f"{statistics.median(shares):.0%} ({min(shares):.0%}-{max(shares):.0%})"

"""Mean and percentiles of many values, each of which may stand for several equal ones. Pure functions.

What a load on a server and a simulated one are told by, so that both tell the same.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """Interpolated linearly between the ranks, as numpy does; None of nothing."""

    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        return cls.of_counts((value, 1) for value in values)

    @classmethod
    def of_counts(cls, counts: Iterable[tuple[float, int]]) -> "Spread":
        """(value, how often it is there)."""
        ranked = sorted(counts)
        if not ranked:
            return cls(None, None, None, None, None)
        ends = list(accumulate(count for _, count in ranked))
        mean = math.fsum(value * count for value, count in ranked) / ends[-1]
        return cls(mean, *(_percentile(ranked, ends, share) for share in PERCENTILES))


def _percentile(ranked: Sequence[tuple[float, int]], ends: Sequence[int], share: float) -> float:
    place = (ends[-1] - 1) * share / 100
    below = math.floor(place)
    low = ranked[bisect_right(ends, below)][0]
    high = ranked[bisect_right(ends, min(below + 1, ends[-1] - 1))][0]
    return low + (high - low) * (place - below)


def percentile(ranked: Sequence[float], share: float) -> float:
    """Of ascending values the one below which `share` per cent lie, interpolated linearly (as numpy does)."""
    return _percentile([(value, 1) for value in ranked], range(1, len(ranked) + 1), share)

"""Two sets of rounds of one figure: is the second slower, beyond what their noise explains? Pure functions.

The rule. A loss is told when both hold: the median fell by more than 5 % and by more than twice the pooled spread of
the rounds; and the 95 % interval of the ratio of medians lies below 1. A gain is the same with the sets exchanged.
The spread of a set is its interquartile range divided by its median. The interval is the bootstrap's, not drawn but
computed: how often each round would be the median of as many rounds drawn from the set with replacement (Efron 1979,
section 3; of an even number the two middle ones count by half), for every pair of rounds of both sets.

Of normal noise and 5 rounds, fewer than 1 in 100 equal pairs of sets are called a loss; a loss of 30 % is found always
in noise of 2 %, and in four of five pairs in noise of 10 % (tests/cli/test_bench_compare.py). What changes the machine
between the two measurements is no noise of the rounds: measure both in one session.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farthing.spread import percentile

LEAST_CHANGE, SPREADS, CONFIDENCE = 0.05, 2.0, 0.95
LEAST_ROUNDS = 3  # fewer tell nothing of their noise

Verdict = Literal["loss", "gain", "same"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`before`, `after`: medians. `low` to `high`: the interval of `ratio`. `noticed`: the change, as a share, that is
    more than noise."""

    before: float
    after: float
    ratio: float
    low: float
    high: float
    noticed: float
    verdict: Verdict


def median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def spread(values: Sequence[float]) -> float:
    """Interquartile range / median."""
    ranked = sorted(values)
    return (percentile(ranked, 75) - percentile(ranked, 25)) / percentile(ranked, 50)


def compare(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Of a figure of which more is better. All values are above zero, and at least one is in each set."""
    old, new = median(before), median(after)
    noticed = max(LEAST_CHANGE, SPREADS * math.sqrt((spread(before) ** 2 + spread(after) ** 2) / 2))
    low, high = _interval(before, after)
    verdict: Verdict = "same"
    if high < 1 and 1 - new / old > noticed:
        verdict = "loss"
    elif low > 1 and 1 - old / new > noticed:
        verdict = "gain"
    return Comparison(old, new, new / old, low, high, noticed, verdict)


def _interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Of the ratio of medians, `after` to `before`."""
    ratios = sorted(
        (new / old, probability_new * probability_old)
        for new, probability_new in _median_of_draws(after)
        for old, probability_old in _median_of_draws(before)
    )
    outside = (1 - CONFIDENCE) / 2
    return _tail(ratios, outside), _tail(ratios[::-1], outside)


def _tail(ratios: Sequence[tuple[float, float]], outside: float) -> float:
    """The first one, in the order given, at which more than `outside` of the probability has gone by."""
    gone = 0.0
    for ratio, probability in ratios:
        gone += probability
        if gone > outside:
            return ratio
    return ratios[-1][0]


def _median_of_draws(values: Sequence[float]) -> list[tuple[float, float]]:
    """Each value, and how likely it is the median of as many draws with replacement."""
    ranked, count = sorted(values), len(values)
    middles = {(count + 1) // 2, count // 2 + 1}
    return [
        (value, sum(_rank_chance(place, count, middle) for middle in middles) / len(middles))
        for place, value in enumerate(ranked, start=1)
    ]


def _rank_chance(place: int, count: int, rank: int) -> float:
    """How likely the one of rank `rank` among `count` draws is the value at `place`."""
    return _at_least(rank, count, place / count) - _at_least(rank, count, (place - 1) / count)


def _at_least(successes: int, trials: int, chance: float) -> float:
    """Of the binomial distribution."""
    return sum(
        math.comb(trials, number) * chance**number * (1 - chance) ** (trials - number)
        for number in range(successes, trials + 1)
    )

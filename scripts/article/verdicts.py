"""Whether a claim holds: the word for it, chosen by the computed figures. Knows no claim and no model."""

import math
from collections.abc import Mapping

from article.blocks import Cell, Say, Several, say
from article.figures import times

CLOSE = 0.05
PRICES = 0.3  # between shops and years


def is_close(claimed: float, computed: float, within: float = CLOSE) -> bool:
    return abs(claimed / computed - 1) <= within


def judge(claimed: float, computed: float, within: float = CLOSE) -> Say:
    """Right, or how many times too high or too low."""
    if is_close(claimed, computed):
        return say("verdict.right")
    if is_close(claimed, computed, within):
        return say("verdict.within", percent=f"{math.ceil(abs(claimed / computed - 1) * 100)}%")
    if claimed > computed:
        return say("verdict.high", factor=times(claimed / computed))
    return say("verdict.low", factor=times(computed / claimed))


def judge_cases(claimed: float, cases: Mapping[str, float], within: float = CLOSE) -> Say:
    """Of a claim that leaves open what it is of: `cases` by the key of their words. Right in all, in some, or in none:
    then as wrong as the nearest."""
    right = [say(key) for key, computed in cases.items() if is_close(claimed, computed, within)]
    if not right:
        return judge(claimed, min(cases.values(), key=lambda computed: abs(claimed / computed - 1)), within)
    if len(right) == len(cases):
        return judge(claimed, claimed, within)
    return say("verdict.if", condition=Several(right, "or"))


def judge_ratio(claimed: float, computed: float, within: float = CLOSE) -> Say:
    """Of a claim which of two is more."""
    if (claimed - 1) * (computed - 1) < 0 and not is_close(claimed, computed, within):
        return say("verdict.opposite")
    return judge(claimed, computed, within)


def judge_range(claimed: float, low: float, high: float, within: float = CLOSE) -> Say:
    """Of a claim of one number where there are many."""
    if is_close(low, high, 2 * within) or claimed > high * (1 + within):
        return judge(claimed, high, within)
    if claimed < low * (1 - within):
        return judge(claimed, low, within)
    return say("verdict.range", low=times(low), high=times(high))


def judge_premise(claimed: float, computed: float, actual: float) -> Say:
    """Of arithmetic on a premise: `computed` on that premise, `actual` on the true one."""
    if is_close(claimed, actual):
        return say("verdict.right")
    if not is_close(claimed, computed):
        return judge(claimed, computed)
    key = "high" if computed > actual else "low"
    return say(f"verdict.premise_{key}", factor=times(max(computed / actual, actual / computed)))


def judge_whether(holds: bool, why: Cell | None = None) -> Say:
    """Of a claim without a number."""
    if why is None:
        return say("verdict.right" if holds else "verdict.wrong")
    return say("verdict.right_because" if holds else "verdict.wrong_because", why=why)

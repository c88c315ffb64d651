"""Measured points as curves: what lies between two of them, by the logarithm, and the nearest beyond the last.

Knows numbers; what they mean is hardware/calibration.py's.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

Curve = tuple[tuple[int, float], ...]
Surface = tuple[tuple[int, Curve], ...]


def best(points: Iterable[tuple[int, float]]) -> Curve:
    """The highest y at each x, sorted by x."""
    highest: dict[int, float] = {}
    for x, y in points:
        highest[x] = max(y, highest.get(x, 0.0))
    return tuple(sorted(highest.items()))


def _between(points: Sequence[tuple[int, Any]], x: float) -> tuple[int, int, float]:
    """The neighbours of x, and how far it is from the left one to the right one by the logarithm."""
    right = bisect_right(points, x, key=itemgetter(0))
    if right in (0, len(points)):
        nearest = max(0, right - 1)
        return nearest, nearest, 0.0
    left = points[right - 1][0]
    return right - 1, right, math.log(x / left) / math.log(points[right][0] / left)


def interpolate(curve: Curve, x: float) -> float:
    left, right, share = _between(curve, x)
    return curve[left][1] + (curve[right][1] - curve[left][1]) * share


def interpolate_power(curve: Curve, x: float) -> float:
    left, right, share = _between(curve, x)
    low, high = curve[left][1], curve[right][1]
    return low if low == high else low * (high / low) ** share


def interpolate_surface(surface: Surface, rows: float, working_set: float) -> float:
    left, right, share = _between(surface, rows)
    low = interpolate(surface[left][1], working_set)
    return low if left == right else low * (interpolate(surface[right][1], working_set) / low) ** share

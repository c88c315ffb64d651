"""Which of many options nothing else beats in every respect. Pure functions; knows neither hardware nor money."""

from collections.abc import Sequence


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """No worse in anything and better in something; less is better."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """The indices of those that no other dominates, in order. Equal points stand or fall together."""
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: tuple(points[index])):  # dominators come before
        if not any(dominates(points[other], points[index]) for other in found):
            found.append(index)
    return sorted(found)

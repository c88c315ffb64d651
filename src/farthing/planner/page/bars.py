"""Bars as SVG that is as wide as the page lets it: stacked parts of a whole, and ranges around a middle.

Colours are classes of page/style.css (a bar is read in print and in the dark, too). Knows no plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.planner.page.html import Html, element

_HEIGHT = 22


@dataclass(frozen=True, slots=True)
class Segment:
    """`colour`: a class. `title`: what a pointer over it is told."""

    value: float
    colour: str
    title: str


def stacked(segments: Sequence[Segment], whole: float, name: str, *, mark: float | None = None) -> Html:
    """`whole`: the length of the full width. `mark`: where a line stands across, and what is beyond it is too much.
    `name`: what a screen reader says."""
    drawn, start = [], 0.0
    for segment in segments:
        width = 100 * segment.value / whole
        if width > 0:
            drawn.append(_rect(start, width, f"c-{segment.colour}", segment.title))
            start += width
    if mark is not None:
        place = min(99.8, 100 * mark / whole)
        if start > 100 * mark / whole + 0.01:
            drawn.append(_rect(place, start - place, "c-over", ""))
        drawn.append(
            element("line.mark", "", {"x1": f"{place:.2f}%", "x2": f"{place:.2f}%", "y1": "0", "y2": f"{_HEIGHT + 8}"})
        )
    return _bar(drawn, name)


def ranged(low: float, base: float, high: float, whole: float, name: str) -> Html:
    """A bar from `low` to `high` with a line at `base`, on a scale from 0 to `whole`."""
    start, width = 100 * low / whole, max(0.4, 100 * (high - low) / whole)
    place = f"{100 * base / whole:.2f}%"
    line = element("line.mark", "", {"x1": place, "x2": place, "y1": "0", "y2": f"{_HEIGHT + 8}"})
    return _bar([_rect(0, 100, "c-track", ""), _rect(start, width, "c-range", name), line], name)


def _bar(drawn: Sequence[Html], name: str) -> Html:
    attributes = {"width": "100%", "height": f"{_HEIGHT + 8}", "role": "img", "aria-label": name}
    return element("svg.bar", drawn, attributes)


def _rect(start: float, width: float, colour: str, title: str) -> Html:
    attributes = {"x": f"{start:.2f}%", "y": "4", "width": f"{width:.2f}%", "height": f"{_HEIGHT}"}
    return element(f"rect.{colour}", element("title", title) if title else "", attributes)


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """(colour, name) each."""
    keys = [element("span.key", [element(f"i.c-{colour}"), name]) for colour, name in entries]
    return element("p.legend", keys)

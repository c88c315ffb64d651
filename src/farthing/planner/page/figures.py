"""Numbers as the page and its plots write them: the same in every language. Knows no words."""

from farthing.planner.layout import Layout
from farthing.units import format_bytes, format_count, format_seconds


def seconds(value: float) -> str:
    return format_seconds(value).replace(" us", " µs")


def rate(tokens_per_second: float) -> str:
    """0.73, 8.4, 1,234; the unit stands beside it."""
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 10 else f"{tokens_per_second:.2g}"


def percent(share: float) -> str:
    """Whole ones; below one, that it is."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def split(layout: Layout) -> str:
    """'tp 2 · pp 2'; empty for one rank. The flags' names, in any language."""
    parts = (("tp", layout.tp), ("pp", layout.pp), ("replicas", layout.replicas))
    return " · ".join(f"{name} {value}" for name, value in parts if value > 1)


def value(number: float, unit: str) -> str:
    """Of a data sheet: memory in GiB, rates in decimal units."""
    if unit == "B":
        return format_bytes(number)
    return f"{number:g} W" if unit == "W" else format_count(number, unit)


def spread(low: float, high: float) -> str:
    """The ends of an interval in seconds: '17 ms–22 ms'."""
    return f"{seconds(low)}–{seconds(high)}"

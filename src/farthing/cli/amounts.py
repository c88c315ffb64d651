"""Dollars and durations as text for people. Knows no command."""

import math
from collections.abc import Iterable

_NOT_KNOWN = "-"


def decimals_for(largest: float) -> int:
    """How many decimals show three digits of the largest of some dollars, and never fewer than cents."""
    return 2 if largest >= 1 or largest <= 0 else min(9, 2 - math.floor(math.log10(largest)))


def dollars(value: float | None) -> str:
    """$1,234.50, $0.052: three digits, and never fewer decimals than cents; "-" where it is not known."""
    if value is None:
        return _NOT_KNOWN
    text = _fixed(value, decimals_for(abs(value)))
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def dollars_column(values: Iterable[float | None]) -> list[str]:
    """With one number of decimals, so that a column can be added up by eye."""
    listed = list(values)
    decimals = decimals_for(max((abs(value) for value in listed if value is not None), default=0.0))
    return [_NOT_KNOWN if value is None else _fixed(value, decimals) for value in listed]


def duration(seconds: float) -> str:
    """'3.2 s', '75 s', '12 min', '15.2 h', '720 h': dollars are told by the hour, so hours never become days."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.005 else "0 s"
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    if round(seconds / 60) < 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h" if seconds >= 99.95 * 3600 else f"{seconds / 3600:.1f} h"


def percent(ratio: float | None) -> str:
    """'42 %', '0.3 %'; "-" where it is not known."""
    if ratio is None:
        return _NOT_KNOWN
    return f"{100 * ratio:.1f} %" if 0.0005 <= ratio < 0.0995 else f"{100 * ratio + 0.0:.0f} %"


def _fixed(value: float, decimals: int) -> str:
    rounded = round(value, decimals)
    return f"{'-' if rounded < 0 else ''}${abs(rounded):,.{decimals}f}"

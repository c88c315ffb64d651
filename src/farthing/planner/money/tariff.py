"""What a kilowatt-hour costs by the hour of the day: "0.12", or "0-7:0.05,7-22:0.14,22-24:0.05".

Knows no market and no machine.
"""

import math
import re
from dataclasses import dataclass

from farthing.errors import UsageError

HOURS = 24
_MAX_DOLLARS = 100.0  # per kWh
_SPAN = re.compile(r"(\d{1,2})-(\d{1,2})[:=]([^,]+)")
_FIX = "write dollars per kWh, 0.12, or by hour of the day: 0-7:0.05,7-22:0.14,22-24:0.05"


@dataclass(frozen=True, slots=True)
class Tariff:
    """`dollars` per kWh in each of the 24 hours of a day."""

    dollars: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.dollars) == HOURS

    @classmethod
    def flat(cls, dollars: float) -> "Tariff":
        return cls((dollars,) * HOURS)

    @property
    def mean(self) -> float:
        """Of a machine that runs around the clock."""
        return math.fsum(self.dollars) / HOURS

    @property
    def text(self) -> str:
        low, high = min(self.dollars), max(self.dollars)
        return f"{self.mean:.4g} $/kWh" + ("" if low == high else f" on average ({low:g} to {high:g} by the hour)")


def parse_tariff(text: str) -> Tariff:
    """UsageError for what is no price, or hours that are missing or named twice."""
    if ":" not in text and "=" not in text:
        return Tariff.flat(_price(text, text))
    hours: list[float | None] = [None] * HOURS
    for part in text.split(","):
        span = _SPAN.fullmatch(part.strip())
        if span is None:
            raise UsageError(f"--electricity {part.strip()!r:.40} is no span of hours", fix=_FIX)
        first, end = int(span[1]), int(span[2])
        if not 0 <= first < end <= HOURS:
            raise UsageError(f"--electricity has the hours {first}-{end}", fix="a span runs forward within 0-24")
        for hour in range(first, end):
            if hours[hour] is not None:
                raise UsageError(f"--electricity names hour {hour} twice", fix=_FIX)
            hours[hour] = _price(span[3], text)
    known = tuple(price for price in hours if price is not None)
    if len(known) < HOURS:
        raise UsageError(f"--electricity says nothing of hour {hours.index(None)}", fix=_FIX)
    return Tariff(known)


def _price(number: str, text: str) -> float:
    try:
        price = float(number)
    except ValueError:
        price = math.nan
    if not 0 <= price <= _MAX_DOLLARS:
        raise UsageError(f"--electricity is {text!r:.60}", fix=_FIX)
    return price

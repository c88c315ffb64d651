"""Dollars as another currency, for people: the rate is dated and can be said. JSON stays in dollars.

Knows no price.
"""

import math
from dataclasses import dataclass
from functools import cache

from farthing.errors import UsageError
from farthing.planner.money.price_data import given, read_prices

_MAX_RATE = 1e6


@dataclass(frozen=True, slots=True)
class Currency:
    """`per_dollar` of it are worth a dollar; `origin` says by whom and when."""

    code: str
    symbol: str
    per_dollar: float
    origin: str

    def text(self, dollars: float) -> str:
        """Cents, or two digits of less than ten of them: $13.84, ¥0.0031, €4,120."""
        amount = dollars * self.per_dollar
        size = abs(amount)
        digits = f"{size:,.0f}" if size >= 1000 else f"{size:.2f}" if size >= 0.1 or size == 0 else f"{size:.2g}"
        return f"{'-' if amount < 0 else ''}{self.symbol}{digits}"

    def dollars(self, amount: float) -> float:
        """Of an amount in this currency."""
        return amount / self.per_dollar

    @property
    def note(self) -> str | None:
        """What a reader of the amounts has to know; None of dollars."""
        return None if self.code == "USD" else f"{self.per_dollar:g} {self.code} per dollar ({self.origin})"


@cache
def _currencies() -> dict[str, Currency]:
    table = read_prices("markets.toml").table("currency")
    found = {}
    for code in table:
        entry = table.table(code)
        rate = given(entry, "per_dollar")
        found[code] = Currency(code, entry.text("symbol"), rate.value, rate.origin)
        entry.close()
    return found


def find_currency(code: str, per_dollar: float | None = None) -> Currency:
    """The currency of this code, in any case; `per_dollar` goes before the dated rate. UsageError for others."""
    known = _currencies()
    found = known.get(code.strip().upper())
    if found is None:
        raise UsageError(f"--currency {code!r:.20} is not known", fix=f"use {', '.join(known)}")
    if per_dollar is None:
        return found
    if not (math.isfinite(per_dollar) and 0 < per_dollar <= _MAX_RATE):
        raise UsageError(
            f"--exchange-rate is {per_dollar}", fix="say how many of the currency make a dollar: --exchange-rate 7.02"
        )
    if found.code == "USD" and per_dollar != 1:
        raise UsageError(f"--exchange-rate {per_dollar:g} of dollars to dollars", fix="name a --currency with it")
    return Currency(found.code, found.symbol, per_dollar, "as --exchange-rate says")

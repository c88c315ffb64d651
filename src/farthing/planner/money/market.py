"""Where one buys or rents: what is offered there, at what price, and whether a part is to be had at all.

Offers are the catalogue's, each with its date. What law says of it is planner/money/law.py's. Knows no model, and no
years, power or servers (planner/money/price_book.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from farthing.errors import UsageError
from farthing.hardware.accelerator import Accelerator, Price
from farthing.planner.money.currency import find_currency
from farthing.planner.money.law import is_lawful
from farthing.planner.money.price_data import Given, given, read_prices

_OLDEST = "2025"
_MARKET_OF_CURRENCY = {"USD": "us", "EUR": "eu", "CNY": "cn"}
_MADE_FOR_CHINA = ("china-sku", "domestic")


@dataclass(frozen=True, slots=True)
class Market:
    """`electricity` in its currency per kWh."""

    code: str
    name: str
    currency: str
    electricity: Given

    @property
    def electricity_dollars(self) -> float:
        return find_currency(self.currency).dollars(self.electricity.value)


@dataclass(frozen=True, slots=True)
class Offers:
    """Of one device: dollars and date of each, those of the market, or, with `elsewhere`, of another one.

    Only those since 2025 where there are any; no estimates and no spot prices.
    """

    offers: tuple[tuple[float, str], ...]
    elsewhere: str | None = None

    @property
    def dollars(self) -> float | None:
        """The median; None where nobody offers."""
        return median(value for value, _ in self.offers) if self.offers else None


@dataclass(frozen=True, slots=True)
class Availability:
    """`bought` and `rented`: whether it can be there. `why`: what is in the way, or what to know."""

    bought: bool
    rented: bool
    why: tuple[str, ...]


@cache
def find_market(code: str) -> Market:
    """us, eu or cn. UsageError for others."""
    table = read_prices("markets.toml").table("market")
    if code not in table:
        raise UsageError(f"--market {code!r:.20} is not known", fix=f"use {', '.join(table)}")
    entry = table.table(code)
    return Market(code, entry.text("name"), entry.text("currency"), given(entry, "electricity"))


def sales(accelerator: Accelerator, market: str) -> Offers:
    """To own one."""
    return _offers(accelerator, accelerator.prices, market)


def rentals(accelerator: Accelerator, market: str) -> Offers:
    """For an hour."""
    return _offers(accelerator, accelerator.rentals, market)


def offers(accelerator: Accelerator, market: str) -> tuple[Offers, Offers]:
    """To own one, and for an hour."""
    return sales(accelerator, market), rentals(accelerator, market)


def _offers(accelerator: Accelerator, prices: Sequence[Price], market: str) -> Offers:
    here: list[tuple[float, str]] = []
    others: dict[str, list[tuple[float, str]]] = {}
    for price in filter(_is_offer, prices):
        of = _market_of(accelerator, price)
        found = here if of == market else others.setdefault(of, [])
        found.append((find_currency(price.currency).dollars(price.value), price.date))
    if here or not others:
        return Offers(_young(here))
    elsewhere = "us" if "us" in others else min(others)
    return Offers(_young(others[elsewhere]), elsewhere)


def _is_offer(price: Price) -> bool:
    return price.market not in ("estimate", "spot") and price.of is None and price.currency in _MARKET_OF_CURRENCY


def _market_of(accelerator: Accelerator, price: Price) -> str:
    """By currency; a Chinese price may stand there in dollars."""
    if is_made_for_china(accelerator) or "china" in (price.note or "").lower():
        return "cn"
    return _MARKET_OF_CURRENCY[price.currency]


def _young(found: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    return tuple(offer for offer in found if offer[1] >= _OLDEST) or tuple(found)


def is_made_for_china(accelerator: Accelerator) -> bool:
    word = accelerator.export_china
    return word is not None and word.value.startswith(_MADE_FOR_CHINA)


def availability(accelerator: Accelerator, market: str) -> Availability:
    """Whether it can be had in a market, law aside."""
    if accelerator.sale == "not-sold":
        return Availability(False, False, ("its maker keeps it",))
    to_own, per_hour = offers(accelerator, market)
    why: list[str] = []
    bought, rented = accelerator.sale in ("sold", "modified"), per_hour.dollars is not None
    if accelerator.sale == "rented":
        why.append("can be rented, not bought")
    if is_made_for_china(accelerator) and market != "cn":
        bought, rented = False, False
        why.append("made for China; not known to be sold here")
    elif accelerator.sale == "modified":
        why.append("rebuilt by others: no maker's warranty")
        if to_own.elsewhere is not None:
            bought = False
            why.append(f"known to be sold in {to_own.elsewhere} only")
    if bought and to_own.dollars is None:
        why.append("no price to buy it is known")
    if not rented and accelerator.sale != "rented":
        why.append("no offer to rent it is known")
    for what, found in (("buy", to_own), ("rent", per_hour)):
        if found.elsewhere is not None and (bought if what == "buy" else rented):
            why.append(f"the price to {what} it is that of {found.elsewhere}: none of {market} is known")
    return Availability(bought, rented, tuple(why))


def is_available(accelerator: Accelerator, market: str, *, legal_only: bool = False, include_all: bool = False) -> bool:
    """Whether a search may propose it: it can be had, and an engine drives it (unless `include_all`); with
    `legal_only`, no law that is known stands in the way (what is unknown stays, and its note says so)."""
    had = availability(accelerator, market)
    if not include_all and not ((had.bought or had.rented) and accelerator.engines):
        return False
    return not legal_only or is_lawful(accelerator, market) is not False

"""What the boxes cost an hour, on several bases: the article's prices, today's in three markets, rented.

All through planner/money/price.py and its dated defaults. Knows no speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from article.blocks import Cell, say
from article.plans import Box, card, hardware_of
from farthing.hardware.accelerator import Accelerator
from farthing.planner.money.market import Offers, sales
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.price import BoxPrice, HourlyPrice, box_price
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import price_book

ARTICLE_DOLLARS = {"8x rtx-4090": 40_000, "8x h100-sxm": 300_000}  # the article's
MARKETS = ("us", "eu", "cn")


@dataclass(frozen=True, slots=True)
class Basis:
    """A way to count. `key`: of its words."""

    key: str
    market: str = "us"
    years: float | None = None
    is_rented: bool = False
    of_article: bool = False

    @property
    def name(self) -> Cell:
        return say(self.key, years=years_text(self))

    def monthly(self, box: Box) -> Monthly | str:
        """Dollars a month of a box, or why they are unknown."""
        each = ARTICLE_DOLLARS[box.on] / num_cards(box) if self.of_article else None
        server = 0.0 if self.of_article else None
        price = price_of(box, PriceAssumptions(self.market, years=self.years, device_price=each, server_price=server))
        return price.rent if self.is_rented else price.buy

    def dollars_per_hour(self, box: Box) -> float | None:
        monthly = self.monthly(box)
        return monthly.dollars_per_hour if isinstance(monthly, Monthly) else None

    def dollars_per_million(self, box: Box, tokens_per_second: float) -> float | None:
        """Of tokens; None without a price or a speed."""
        price = HourlyPrice(self.dollars_per_hour(box), self.key)
        return price.per_million_tokens(tokens_per_second) if tokens_per_second else None


OF_ARTICLE = Basis("basis.article", of_article=True)
OWNED, OWNED_EU, OWNED_CN = (Basis(f"basis.owned_{market}", market) for market in MARKETS)
OWNED_LONG = Basis("basis.owned_long", years=6)
RENTED = Basis("basis.rented", is_rented=True)
BASES = (OF_ARTICLE, OWNED, OWNED_LONG, OWNED_EU, OWNED_CN, RENTED)


def years_text(basis: Basis) -> str:
    """Over which what is bought is written off."""
    return f"{price_book(PriceAssumptions(basis.market, years=basis.years)).years:g}"


def accelerators_of(box: Box) -> list[Accelerator]:
    found = [device.accelerator for device in hardware_of(box.on).devices]
    return [accelerator for accelerator in found if accelerator is not None]


def num_cards(box: Box) -> int:
    return len(hardware_of(box.on).devices)


@cache
def price_of(box: Box, assumptions: PriceAssumptions) -> BoxPrice:
    return box_price(accelerators_of(box), len(set(hardware_of(box.on).nodes)), price_book(assumptions))


def capital(box: Box) -> float:
    """Dollars to pay at once, at today's prices; only of a box that has one."""
    monthly = OWNED.monthly(box)
    assert isinstance(monthly, Monthly), monthly
    return monthly.capital_dollars


def sales_of(id: str) -> Offers:
    return sales(card(id), "us")


def list_price(id: str) -> float:
    """The maker's price at the launch."""
    return next(price.value for price in card(id).prices if price.market == "list" and price.currency == "USD")


def price_notes(boxes: tuple[Box, ...]) -> Iterator[str]:
    """What owning these rests on, in the planner's words; rents are among the notes of a plan."""
    for box in boxes:
        monthly = OWNED.monthly(box)
        if isinstance(monthly, str):
            yield monthly
            continue
        yield from (f"{part.name}: {part.note}" for part in monthly.parts)
        yield from monthly.notes

"""What a search asks of prices: dollars a month of so many devices, bought and rented, where one buys or rents.

The one place where a search meets planner/money/price.py, planner/money/market.py and planner/money/law.py. Knows no
model.
"""

import math

from farthing.hardware.accelerator import Accelerator
from farthing.planner.money.law import legal_notes
from farthing.planner.money.market import Availability, availability, is_available
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.power import is_board, power_of
from farthing.planner.money.price import BoxPrice, box_price
from farthing.planner.money.price_book import PriceBook
from farthing.planner.timing.step_times import NODE_DEVICES

WAYS = ("rent", "buy")
_MACHINES = ("soc", "apu", "cpu", "vm")


class Offers:
    """Prices by accelerator and count, each asked once."""

    def __init__(self, book: PriceBook, *, legal_only: bool = False, include_all: bool = False) -> None:
        self.book = book
        self._legal_only, self._include_all = legal_only, include_all
        self._known: dict[tuple[str, int], dict[str, Monthly | str]] = {}
        self._had: dict[str, Availability] = {}

    def is_proposed(self, accelerator: Accelerator) -> bool:
        """Whether it can be had here, an engine drives it, and, if asked, no known law is in the way."""
        market = self.book.market.code
        return is_available(accelerator, market, legal_only=self._legal_only, include_all=self._include_all)

    def why_not_proposed(self, accelerator: Accelerator) -> str:
        had = self.had(accelerator)
        if not accelerator.engines:
            return "no engine drives it"
        if not (had.bought or had.rented):
            return "; ".join(had.why) or "not to be had"
        return "a law that is known is in the way"

    def had(self, accelerator: Accelerator) -> Availability:
        if accelerator.id not in self._had:
            self._had[accelerator.id] = availability(accelerator, self.book.market.code)
        return self._had[accelerator.id]

    def law(self, accelerator: Accelerator) -> tuple[str, ...]:
        """What law and licence say, a line each, with date and source; not legal advice."""
        return tuple(note.line for note in legal_notes(accelerator, self.book.market.code))

    def monthly(self, accelerator: Accelerator, count: int, way: str) -> Monthly | str:
        """Of so many at work; what is bought may be more. A text says why it has no price, as of a way that nobody asks
        for."""
        if self.book.way not in ("auto", way):
            return f"--{self.book.way} was said"
        key = (accelerator.id, count)
        if key not in self._known:
            had = self.had(accelerator)
            self._known[key] = {
                "buy": self._if_had(self._box(accelerator, num_bought(accelerator, count)).buy, had.bought, had),
                "rent": self._if_had(self._box(accelerator, count).rent, had.rented, had),
            }
        return self._known[key][way]

    def _box(self, accelerator: Accelerator, count: int) -> BoxPrice:
        return box_price([accelerator] * count, num_nodes(accelerator, count), self.book)

    def _if_had(self, price: Monthly | str, is_had: bool, had: Availability) -> Monthly | str:
        if isinstance(price, Monthly) and not (is_had or self._include_all):
            return "; ".join(had.why) or "not to be had here"
        return price

    def watts(self, accelerator: Accelerator, count: int) -> float | None:
        """Of the site at full load; None where it is unknown."""
        power = power_of([accelerator] * count, self.book)
        return None if isinstance(power, str) else power.site_watts


def num_nodes(accelerator: Accelerator, count: int) -> int:
    """Machines that so many devices stand in."""
    return count if accelerator.kind in _MACHINES else math.ceil(count / NODE_DEVICES)


def num_bought(accelerator: Accelerator, count: int) -> int:
    """To have so many at work: parts on boards (SXM, OAM) are sold by the box of eight."""
    return math.ceil(count / NODE_DEVICES) * NODE_DEVICES if is_board(accelerator) else count

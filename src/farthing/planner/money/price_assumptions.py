"""What a user says of prices: each field is a flag, and a key of the file that --prices names.

What nobody says is None here and becomes a dated default in planner/money/price_book.py. Knows no hardware.
"""

import math
from dataclasses import dataclass, fields

from farthing.errors import UsageError

MARKETS = ("us", "eu", "cn")
_LIMITS = {  # flags with a number: the smallest and the largest that make sense
    "device_price": (0.0, 1e7),
    "server_price": (0.0, 1e8),
    "network_price": (0.0, 1e8),
    "years": (0.1, 30.0),
    "utilisation": (0.001, 1.0),
    "pue": (1.0, 5.0),
    "watts": (1.0, 1e5),
    "space": (0.0, 1e5),
    "exchange_rate": (1e-6, 1e6),
}


@dataclass(frozen=True, slots=True)
class PriceAssumptions:
    """Each field is a flag of `plan`.

    Parameters
    ----------
    market
        Where you buy or rent: us, eu or cn; by default us. Its prices, electricity and law.
    buy
        Count what owning costs.
    rent
        Count what renting costs. Without --buy and --rent, the cheaper of both.
    prices
        FILE.toml with these flags as keys, and prices of your own by accelerator.
    device_price
        Dollars for each device, if you buy.
    server_price
        Dollars for the server of a node, without its devices.
    network_price
        Dollars of network for each of several nodes.
    years
        Years over which what is bought is written off; by default 3.
    utilisation
        Part of the time that the stated load is there, 0 to 1; by default 1.
    electricity
        Dollars per kWh: 0.12, or by hour of the day 0-7:0.05,7-22:0.14,22-24:0.05.
    pue
        Power of the site over power of the machines; by default 1.2.
    watts
        Watts of a device at work with its share of the server.
    space
        Dollars per kW and month for floor and rack; by default none.
    currency
        Amounts for people in USD, EUR or CNY; JSON stays in dollars.
    exchange_rate
        So many of that currency make a dollar.
    against
        An API's dollars per million input and output tokens: api:2.5/10.
    """

    market: str | None = None
    buy: bool = False
    rent: bool = False
    prices: str | None = None
    device_price: float | None = None
    server_price: float | None = None
    network_price: float | None = None
    years: float | None = None
    utilisation: float | None = None
    electricity: str | None = None
    pue: float | None = None
    watts: float | None = None
    space: float | None = None
    currency: str | None = None
    exchange_rate: float | None = None
    against: str | None = None

    def __post_init__(self) -> None:
        if self.market is not None and self.market not in MARKETS:
            raise UsageError(f"--market {self.market!r:.20} is not known", fix=f"use {', '.join(MARKETS)}")
        if self.buy and self.rent:
            raise UsageError("--buy and --rent are two answers", fix="give one of them, or none for the cheaper")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} is {value:g}", fix=f"it lies between {low:g} and {high:,.0f}")

    @property
    def way(self) -> str:
        """buy, rent, or auto for the cheaper."""
        return "buy" if self.buy else "rent" if self.rent else "auto"


FLAGS = tuple(field.name for field in fields(PriceAssumptions))

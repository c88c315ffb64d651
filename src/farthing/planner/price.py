"""Dollars per hour of a piece of hardware, and per million tokens of what it computes.

The default is the median of the catalogue's dated rental offers, with their range told; a price that is not known stays
unknown. Knows no model. What owning costs (years, power, space) is not counted here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from farthing.errors import FarthingError
from farthing.hardware.accelerator import Accelerator, Price
from farthing.hardware.names import parse_hardware
from farthing.planner.device import Device

_OLDEST = "2025"


@dataclass(frozen=True, slots=True)
class HourlyPrice:
    """`dollars_per_hour` of everything together; None is unknown. `note` says where it is from."""

    dollars_per_hour: float | None
    note: str

    def per_million_tokens(self, tokens_per_second: float) -> float | None:
        """Dollars; None if the price is unknown."""
        if self.dollars_per_hour is None:
            return None
        return self.dollars_per_hour / (tokens_per_second * 3600) * 1e6


def hourly_price(devices: Sequence[Device], asked: float | None) -> HourlyPrice:
    """The price that the user says, else the catalogue's."""
    if asked is not None:
        return HourlyPrice(asked, f"{asked:g} $/h, as --price-per-hour says")
    total, notes = 0.0, []
    for name, count in Counter(device.name for device in devices).items():
        offers = _offers(next(device for device in devices if device.name == name).accelerator)
        if not offers:
            return HourlyPrice(None, _unknown(name))
        total += median(value for value, _ in offers) * count
        notes.append(_told(name, offers))
    return HourlyPrice(total, "; ".join(notes))


def _unknown(name: str) -> str:
    return f"{name}: no price per hour is known; say yours with --price-per-hour"


def _told(name: str, offers: Sequence[tuple[float, str]]) -> str:
    """Where the price is from."""
    dates = sorted(date for _, date in offers)
    spread = f"{min(offers)[0]:g} to {max(offers)[0]:g}, {dates[0]} to {dates[-1]}" if len(offers) > 1 else dates[0]
    plural = f"the median of {len(offers)} rental offers (no spot)" if len(offers) > 1 else "one rental offer"
    middle = median(value for value, _ in offers)
    return f"{name}: {middle:.2f} $/h each is {plural} ({spread}); say yours with --price-per-hour"


def price_of_device(name: str, asked: float | None) -> HourlyPrice:
    """Of one device as its driver calls it ("NVIDIA H200"), from the entry of the catalogue that is nearest."""
    if asked is not None:
        return hourly_price((), asked)
    try:
        accelerator = parse_hardware(name).devices[0]
    except FarthingError:
        accelerator = None
    offers = _offers(accelerator)
    if accelerator is None or not offers:
        return HourlyPrice(None, _unknown(name))
    return HourlyPrice(median(value for value, _ in offers), _told(accelerator.id, offers))


def _offers(accelerator: Accelerator | None) -> list[tuple[float, str]]:
    """(dollars per hour, date) of the offers since _OLDEST; all of them where there is none so young."""
    if accelerator is None:
        return []
    offers = [(offer.value, offer.date) for offer in accelerator.rentals if _is_offer(offer)]
    return [offer for offer in offers if offer[1] >= _OLDEST] or offers


def _is_offer(price: Price) -> bool:
    return price.currency == "USD" and price.market not in ("estimate", "spot") and price.of is None

"""Dollars per hour and per month of a piece of hardware: bought, rented, or as the user says.

The default rent is the median of the catalogue's dated offers, with their range told; a price that is not known stays
unknown. What owning takes is planner/money/owning.py, what tokens cost planner/money/cost.py. Knows no model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from farthing.errors import FarthingError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.names import parse_hardware
from farthing.planner.money.market import Offers, is_made_for_china, rentals
from farthing.planner.money.monthly import HOURS, Monthly, Part
from farthing.planner.money.owning import offers_text, own
from farthing.planner.money.power import power_of
from farthing.planner.money.price_book import PriceBook
from farthing.planner.timing.device import Device


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


@dataclass(frozen=True, slots=True)
class BoxPrice:
    """A box bought and rented, side by side; a text says why a way has no price. `way`: buy, rent, auto or said."""

    buy: Monthly | str
    rent: Monthly | str
    way: str

    @property
    def known(self) -> tuple[Monthly, ...]:
        """The ways that have a price, cheapest first."""
        ways = (way for way in (self.buy, self.rent) if isinstance(way, Monthly))
        return tuple(sorted(ways, key=lambda way: way.dollars))

    @property
    def chosen(self) -> Monthly | None:
        """What was asked for, else the cheapest that is known."""
        asked = {"buy": self.buy, "rent": self.rent}.get(self.way)
        if asked is not None:
            return asked if isinstance(asked, Monthly) else None
        return self.known[0] if self.known else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why a way has no price."""
        return tuple(way for way in (self.buy, self.rent) if isinstance(way, str))

    @property
    def hourly(self) -> HourlyPrice:
        """Of the chosen way, around the clock and always at work: what tokens cost when it is full."""
        chosen = self.chosen
        if chosen is None:
            return HourlyPrice(None, "; ".join(dict.fromkeys(self.unknown)))
        dollars = chosen.dollars_at(1.0)
        if chosen.way == "buy":
            text = f"{dollars / HOURS:.4g} $/h owned: {dollars:,.0f} $ a month, always at work"
        else:
            text = "; ".join(part.note for part in chosen.parts)
        return HourlyPrice(dollars / HOURS, f"{text}; say yours with --price-per-hour")

    @property
    def even_hours_per_day(self) -> float | None:
        """Hours a day from which the box is cheaper owned than rented by the hour; None where one is unknown, or where
        owning is never cheaper."""
        if not isinstance(self.buy, Monthly) or not isinstance(self.rent, Monthly):
            return None
        more_per_hour = (self.rent.dollars - self.buy.load_dollars) / HOURS
        hours = self.buy.fixed_dollars / more_per_hour / HOURS * 24 if more_per_hour > 0 else 25.0
        return hours if hours <= 24 else None


def box_price(
    accelerators: Sequence[Accelerator], num_nodes: int, book: PriceBook, said_per_hour: float | None = None
) -> BoxPrice:
    """Of all of them together, in so many nodes. `said_per_hour`: dollars for the whole box, instead of both ways; such
    a box may be of devices that no catalogue has."""
    assert num_nodes >= 1
    if said_per_hour is None:
        return BoxPrice(own(accelerators, num_nodes, book), _rent(accelerators, book), book.way)
    power = power_of(accelerators, book) if accelerators else "the catalogue does not have it"
    part = Part("box", said_per_hour * HOURS, f"{said_per_hour:g} $/h, as --price-per-hour says")
    known = power if not isinstance(power, str) else None
    said = Monthly("said", (part,), part.dollars, 0.0, book.utilisation, 0.0, known, ())
    return BoxPrice("--price-per-hour was said", said, "said")


def _rent(accelerators: Sequence[Accelerator], book: PriceBook) -> Monthly | str:
    """Around the clock, by the hour."""
    by_id, parts = {one.id: one for one in accelerators}, []
    for id, count in Counter(one.id for one in accelerators).items():
        mine = book.devices.get(id)
        if mine is not None and mine.rental is not None:
            parts.append(Part(f"{count}x {id}", mine.rental * count * HOURS, f"{mine.rental:g} $/h each, as said"))
            continue
        found = rentals(by_id[id], book.market.code)
        if found.dollars is None:
            return f"{id}: no offer to rent it is known"
        if is_made_for_china(by_id[id]) and book.market.code != "cn":
            return f"{id}: made for China, not known to be rented in the {book.market.name}"
        note = f"{id}: {offers_text(found, '$/h', 'rental offer', 'rental offers')}"
        parts.append(Part(f"{count}x {id}", found.dollars * count * HOURS, note))
    power = power_of(accelerators, book)
    total = sum(part.dollars for part in parts)
    notes = ("rented around the clock, power and server in it",)
    known = power if not isinstance(power, str) else None
    return Monthly("rent", tuple(parts), total, 0.0, book.utilisation, 0.0, known, notes)


def hourly_price(devices: Sequence[Device], asked: float | None) -> HourlyPrice:
    """The price that the user says, else what the catalogue's offers ask for renting them all."""
    if asked is not None:
        return HourlyPrice(asked, f"{asked:g} $/h, as --price-per-hour says")
    total, notes = 0.0, []
    for name, count in Counter(device.name for device in devices).items():
        found = _offers(next(device for device in devices if device.name == name).accelerator)
        if found is None or found.dollars is None:
            return HourlyPrice(None, _unknown(name))
        total += found.dollars * count
        notes.append(_told(name, found))
    return HourlyPrice(total, "; ".join(notes))


def price_of_device(name: str, asked: float | None) -> HourlyPrice:
    """Of one device as its driver calls it ("NVIDIA H200"), from the entry of the catalogue that is nearest."""
    if asked is not None:
        return hourly_price((), asked)
    try:
        accelerator = parse_hardware(name).devices[0]
    except FarthingError:
        return HourlyPrice(None, _unknown(name))
    found = _offers(accelerator)
    if found is None or found.dollars is None:
        return HourlyPrice(None, _unknown(name))
    return HourlyPrice(found.dollars, _told(accelerator.id, found))


def _offers(accelerator: Accelerator | None) -> Offers | None:
    """In dollars."""
    found = None if accelerator is None else rentals(accelerator, "us")
    return None if found is None or found.elsewhere else found


def _unknown(name: str) -> str:
    return f"{name}: no price per hour is known; say yours with --price-per-hour"


def _told(name: str, found: Offers) -> str:
    """Where the price is from."""
    assert found.dollars is not None
    offers = found.offers
    dates = sorted(date for _, date in offers)
    spread = f"{min(offers)[0]:g} to {max(offers)[0]:g}, {dates[0]} to {dates[-1]}" if len(offers) > 1 else dates[0]
    plural = f"the median of {len(offers)} rental offers (no spot)" if len(offers) > 1 else "one rental offer"
    return f"{name}: {found.dollars:.2f} $/h each is {plural} ({spread}); say yours with --price-per-hour"

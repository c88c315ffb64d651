"""Where the winner flips: at which price, tariff, hours of use, context and load another option is the cheapest.

Prices and tariffs are solved for; contexts and loads are searched again, by closed forms alone: what wins there is not
simulated. Knows no terminal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Descriptions, Target
from farthing.planner.search.search import Option, Search, search

_LOADS = (0.5, 2.0, 4.0)
_CONTEXTS = (0.5, 2.0)
_MOST = 20.0  # times: what is beyond is no flip that anybody plans for


@dataclass(frozen=True, slots=True)
class Flip:
    """`what` changes ("price", "electricity", "hours", "users", "context"), by `factor` or to `value`; then `winner` is
    the cheapest, instead of the one that is. `winner` None: nothing is found any more. `is_same`: it does not flip."""

    what: str
    way: str
    factor: float | None
    value: str
    winner: str | None
    dollars: float | None
    is_same: bool


def flips(found: Search, targets: Sequence[Target], descriptions: Descriptions, offers: Offers) -> tuple[Flip, ...]:
    """`targets`: all that the search looked at; what came nowhere near may carry another load."""
    flipped: list[Flip] = []
    for way in WAYS:
        ranked = best_of_each(found, way)
        if len(ranked) > 1:
            flipped.append(_price(ranked, way))
    flipped += _electricity(best_of_each(found, "buy"))
    flipped += _hours(found)
    for what, factors in (("load", _LOADS), ("context", _CONTEXTS)):
        for factor in factors:
            flipped += _again(found, targets, what, factor, descriptions, offers)
    return tuple(flipped)


def best_of_each(found: Search, way: str) -> list[Option]:
    """The cheapest option of each accelerator, the cheapest first."""
    seen: dict[str, Option] = {}
    for option in found.ranked(way):
        seen.setdefault(option.configuration.accelerator.id, option)
    return list(seen.values())


def _price(ranked: Sequence[Option], way: str) -> Flip:
    """By how much the first one's devices may cost more until the second is as cheap."""
    first, second = ranked[0], ranked[1]
    monthly = first.monthly[way]
    assert isinstance(monthly, Monthly)
    devices = monthly.parts[0].dollars
    factor = 1 + (second.dollars(way) - first.dollars(way)) / devices if devices else math.inf
    name = first.configuration.accelerator.id
    return Flip(
        "price", way, factor, f"{name} {factor - 1:+.0%}", second.name(way), second.dollars(way), factor > _MOST
    )


def _electricity(ranked: Sequence[Option]) -> list[Flip]:
    """Dearer and cheaper power: the nearest factor of the tariff at which another one wins."""
    if len(ranked) < 2:
        return []
    lines = [_line(option) for option in ranked]
    found = []
    for is_above in (True, False):
        crossings = []
        for option, (fixed, power) in list(zip(ranked, lines, strict=True))[1:]:
            slope = lines[0][1] - power
            factor = (fixed - lines[0][0]) / slope if slope else math.inf
            if (1 < factor <= _MOST) if is_above else (0 <= factor < 1):
                crossings.append((factor, option))
        if crossings:
            factor, option = min(crossings, key=lambda one: abs(one[0] - 1))
            found.append(Flip("electricity", "buy", factor, f"x {factor:.2g}", option.name("buy"), None, False))
    return found or [Flip("electricity", "buy", None, f"up to x {_MOST:.0f}", ranked[0].name("buy"), None, True)]


def _line(option: Option) -> tuple[float, float]:
    """Dollars a month without power, and of power at today's tariff."""
    monthly = option.monthly["buy"]
    assert isinstance(monthly, Monthly)
    power = math.fsum(part.dollars for part in monthly.parts if part.name == "power")
    return monthly.dollars - power, power


def _hours(found: Search) -> list[Flip]:
    """Hours a day below which renting by the hour is cheaper than owning, of the cheapest of each."""
    rent, own = found.best("rent"), found.best("buy")
    if rent is None or own is None:
        return []
    owned = own.monthly["buy"]
    assert isinstance(owned, Monthly)
    per_share = rent.dollars("rent") - owned.load_dollars
    hours = 24 * owned.fixed_dollars / per_share if per_share > 0 else math.inf
    if hours >= 24:
        return [Flip("hours", "rent", None, "24 h", rent.name("rent"), rent.dollars("rent"), True)]
    return [Flip("hours", "rent", hours / 24, f"{hours:.1f} h", rent.name("rent"), None, False)]


def _again(
    found: Search, targets: Sequence[Target], what: str, factor: float, descriptions: Descriptions, offers: Offers
) -> list[Flip]:
    demand = found.demand
    if what == "load":
        changed = demand.times(factor)
        name, value = ("users" if demand.users is not None else "rate"), changed.amount_text
    else:
        limit = max(one.max_positions for one in descriptions.specs())
        longer = demand.with_context(factor, limit)
        if longer is None:
            return []
        changed, name, value = longer, "context", f"{longer.input_tokens:,} tokens in"
    if changed == demand:
        return []
    again = search(found.model, descriptions, targets, changed, found.slo, offers, found.wishes)
    result = []
    for way in WAYS:
        before, after = found.best(way), again.best(way)
        if before is None and after is None:
            continue
        same = before is not None and after is not None and _id(before) == _id(after)
        dollars = after.dollars(way) if after else None
        result.append(Flip(name, way, factor, value, after.name(way) if after else None, dollars, same))
    return result


def _id(option: Option) -> str:
    return option.configuration.accelerator.id

"""Dollars a month of a box that is bought: devices, servers and network over the years, power, space.

A month is a twelfth of a year: 730 hours. Interest, staff, repairs and what the box is worth in the end are not
counted. Knows no tokens (planner/money/cost.py).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farthing.hardware.accelerator import Accelerator
from farthing.planner.money.market import Offers, is_made_for_china, sales
from farthing.planner.money.monthly import HOURS, POWER, Monthly, Part
from farthing.planner.money.power import Power, is_board, power_of
from farthing.planner.money.price_book import PriceBook
from farthing.planner.money.price_data import Given, owning_figures

_SLOTS = (1, 4, 8)
_MACHINES = ("soc", "apu")  # come as whole machines
_DESKTOPS = ("ryzen", "core-")


@dataclass(frozen=True, slots=True)
class _Bought:
    name: str
    dollars: float
    note: str


def own(accelerators: Sequence[Accelerator], num_nodes: int, book: PriceBook) -> Monthly | str:
    """A text where a price or the power is not known, that says which and how to say it."""
    bought: list[_Bought] = []
    for one, count in _kinds(accelerators):
        price = _device(one, count, book)
        if isinstance(price, str):
            return price
        bought.append(price)
    for more in (_servers(accelerators, num_nodes, book), _network(accelerators, num_nodes, book)):
        if isinstance(more, str):
            return more
        if more is not None:
            bought.append(more)
    power = power_of(accelerators, book)
    if isinstance(power, str):
        return power
    months = book.years * 12
    parts = [Part(one.name, one.dollars / months, one.note) for one in bought if one.dollars]
    always = power.watts(0.0) / 1e3 * book.tariff.mean * HOURS
    at_work = (power.site_watts / 1e3 - power.watts(0.0) / 1e3) * book.tariff.mean * HOURS
    note = (
        f"{power.site_watts / 1e3:.3g} kW at work, {power.watts(0.0) / 1e3:.3g} at rest, with the site's PUE of "
        f"{book.pue:g}; {book.tariff.text}"
    )
    parts.append(Part(POWER, always + at_work * book.utilisation, note))
    parts += _space(power, book)
    return Monthly(
        way="buy",
        parts=tuple(parts),
        fixed_dollars=math.fsum(part.dollars for part in parts if part.name != POWER) + always,
        load_dollars=at_work,
        utilisation=book.utilisation,
        capital_dollars=math.fsum(one.dollars for one in bought),
        power=power,
        notes=_notes(book, power),
    )


def _kinds(accelerators: Sequence[Accelerator]) -> Iterator[tuple[Accelerator, int]]:
    by_id = {one.id: one for one in accelerators}
    for id, count in Counter(one.id for one in accelerators).items():
        yield by_id[id], count


def _device(one: Accelerator, count: int, book: PriceBook) -> _Bought | str:
    name, mine = f"{count}x {one.id}", book.devices.get(one.id)
    if mine is not None and mine.price is not None:
        return _Bought(name, mine.price * count, f"{mine.price:,.0f} $ each, as {book.said.prices} says")
    if book.said.device_price is not None:
        each = book.said.device_price
        return _Bought(name, each * count, f"{each:,.0f} $ each, as --device-price says")
    if one.sale in ("not-sold", "rented"):
        return f"{one.id}: {'its maker keeps it' if one.sale == 'not-sold' else 'can be rented, not bought'}"
    if is_made_for_china(one) and book.market.code != "cn":
        return f"{one.id}: made for China, not known to be sold in the {book.market.name}: say --device-price"
    found = sales(one, book.market.code)
    if found.dollars is None:
        return f"{one.id}: no price to buy it is known; say --device-price"
    return _Bought(name, found.dollars * count, offers_text(found, "$", "price", "prices"))


def offers_text(found: Offers, unit: str, single: str, several: str) -> str:
    """ "1,708 $ each: the median of 2 prices, 1,417 to 2,000, 2025 to 2025-03"."""
    assert found.dollars is not None
    dates = sorted(date for _, date in found.offers)
    values = sorted(value for value, _ in found.offers)
    digits = 0 if found.dollars >= 100 else 2
    middle = f"{found.dollars:,.{digits}f} {unit} each: "
    if len(values) > 1:
        middle += f"the median of {len(values)} {several}, {values[0]:,.{digits}f} to {values[-1]:,.{digits}f}"
        middle += f", {dates[0]} to {dates[-1]}"
    else:
        middle += f"one {single}, {dates[0]}"
    return middle + (f"; of {found.elsewhere}, none of this market is known" if found.elsewhere else "")


def _servers(accelerators: Sequence[Accelerator], num_nodes: int, book: PriceBook) -> _Bought | str | None:
    """What the devices stand in. SXM and OAM parts: the share of a box of eight that is used."""
    housed = [one for one in accelerators if one.kind not in _MACHINES]
    if not housed:
        return None
    per_node = math.ceil(len(housed) / num_nodes)
    nodes = max(num_nodes, math.ceil(len(housed) / _SLOTS[-1]))
    if book.said.server_price is not None:
        dollars = book.said.server_price * nodes
        return _Bought(f"{nodes} server" + "s" * (nodes > 1), dollars, "as --server-price says")
    figures = owning_figures()
    if any(is_board(one) for one in housed):
        each = figures["server_board_8"]
        dollars = each.value * len(housed) / _SLOTS[-1]
        share = "" if len(housed) % _SLOTS[-1] == 0 else ", the part of it that is used; boards are sold whole"
        return _Bought("servers", dollars, f"{each.value:,.0f} $ for eight{share} ({each.origin})")
    processors = [one for one in housed if one.kind == "cpu"]
    if processors and not processors[0].id.startswith(_DESKTOPS):
        return f"{processors[0].id}: what its server costs is not known; say --server-price"
    slots = 1 if processors else next(size for size in _SLOTS if size >= min(per_node, _SLOTS[-1]))
    count = len(housed) if processors else nodes
    each = figures[f"server_cards_{slots}"]
    return _Bought(
        f"{count} server" + "s" * (count > 1),
        each.value * count,
        f"{each.value:,.0f} $ each with room for {slots} ({each.origin})",
    )


def _network(accelerators: Sequence[Accelerator], num_nodes: int, book: PriceBook) -> _Bought | None:
    nodes = max(num_nodes, math.ceil(len(accelerators) / _SLOTS[-1]) if _in_servers(accelerators) else num_nodes)
    if nodes == 1:
        return None
    if book.said.network_price is not None:
        return _Bought("network", book.said.network_price * nodes, "as --network-price says")
    figure: Given = owning_figures()["network_board" if any(map(is_board, accelerators)) else "network_cards"]
    return _Bought("network", figure.value * nodes, f"{figure.value:,.0f} $ a node ({figure.origin})")


def _in_servers(accelerators: Sequence[Accelerator]) -> bool:
    return any(one.kind not in (*_MACHINES, "cpu") for one in accelerators)


def _space(power: Power, book: PriceBook) -> Iterator[Part]:
    if book.space:
        kilowatts = power.busy_watts / 1e3
        yield Part("space", kilowatts * book.space, f"{kilowatts:.3g} kW at {book.space:g} $ a month for each")


def _notes(book: PriceBook, power: Power) -> tuple[str, ...]:
    space = () if book.space else ("space is not counted: --space gives dollars per kW and month (184 is usual: CBRE)",)
    return (*book.notes.values(), *power.notes, *space, "no interest, staff, repairs or resale")

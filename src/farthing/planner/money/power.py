"""Watts of a box, and the energy of a token: what devices draw at the wall of their server, and what the site adds.

A device at work is taken to draw all it may (its TDP), with its share of the server: an upper bound for decode, which
rarely reaches it. Knows no price.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from farthing.hardware.accelerator import Accelerator
from farthing.planner.money.price_book import PriceBook
from farthing.planner.money.price_data import owning_figures, per_device_kw


@dataclass(frozen=True, slots=True)
class Power:
    """Watts of the whole box, `busy` and `idle`, at the wall of the machines; the bill has `pue` times that."""

    busy_watts: float
    idle_watts: float
    pue: float
    notes: tuple[str, ...]

    def watts(self, utilisation: float) -> float:
        """Of the site, on average, when that part of the time is busy."""
        return self.pue * (self.idle_watts + (self.busy_watts - self.idle_watts) * utilisation)

    @property
    def site_watts(self) -> float:
        """Of the site at full load."""
        return self.pue * self.busy_watts

    def joules_per_token(self, tokens_per_second: float, utilisation: float = 1.0) -> float | None:
        """At an average rate; None where nothing is computed."""
        return self.watts(utilisation) / tokens_per_second if tokens_per_second > 0 else None


def is_board(accelerator: Accelerator) -> bool:
    """Comes on a board of several (SXM, OAM), not as a card: its server is made for it."""
    kind = accelerator.scale_up.kind
    return accelerator.kind in ("gpu", "asic") and kind != "none" and "bridge" not in kind


def power_of(accelerators: Sequence[Accelerator], book: PriceBook) -> Power | str:
    """Of all of them together; a text where the watts of one are not known."""
    counts = Counter(one.id for one in accelerators)
    by_id = {one.id: one for one in accelerators}
    busy, notes = 0.0, []
    for id, count in counts.items():
        found = _device_watts(by_id[id], book)
        if found is None:
            return f"{id}: its power is not known; say --watts"
        watts, note = found
        busy += watts * count
        if note:
            notes.append(f"{id}: {watts:,.0f} W each at the wall of the server at work ({note})")
    if busy:
        share = owning_figures()["idle_power"]
        notes.append(f"idle machines draw {book.idle_power:.0%} of that ({share.origin})")
    return Power(busy, busy * book.idle_power, book.pue, tuple(notes))


def _device_watts(accelerator: Accelerator, book: PriceBook) -> tuple[float, str] | None:
    """Watts of one with its share of the server, and where from; the user's own go before all."""
    own = book.devices.get(accelerator.id)
    if own is not None and own.watts is not None:
        return own.watts, ""
    if book.said.watts is not None:
        return book.said.watts, ""
    all_in = per_device_kw().get(accelerator.id)
    if all_in is not None:
        cooling = owning_figures()["all_in_pue"].value
        return all_in.value * 1e3 / cooling, f"{all_in.value:g} kW all-in ({all_in.origin}) / {cooling:g}"
    if accelerator.tdp_watts is None:
        return None
    factor = owning_figures()["host_power_board" if is_board(accelerator) else "host_power_cards"]
    return accelerator.tdp_watts.value * factor.value, (
        f"{accelerator.tdp_watts.value:g} W x {factor.value:g} ({factor.origin})"
    )

"""What a box costs a month, in parts, and how that grows with the load. Knows neither offers nor tokens."""

from dataclasses import dataclass, replace
from typing import Literal

from farthing.planner.money.power import Power

HOURS = 730.0  # of a month: a twelfth of 8,760
SECONDS = HOURS * 3600
POWER = "power"  # the part that grows with the load


@dataclass(frozen=True, slots=True)
class Part:
    """Dollars a month of one thing, and where they are from."""

    name: str
    dollars: float
    note: str


@dataclass(frozen=True, slots=True)
class Monthly:
    """`fixed_dollars` are paid whether or not anything is computed, `load_dollars` more when it is busy all the time.

    `parts` add up to the cost at `utilisation`. `capital_dollars`: to pay at once. `power`: None where it is unknown.
    """

    way: Literal["buy", "rent", "said"]
    parts: tuple[Part, ...]
    fixed_dollars: float
    load_dollars: float
    utilisation: float
    capital_dollars: float
    power: Power | None
    notes: tuple[str, ...]

    def dollars_at(self, utilisation: float) -> float:
        """A month, busy that part of the time."""
        return self.fixed_dollars + self.load_dollars * utilisation

    def parts_at(self, utilisation: float) -> tuple[Part, ...]:
        """`parts` as they are when it is busy that part of the time: what grows is power."""
        more = self.dollars_at(utilisation) - self.dollars
        return tuple(replace(part, dollars=part.dollars + more * (part.name == POWER)) for part in self.parts)

    @property
    def dollars(self) -> float:
        """A month, busy as stated."""
        return self.dollars_at(self.utilisation)

    @property
    def dollars_per_hour(self) -> float:
        return self.dollars / HOURS

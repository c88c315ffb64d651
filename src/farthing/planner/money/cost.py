"""What serving costs: per month and per user, per million tokens at the stated load and at saturation, in energy, in
characters, and beside an API.

Money is planner/money/price.py's, time planner/speed.py's: here they meet. Amounts are in dollars.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farthing.errors import UsageError
from farthing.planner.money.api_price import ApiPrice
from farthing.planner.money.characters import LANGUAGES, Vocabulary
from farthing.planner.money.currency import Currency
from farthing.planner.money.monthly import SECONDS, Monthly
from farthing.planner.money.price import BoxPrice

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens per second: those that are asked for on average, of prompts and of answers, and the answers' that the box
    computes when full. UsageError for what is no rate."""

    input_tokens_per_second: float
    output_tokens_per_second: float
    full_output_tokens_per_second: float
    users: int | None = None

    def __post_init__(self) -> None:
        rates = (self.input_tokens_per_second, self.output_tokens_per_second, self.full_output_tokens_per_second)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates) or not rates[1] or not rates[2]:
            raise UsageError(f"a load of {rates[1]:g} tokens/s has no cost per token", fix="ask for more than none")
        if self.users is not None and self.users < 1:
            raise UsageError(f"--users is {self.users}", fix="say at least one")

    @property
    def busy(self) -> float:
        """The part of what the box could compute; it is never busier than always."""
        return min(1.0, self.output_tokens_per_second / self.full_output_tokens_per_second)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """From which load on the box costs no more than an API: output tokens a day, and the part of the box's that it is.

    `utilisation` None: the API is cheaper per token than the power alone; above 1: one box does not get there.
    `api_dollars_per_month`: for the stated load.
    """

    api: ApiPrice
    api_dollars_per_month: float
    utilisation: float | None
    output_tokens_per_day: float | None

    @property
    def is_reached(self) -> bool:
        return self.utilisation is not None and self.utilisation <= 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one way to have the box. Per million output tokens: prompts are not charged apart.

    `busy`: the part of the time that the box is at work. `characters`: dollars per million by language, at the stated
    load; empty where the vocabulary was not measured.
    """

    monthly: Monthly
    busy: float
    dollars_per_month: float
    dollars_per_user: float | None
    dollars_per_million_tokens: float
    saturated_dollars_per_million_tokens: float
    joules_per_token: float | None
    saturated_joules_per_token: float | None
    vocabulary: str | None
    characters: dict[str, float]
    break_even: BreakEven | None


def cost_of(monthly: Monthly, load: Load, *, vocabulary: Vocabulary | None = None, api: ApiPrice | None = None) -> Cost:
    """The cost of a load. A box busier than it can be costs as one that is always busy: count more boxes before."""
    dollars, busiest = monthly.dollars_at(load.busy), monthly.dollars_at(1.0)
    carried = load.busy * load.full_output_tokens_per_second
    per_million = dollars / (carried * SECONDS) * 1e6
    power = monthly.power
    return Cost(
        monthly=monthly,
        busy=load.busy,
        dollars_per_month=dollars,
        dollars_per_user=None if load.users is None else dollars / load.users,
        dollars_per_million_tokens=per_million,
        saturated_dollars_per_million_tokens=busiest / (load.full_output_tokens_per_second * SECONDS) * 1e6,
        joules_per_token=power.joules_per_token(carried, load.busy) if power else None,
        saturated_joules_per_token=power.joules_per_token(load.full_output_tokens_per_second) if power else None,
        vocabulary=vocabulary.name if vocabulary else None,
        characters=vocabulary.per_million_characters(per_million) if vocabulary else {},
        break_even=_break_even(monthly, load, api) if api else None,
    )


def costs_of(
    price: BoxPrice, load: Load, *, vocabulary: Vocabulary | None = None, api: ApiPrice | None = None
) -> tuple[Cost, ...]:
    """Of every way that has a price, the chosen one first."""
    chosen = price.chosen
    ways = () if chosen is None else (chosen, *(way for way in price.known if way is not chosen))
    return tuple(cost_of(way, load, vocabulary=vocabulary, api=api) for way in ways)


def _break_even(monthly: Monthly, load: Load, api: ApiPrice) -> BreakEven:
    """fixed + load x u = API x u, of a load like the stated one, prompts and answers in its proportion."""
    now = api.dollars(load.input_tokens_per_second, load.output_tokens_per_second) * SECONDS
    when_full = now * load.full_output_tokens_per_second / load.output_tokens_per_second
    saved = when_full - monthly.load_dollars
    if saved <= 0:
        return BreakEven(api, now, None, None)
    utilisation = monthly.fixed_dollars / saved
    return BreakEven(api, now, utilisation, utilisation * load.full_output_tokens_per_second * _DAY)


def to_json_object(cost: Cost) -> dict[str, Any]:
    """In dollars; what is not known is null."""
    monthly, even = cost.monthly, cost.break_even
    return {
        "way": monthly.way,
        "dollars_per_month": cost.dollars_per_month,
        "dollars_per_hour": cost.dollars_per_month / (SECONDS / 3600),
        "dollars_per_user_month": cost.dollars_per_user,
        "dollars_per_million_output_tokens": cost.dollars_per_million_tokens,
        "saturated_dollars_per_million_output_tokens": cost.saturated_dollars_per_million_tokens,
        "joules_per_output_token": cost.joules_per_token,
        "saturated_joules_per_output_token": cost.saturated_joules_per_token,
        "vocabulary": cost.vocabulary,
        "dollars_per_million_characters": cost.characters or None,
        "capital_dollars": monthly.capital_dollars,
        "site_watts": monthly.power.site_watts if monthly.power else None,
        "parts": [
            {"name": part.name, "dollars_per_month": part.dollars, "note": part.note}
            for part in monthly.parts_at(cost.busy)
        ],
        "against": None
        if even is None
        else {
            "input_dollars": even.api.input_dollars,
            "output_dollars": even.api.output_dollars,
            "api_dollars_per_month": even.api_dollars_per_month,
            "break_even_utilisation": even.utilisation,
            "break_even_output_tokens_per_day": even.output_tokens_per_day,
        },
        "notes": list(monthly.notes),
    }


def cost_rows(costs: tuple[Cost, ...], currency: Currency) -> Iterator[tuple[str, ...]]:
    """Rows of a table with a column per way: what it is, and each way's figure. The first row names the ways."""
    text = currency.text
    yield "", *({"buy": "owned", "rent": "rented", "said": "as said"}[cost.monthly.way] for cost in costs)
    yield "a month", *(text(cost.dollars_per_month) for cost in costs)
    if any(cost.dollars_per_user is not None for cost in costs):
        yield "a user and month", *("" if (one := cost.dollars_per_user) is None else text(one) for cost in costs)
    yield "Mtok at this load", *(text(cost.dollars_per_million_tokens) for cost in costs)
    yield "Mtok when full", *(text(cost.saturated_dollars_per_million_tokens) for cost in costs)
    yield "energy a token", *(_joules(cost.joules_per_token) for cost in costs)
    for language, name in LANGUAGES.items():
        if any(cost.characters for cost in costs):
            yield f"M characters, {name}", *(text(cost.characters[language]) for cost in costs)
    if any(cost.monthly.capital_dollars for cost in costs):
        yield "to pay at once", *(text(cost.monthly.capital_dollars) for cost in costs)


def break_even_line(cost: Cost, currency: Currency) -> str | None:
    """From which load on the box beats the API; None without one."""
    even = cost.break_even
    if even is None:
        return None
    api = f"an API at {currency.text(even.api.input_dollars)} in and {currency.text(even.api.output_dollars)} out"
    here = f"{api}: {currency.text(even.api_dollars_per_month)} a month for this load"
    if even.utilisation is None or even.output_tokens_per_day is None:
        return f"{here}; it is cheaper at any load: the power of the box alone costs more a token"
    when = f"{even.output_tokens_per_day:,.0f} output tokens a day, {even.utilisation:.0%} of what the box computes"
    return f"{here}; even at {when}" + ("" if even.is_reached else ": out of its reach")


def _joules(joules: float | None) -> str:
    if joules is None:
        return "unknown"
    return f"{joules:,.0f} J" if joules >= 10 else f"{joules:.2g} J"

"""What cheaper options die of: of every accelerator, as many as cost less than the winner, and what is in their way.

The most that money below the winner's buys of a part is looked at; what it fails at, fewer of it fail at, too. Knows no
terminal.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Descriptions, Target, fits_shape
from farthing.planner.search.capacity import ReplicaLoad
from farthing.planner.search.search import Attempt, Option, Search, is_too_poor
from farthing.units import format_bytes

Kind = Literal[
    "memory", "kv", "bandwidth", "link", "ttft", "tpot", "load", "quality", "price", "market", "format", "budget"
]
_CLOSENESS = {"memory": 0, "kv": 1, "bandwidth": 1, "tpot": 2, "ttft": 2, "max_num_seqs": 3, "none": 4}


@dataclass(frozen=True, slots=True)
class WhyNot:
    """`count` of an accelerator for `dollars` a month (None: not known), and what is in the way. `share`: how much of
    the load it carries, 0 to 1."""

    id: str
    count: int
    dollars: float | None
    kind: Kind
    text: str
    share: float = 0.0
    missing: float = math.inf

    @property
    def name(self) -> str:
        return f"{self.count}x {self.id}"


def why_not(
    found: Search, way: str, targets: tuple[Target, ...], descriptions: Descriptions, offers: Offers
) -> tuple[WhyNot, ...]:
    """Those that cost less than the cheapest option; without one, the most that is allowed of each. The nearest to
    carrying the load first."""
    best = found.best(way)
    attempts: dict[str, list[Attempt]] = {}
    for attempt in found.attempts:
        attempts.setdefault(attempt.configuration.accelerator.id, []).append(attempt)
    passed = {one.target.accelerator.id: one for one in found.passed}
    reasons = []
    for target in targets:
        id = target.accelerator.id
        if id in passed or (best is not None and id == best.configuration.accelerator.id and target.count is None):
            continue
        count, dollars = _most_below(target, way, best, offers, found)
        if count:
            tried = attempts.get(id, [])
            reasons.append(_reason(found, target, count, dollars, tried, descriptions))
    return tuple(sorted(reasons, key=_nearness))


def _nearness(one: WhyNot) -> tuple[float, bool, float, float, str]:
    """What carries more comes first; of what carries nothing, what a bound rules out comes last."""
    return -one.share, one.kind in ("memory", "kv", "bandwidth"), one.missing, one.dollars or 0.0, one.id


def without_price(found: Search, way: str) -> tuple[WhyNot, ...]:
    """Those that would carry the load, but nobody says what they cost."""
    known: dict[str, Option] = {}
    for option in found.options:
        id = option.configuration.accelerator.id
        if isinstance(option.monthly[way], str) and (id not in known or option.num_devices < known[id].num_devices):
            known[id] = option
    priced = {option.configuration.accelerator.id for option in found.ranked(way)}
    return tuple(
        WhyNot(id, option.num_devices, None, _price_kind(option, way), str(option.monthly[way]), 1.0)
        for id, option in sorted(known.items())
        if id not in priced
    )


def _price_kind(option: Option, way: str) -> Kind:
    return "budget" if str(option.monthly[way]).startswith("over the budget") else "price"


def not_looked_at(found: Search) -> tuple[WhyNot, ...]:
    """Parts that can't be had here or that nothing drives."""
    return tuple(
        WhyNot(
            one.target.accelerator.id,
            one.target.count or 1,
            None,
            "market" if one.kind == "market" else "format",
            one.why,
        )
        for one in found.passed
    )


def nearest(found: Search) -> Attempt | None:
    """Where nothing carries the load: what comes nearest to carrying a part of it."""
    return max(found.attempts, key=lambda one: _closeness(found, one, found.wishes.max_devices), default=None)


def binding_text(found: Search, attempt: Attempt, descriptions: Descriptions) -> tuple[Kind, str]:
    """What binds first in one replica of it, with the numbers."""
    slo, configuration, at = found.slo, attempt.configuration, attempt.capacity.at
    split = f"{configuration.precision.format.name}, {configuration.split}"
    alone = not attempt.capacity.amount
    match attempt.capacity.binds:
        case "memory":
            return "memory", f"no room for KV beside weights of {format_bytes(attempt.weight_bytes)} ({split})"
        case "bandwidth":
            read = _ms(_read_seconds(attempt))
            return "bandwidth", f"reading the weights takes {read} a token, limit {_ms(slo.tpot_limit)} ({split})"
        case "kv" if at is None:
            return (
                "kv",
                f"KV room for {attempt.kv_tokens:,} tokens, one sequence has {found.demand.longest:,} ({split})",
            )
        case "kv":
            return "kv", f"the KV room of {attempt.kv_tokens:,} tokens is full ({split})"
        case "tpot" if at is not None:
            is_link = _is_link(found, attempt, descriptions)
            what = f"a token in {_ms(at.tpot)} for one user alone" if alone else "then a token takes longer"
            links = "; its links are slow" if is_link else ""
            return ("link" if is_link else "tpot"), f"{what}, limit {_ms(slo.tpot_limit)} ({split}{links})"
        case "ttft" if at is not None:
            is_link = _is_link(found, attempt, descriptions)
            what = f"first token after {at.ttft:.1f} s alone" if alone else "then the first token comes later"
            links = "; its links are slow" if is_link else ""
            prompt = f"a prompt computes {attempt.prompt_seconds:.1f} s"
            return ("link" if is_link else "ttft"), f"{what}, limit {slo.ttft_limit:g} s ({split}; {prompt}{links})"
    return "load", f"as many as the engine runs at a time ({split})"


def _read_seconds(attempt: Attempt) -> float:
    """Of all weights once, at the nominal bandwidth."""
    bandwidth = attempt.configuration.accelerator.bandwidth
    assert bandwidth is not None
    return attempt.weight_bytes / (attempt.configuration.tp * bandwidth.value)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.2g} ms"


def _is_link(found: Search, attempt: Attempt, descriptions: Descriptions) -> bool:
    """Whether it would carry more if messages took no time: twice as much, or anything at all."""
    configuration = attempt.configuration
    times = descriptions.times(configuration, found.wishes.network)
    if times is None or configuration.num_devices == 1:
        return False
    free = ReplicaLoad(times.without_links(), found.demand).capacity(found.slo)
    return free.amount >= max(2 * attempt.capacity.amount, 1e-9)


def _most_below(
    target: Target, way: str, best: Option | None, offers: Offers, found: Search
) -> tuple[int, float | None]:
    """(how many, dollars): as many as cost less than the best; (0, None) if one costs more or has no price."""
    if target.count is not None:
        counts: Iterator[int] = iter((target.count,))
    elif fits_shape(target.accelerator, 1, 2):
        counts = iter(range(1, found.wishes.max_devices + 1))
    else:
        counts = iter((1, *range(2, min(9, found.wishes.max_devices + 1))))
    most, dollars = 0, None
    limit = best.dollars(way) if best is not None else float("inf")
    for count in counts:
        price = offers.monthly(target.accelerator, count, way)
        if not isinstance(price, Monthly) or price.dollars >= limit:
            break
        if found.wishes.max_dollars is not None and price.dollars > found.wishes.max_dollars:
            break
        most, dollars = count, price.dollars
    return most, dollars


def _carried(found: Search, attempt: Attempt, count: int) -> float:
    return count // attempt.configuration.num_devices * attempt.capacity.amount


def _closeness(found: Search, attempt: Attempt, count: int) -> tuple[float, float, float]:
    """Larger is nearer: by the load carried, then by what ends it, then by how much is missing."""
    at, missing = attempt.capacity.at, math.inf
    if at is not None:
        missing = max(at.tpot / found.slo.tpot_limit, at.ttft / found.slo.ttft_limit)
    elif attempt.capacity.binds == "bandwidth":
        missing = _read_seconds(attempt) / found.slo.tpot_limit
    return _carried(found, attempt, count), float(_CLOSENESS[attempt.capacity.binds]), -missing


def _reason(
    found: Search, target: Target, count: int, dollars: float | None, tried: list[Attempt], descriptions: Descriptions
) -> WhyNot:
    id = target.accelerator.id
    possible = [attempt for attempt in tried if attempt.configuration.num_devices <= count]
    if not possible:
        size, name = found.smallest.get(id, (0, ""))
        memory = target.accelerator.memory_bytes
        if memory is None or size > memory * count * 0.85:
            has = "unknown memory" if memory is None else f"{format_bytes(memory * count)} in all"
            return WhyNot(id, count, dollars, "memory", f"weights of {format_bytes(size)} in {name}; {has}")
        return WhyNot(
            id, count, dollars, "format", "a rate that a forecast needs is not known, or no engine divides the model so"
        )
    good = [attempt for attempt in possible if not is_too_poor(attempt.quality, found.wishes)]
    if not good:
        return WhyNot(id, count, dollars, "quality", "only in formats below --min-quality, or not known to be above")
    nearest_one = max(good, key=lambda one: _closeness(found, one, count))
    carried = _carried(found, nearest_one, count)
    kind, text = binding_text(found, nearest_one, descriptions)
    share = min(1.0, carried / found.demand.amount)
    if not carried:
        return WhyNot(id, count, dollars, kind, text, missing=-_closeness(found, nearest_one, count)[2])
    amount = (
        f"{carried:.0f} of {found.demand.amount:.0f} users"
        if found.demand.users
        else f"{carried:.3g} of {found.demand.amount:g} requests/s"
    )
    over = ""
    if share >= 1.0:
        return WhyNot(id, count, dollars, "load", f"carries {amount}, but not in whole replicas", share)
    return WhyNot(id, count, dollars, kind, f"carries {amount}{over}: {text}", share)


def all_ways(
    found: Search, targets: tuple[Target, ...], descriptions: Descriptions, offers: Offers
) -> dict[str, tuple[WhyNot, ...]]:
    """By way; what has no price comes last."""
    asked = [way for way in WAYS if offers.book.way in ("auto", way)]
    return {
        way: (*why_not(found, way, targets, descriptions, offers), *without_price(found, way)) if way in asked else ()
        for way in WAYS
    }

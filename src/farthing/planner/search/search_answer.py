"""A search from question to answer: closed forms rank, the simulator confirms, what is cheaper is explained, flips are
found.

Knows no terminal and no flags: planner/search/search_report.py writes it, cli/search.py asks it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Configuration, Descriptions, Target, Wishes
from farthing.planner.search.confirm import Confirmed, confirm
from farthing.planner.search.loads import Demand
from farthing.planner.search.search import Attempt, Option, Search, search, share_of
from farthing.planner.search.sensitivity import Flip, best_of_each, flips
from farthing.planner.search.slo import Slo
from farthing.planner.search.why_not import Kind, WhyNot, all_ways, nearest, not_looked_at

_MOST_SIMULATED = 4  # options, both ways together
_WINNERS_ALONE = 2
_MOST_FAILED = 6  # of a way: then the next stands, and is not confirmed

OptionKey = tuple[tuple[str, str, str, int, int], int]


@dataclass(frozen=True, slots=True)
class Answer:
    """`search`: without what the simulator refused, which is `refused`. `why_not`: by way. `nearest`: where nothing
    keeps the promise, what comes nearest. `simulated`: by option_key()."""

    search: Search
    simulated: Mapping[OptionKey, Confirmed]
    refused: tuple[Option, ...]
    why_not: Mapping[str, tuple[WhyNot, ...]]
    not_looked_at: tuple[WhyNot, ...]
    flips: tuple[Flip, ...]
    nearest: Attempt | None
    law: Mapping[str, tuple[str, ...]]

    @property
    def found(self) -> bool:
        return self.search.found

    def confirmed(self, option: Option) -> Confirmed | None:
        return self.simulated.get(option_key(option))


def option_key(option: Option) -> OptionKey:
    return option.configuration.key, option.replicas


def answer(
    model: str,
    descriptions: Descriptions,
    targets: Sequence[Target],
    demand: Demand,
    slo: Slo,
    offers: Offers,
    wishes: Wishes | None = None,
    *,
    simulates: bool = True,
) -> Answer:
    """FarthingError for a request that makes no sense; that nothing does it is an answer."""
    found = search(model, descriptions, targets, demand, slo, offers, wishes)
    simulated: dict[OptionKey, Confirmed] = {}
    refused: list[Option] = []
    if simulates:
        found, refused = _confirm(found, descriptions, simulated)
    reasons = all_ways(found, tuple(targets), descriptions, offers)
    winners = {best.configuration.accelerator.id: best for way in WAYS if (best := found.best(way)) is not None}
    return Answer(
        search=found,
        simulated=simulated,
        refused=tuple(refused),
        why_not={way: (*_refusals(found, refused, simulated, way), *reasons[way]) for way in WAYS},
        not_looked_at=not_looked_at(found),
        flips=flips(found, targets, descriptions, offers) if found.found else (),
        nearest=None if found.found else nearest(found),
        law={id: offers.law(best.configuration.accelerator) for id, best in winners.items()},
    )


def _confirm(
    found: Search, descriptions: Descriptions, simulated: dict[OptionKey, Confirmed]
) -> tuple[Search, list[Option]]:
    """Simulates the cheapest of each way until one holds. What doesn't is taken out; where two of equally many devices
    don't, so are all of them. Then the next best part, if there is time."""
    refused: list[Option] = []
    kept = found
    for way in WAYS:
        failed: Counter[tuple[str, int]] = Counter()
        while (best := kept.best(way)) is not None and failed.total() < _MOST_FAILED:
            if _holds(best, kept, descriptions, simulated):
                break
            box = _box(best)
            failed[box] += 1
            out = [best] if failed[box] < 2 else [one for one in kept.options if _box(one) == box]
            refused += [one for one in out if option_key(one) in simulated]
            kept = replace(kept, options=tuple(one for one in kept.options if not any(one is other for other in out)))
    for way in WAYS:
        for option in best_of_each(kept, way)[1:2]:
            has_experts = bool(descriptions.spec(option.configuration.precision).experts)  # slow to simulate
            if len(simulated) >= (_WINNERS_ALONE if has_experts else _MOST_SIMULATED):
                continue
            if not _holds(option, kept, descriptions, simulated):
                refused.append(option)
                kept = replace(kept, options=tuple(one for one in kept.options if one is not option))
    return kept, refused


def _box(option: Option) -> tuple[str, int]:
    return option.configuration.accelerator.id, option.num_devices


def _holds(option: Option, found: Search, descriptions: Descriptions, simulated: dict[OptionKey, Confirmed]) -> bool:
    key = option_key(option)
    if key not in simulated:
        configuration: Configuration = option.configuration
        times = descriptions.times(configuration, found.wishes.network)
        assert times is not None
        share = share_of(found.demand, option.replicas)
        steady = option.steady
        simulated[key] = confirm(times, found.demand, share, steady.running, steady.keeps_prefix)
    return simulated[key].is_met(found.slo)


def _refusals(
    found: Search, refused: Sequence[Option], simulated: Mapping[OptionKey, Confirmed], way: str
) -> tuple[WhyNot, ...]:
    """Options that the closed form has within the promise, and the simulator not; if they are cheaper."""
    best = found.best(way)
    reasons = []
    for option in refused:
        dollars, result = option.dollars(way), simulated[option_key(option)]
        if best is None or dollars < best.dollars(way):
            id, slo = option.configuration.accelerator.id, found.slo
            kind: Kind = "ttft" if result.ttft > slo.ttft_limit else "tpot"
            text = (
                f"simulated: first token after {result.ttft:.1f} s, {result.tpot * 1e3:.0f} ms a token "
                f"({option.configuration.precision.format.name}, {option.configuration.split}), though the closed form "
                f"has {option.steady.ttft:.1f} s and {option.steady.tpot * 1e3:.0f} ms"
            )
            reasons.append(WhyNot(id, option.num_devices, dollars, kind, text, 1.0))
    return tuple(reasons)

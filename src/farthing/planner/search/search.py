"""Which hardware carries a load within a promise, and what is cheapest: every configuration, ranked, by closed forms.

Memory is asked first, because it costs nothing, then the capacity of one replica (planner/search/capacity.py); how many
replicas and what they cost follows. The winners are confirmed by simulation (planner/search/confirm.py). Knows no
terminal.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from farthing.errors import UnsupportedError
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers, num_bought, num_nodes
from farthing.planner.search.candidates import (
    Configuration,
    Descriptions,
    Target,
    Wishes,
    engines_of,
    fits_shape,
    shapes,
)
from farthing.planner.search.capacity import Capacity, ReplicaLoad, Steady
from farthing.planner.search.loads import Demand
from farthing.planner.search.pareto import front
from farthing.planner.search.quality import Quality, quality_of
from farthing.planner.search.slo import Slo
from farthing.planner.timing.step_times import NODE_DEVICES, StepTimes, least_token_seconds


@dataclass(frozen=True, slots=True)
class Range:
    """Of ten such forecasts, eight are right within it."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Option:
    """`replicas` of a configuration that carry the load within the promise, by `steady`, that of the fullest replica.

    `max_num_seqs`: the batch limit up to which the promise holds. `monthly`: by way; a text says why it has no price.
    """

    configuration: Configuration
    replicas: int
    steady: Steady
    capacity: Capacity
    max_num_seqs: int
    kv_tokens: int
    ttft_range: Range
    tpot_range: Range
    quality: Quality
    watts: float | None
    monthly: dict[str, Monthly | str]

    @property
    def num_devices(self) -> int:
        return self.configuration.num_devices * self.replicas

    @property
    def num_nodes(self) -> int:
        return num_nodes(self.configuration.accelerator, self.num_devices)

    def dollars(self, way: str) -> float:
        """A month; infinite without a price."""
        price = self.monthly[way]
        return price.dollars if isinstance(price, Monthly) else math.inf

    def is_safe(self, slo: Slo) -> bool:
        """Within the promise even at the slow end of the range."""
        return slo.is_met(self.ttft_range.high, self.tpot_range.high)

    def rank(self, way: str) -> tuple[object, ...]:
        """Cheap first; of the same cost, better answers, then faster ones."""
        worst = self.quality.worst
        unknown = worst is None
        return (
            self.dollars(way), unknown, -(worst or 0.0), self.steady.tpot, self.steady.ttft, self.configuration.key,
        )  # fmt: skip

    def point(self, way: str) -> tuple[float, float, float, float]:
        """What options are compared in; less is better. A score that is not known counts as lost."""
        loss = 1.0 if self.quality.worst is None else -self.quality.worst
        return self.dollars(way), self.steady.ttft, self.steady.tpot, loss

    def count(self, way: str) -> int:
        """Devices that are paid."""
        accelerator = self.configuration.accelerator
        return num_bought(accelerator, self.num_devices) if way == "buy" else self.num_devices

    def name(self, way: str) -> str:
        return f"{self.count(way)}x {self.configuration.accelerator.id}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A configuration that was priced, and what one replica of it carries, maybe nothing. `prompt_seconds`: of the new
    tokens of a prompt, alone."""

    configuration: Configuration
    capacity: Capacity
    quality: Quality
    weight_bytes: int
    kv_tokens: int
    prompt_seconds: float


@dataclass(frozen=True, slots=True)
class Passed:
    """An accelerator that was not looked at, and why. `kind`: "market", "format"."""

    target: Target
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was found. `options`: all that carry the load, in no order; `attempts` also those that don't.

    `smallest`: of each accelerator, bytes of the weights in its narrowest format, and that format's name.
    """

    model: str
    demand: Demand
    slo: Slo
    wishes: Wishes
    options: tuple[Option, ...]
    attempts: tuple[Attempt, ...]
    passed: tuple[Passed, ...]
    smallest: Mapping[str, tuple[int, str]]
    num_considered: int
    num_priced: int

    def ranked(self, way: str) -> list[Option]:
        """Those with a price for this way, the cheapest first."""
        found = [option for option in self.options if math.isfinite(option.dollars(way))]
        return sorted(found, key=lambda option: option.rank(way))

    def front(self, way: str) -> list[Option]:
        """Those that no other beats in cost, time to first token, time per token and score, the cheapest first."""
        ranked = self.ranked(way)
        points = [option.point(way) for option in ranked]
        return [ranked[index] for index in front(points)]

    def best(self, way: str) -> Option | None:
        ranked = self.ranked(way)
        return ranked[0] if ranked else None

    @property
    def found(self) -> bool:
        return any(self.best(way) for way in WAYS)


def search(
    model: str,
    descriptions: Descriptions,
    targets: Sequence[Target],
    demand: Demand,
    slo: Slo,
    offers: Offers,
    wishes: Wishes | None = None,
) -> Search:
    """Answers also when nothing does it: then there are attempts alone. UnsupportedError for a division that is asked
    for and that the model's sizes do not allow."""
    asked = wishes or Wishes()
    passed: list[Passed] = []
    jobs: dict[Precision, list[Target]] = {}
    smallest: dict[str, tuple[int, str]] = {}
    for target in targets:
        accelerator = target.accelerator
        if not offers.is_proposed(accelerator):
            passed.append(Passed(target, "market", offers.why_not_proposed(accelerator)))
            continue
        try:
            found = descriptions.precisions(accelerator, asked)
        except UnsupportedError as error:
            passed.append(Passed(target, "format", error.what))
            continue
        weights = [(descriptions.spec(precision).weight_bytes, precision.format.name) for precision in found]
        smallest[accelerator.id] = min(weights)
        for precision in found:
            jobs.setdefault(precision, []).append(target)
    descriptions.check_divisible(jobs, shapes(asked))
    options: list[Option] = []
    attempts: list[Attempt] = []
    num_considered = num_priced = 0
    for configuration, target in _configurations(descriptions, jobs, asked):
        num_considered += 1
        if not descriptions.has_room(configuration):
            continue
        spec = descriptions.spec(configuration.precision)
        if least_token_seconds(spec, configuration.accelerator, configuration.tp) > slo.tpot_limit:
            attempts.append(_too_slow(spec, configuration))
            continue
        times = descriptions.times(configuration, asked.network)
        if times is None:
            continue
        num_priced += 1
        attempt, load = _attempt(spec, configuration, times, demand, slo)
        attempts.append(attempt)
        if not is_too_poor(attempt.quality, asked):
            option = _option(attempt, load, times, target, demand, slo, offers, asked)
            if option is not None:
                options.append(option)
    return Search(
        model, demand, slo, asked, tuple(options), tuple(attempts), tuple(passed), smallest, num_considered, num_priced
    )


def _configurations(
    descriptions: Descriptions, jobs: dict[Precision, list[Target]], wishes: Wishes
) -> Iterator[tuple[Configuration, Target]]:
    """By precision and division, so that each is described once. Over several nodes only what one node can't hold."""
    for precision, targets in jobs.items():
        spec = descriptions.spec(precision)
        for tp, pp in shapes(wishes):
            if not descriptions.is_divisible(precision, tp, pp):
                continue
            for target in targets:
                accelerator = target.accelerator
                if not fits_shape(accelerator, tp, pp) or tp * pp > (target.count or wishes.max_devices):
                    continue
                if tp * pp > NODE_DEVICES and wishes.tp is None and _fits_node(spec.weight_bytes, target):
                    continue
                engine = engines_of(accelerator, spec, tp, pp, wishes)
                if engine is not None:
                    yield Configuration(accelerator, precision, tp, pp, *engine), target


def _fits_node(weight_bytes: int, target: Target) -> bool:
    memory = target.accelerator.memory_bytes or 0
    return weight_bytes < 0.7 * memory * NODE_DEVICES


def _too_slow(spec: ModelSpec, configuration: Configuration) -> Attempt:
    """By its bandwidth alone: no more of it is asked."""
    quality = quality_of(configuration.precision, spec.num_parameters)
    return Attempt(configuration, Capacity(0.0, "bandwidth", None), quality, spec.weight_bytes, 0, 0.0)


def _attempt(
    spec: ModelSpec, configuration: Configuration, times: StepTimes, demand: Demand, slo: Slo
) -> tuple[Attempt, ReplicaLoad]:
    load = ReplicaLoad(times, demand)
    capacity = load.capacity(slo)
    attempt = Attempt(
        configuration,
        capacity,
        quality_of(configuration.precision, spec.num_parameters),
        spec.weight_bytes,
        times.kv_tokens,
        load.prompt(capacity.at.keeps_prefix).latency if capacity.at else 0.0,
    )
    return attempt, load


def is_too_poor(quality: Quality, wishes: Wishes) -> bool:
    return wishes.min_quality is not None and not quality.is_at_least(wishes.min_quality)


def _option(
    attempt: Attempt,
    load: ReplicaLoad,
    times: StepTimes,
    target: Target,
    demand: Demand,
    slo: Slo,
    offers: Offers,
    wishes: Wishes,
) -> Option | None:
    """As few replicas as carry the load; of a target with a count, as many as that makes."""
    capacity, configuration = attempt.capacity, attempt.configuration
    replicas = capacity.replicas_for(demand.amount)
    if replicas is None or capacity.at is None:
        return None
    if target.count is not None:
        if replicas * configuration.num_devices > target.count:
            return None
        replicas = target.count // configuration.num_devices
    num_devices = replicas * configuration.num_devices
    if num_devices > wishes.max_devices and target.count is None:
        return None
    steady = load.steady(share_of(demand, replicas), capacity.at.keeps_prefix)
    if not slo.is_met(steady.ttft, steady.tpot):
        return None
    count = target.count or num_devices
    watts = offers.watts(configuration.accelerator, count)
    if wishes.max_watts is not None and (watts is None or watts > wishes.max_watts):
        return None
    monthly = {way: offers.monthly(configuration.accelerator, count, way) for way in WAYS}
    if wishes.max_dollars is not None:
        limit = wishes.max_dollars
        monthly = {
            way: price if isinstance(price, str) or price.dollars <= limit else f"over the budget of {limit:,.0f} $"
            for way, price in monthly.items()
        }
    ttft, tpot = times.interval("ttft"), times.interval("tpot")
    return Option(
        configuration=configuration,
        replicas=replicas,
        steady=steady,
        capacity=capacity,
        max_num_seqs=min(times.max_num_seqs, max(1, math.floor(capacity.at.most_running))),
        kv_tokens=times.kv_tokens,
        ttft_range=Range(steady.ttft * ttft.low, steady.ttft * ttft.high),
        tpot_range=Range(steady.tpot * tpot.low, steady.tpot * tpot.high),
        quality=attempt.quality,
        watts=watts,
        monthly=monthly,
    )


def share_of(demand: Demand, replicas: int) -> float:
    """What the fullest of so many replicas has."""
    return float(math.ceil(demand.amount / replicas)) if demand.users is not None else demand.amount / replicas

"""Whether an option keeps its promise when it is simulated: one replica, its share of the load, the engine's scheduler.

The one place where a search meets the simulator. Steps are priced as in the closed forms, so that what differs
is queues, batches and the KV pool. Knows no money.
"""

import math
import random
from dataclasses import dataclass

from farthing.planner.engines.engine_pricer import EngineStagePricer
from farthing.planner.search.loads import Demand
from farthing.planner.search.slo import SHARE, Slo
from farthing.planner.simulation.deployment import Deployment
from farthing.planner.simulation.simulated_replica import ReplicaShape
from farthing.planner.simulation.simulator import simulate
from farthing.planner.simulation.workload import Prefixes, Request, Workload
from farthing.planner.timing.step_times import StepTimes
from farthing.spread import Spread

BLOCK_SIZE = 16
_REQUESTS = 120
_PAUSE_SECONDS = 600.0  # of the clock of the simulation, until the cache is filled
_MOST_STEPS = 2000  # of a simulation: half a second or so
_SEED = 0


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Seconds that nine of ten simulated requests were within. `hit_ratio`: of prompt tokens, those from the cache."""

    ttft: float
    tpot: float
    requests: int
    preemptions: int
    hit_ratio: float

    def is_met(self, slo: Slo) -> bool:
        return slo.is_met(self.ttft, self.tpot)


def confirm(times: StepTimes, demand: Demand, share: float, running: float, keeps_prefix: bool) -> Confirmed:
    """A replica with `share` of the load: users or requests/s. `running`: how many are expected to run at a time."""
    # a step of experts takes ten times as long to price
    has_experts = any(stage.spec.experts for stage in times.replica.stages)
    workload, counted = _workload(demand, share, running, keeps_prefix, 20 if has_experts else 40)
    pricers: dict[int, EngineStagePricer] = {}
    shape = ReplicaShape(
        stages=tuple((pricers.setdefault(id(stage), EngineStagePricer(stage)),) for stage in times.replica.stages),
        num_blocks=times.kv_tokens // BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        max_num_seqs=times.max_num_seqs,
        max_batch_tokens=times.engine.max_batch_tokens,
        context=max(demand.longest, workload.longest),
    )
    run = simulate(workload, Deployment((shape,), request_seconds=times.request_seconds))
    warm = [outcome for outcome in run.outcomes if not outcome.refused and outcome.request.index in counted]
    ttft = Spread.of(outcome.ttft_seconds for outcome in warm).p90
    tpot = Spread.of(outcome.tpot_seconds or 0.0 for outcome in warm).p90
    prompts = sum(outcome.request.input_tokens for outcome in warm)
    return Confirmed(
        ttft=math.inf if ttft is None else ttft,
        tpot=math.inf if tpot is None else tpot,
        requests=len(warm),
        preemptions=sum(outcome.preemptions for outcome in warm),
        hit_ratio=sum(outcome.cached_tokens for outcome in warm) / prompts if prompts else 0.0,
    )


def _workload(demand: Demand, share: float, running: float, keeps_prefix: bool, least: int) -> tuple[Workload, range]:
    """And which of its requests count, `least` or more: not those that fill the cache first, and not those that end
    when nobody comes behind them."""
    assert SHARE == 0.9, "Confirmed is of nine of ten"
    users = max(1, round(share)) if demand.users is not None else None
    groups = 1
    if keeps_prefix and demand.prefix_of == "user":
        groups = users or max(1, round(share * demand.think_seconds + running))
    cold, last = (max(groups, users or 0) if keeps_prefix else users or 0), math.ceil(running)
    steps_each = demand.output_tokens / max(1.0, running)
    counted = max(least, min(_REQUESTS, math.floor(_MOST_STEPS / steps_each)))
    rng = random.Random(_SEED)
    prefix = demand.prefix_tokens if keeps_prefix else 0
    requests, turns, arrival = [], list[int](), 0.0
    for index in range(cold + counted + last):
        is_cold = index < cold
        think = new = 0.0
        if not is_cold:
            arrival += rng.expovariate(share) + (_PAUSE_SECONDS if index == cold else 0.0)
            think = rng.expovariate(1 / demand.think_seconds) if demand.think_seconds else 0.0
            think += _PAUSE_SECONDS if index < 2 * cold else 0.0
            new = _lognormal(rng, demand.input_tokens - prefix, demand.spread)
        input_tokens = prefix + max(1, round(min(new, demand.longest - demand.output_tokens - prefix)))
        if not turns:  # each conversation goes on once in a round, in any order
            turns = rng.sample(range(groups), groups)
        output_tokens = 1 if is_cold else demand.output_tokens
        at = arrival if users is None else None
        requests.append(Request(index, at, input_tokens, output_tokens, turns.pop(), think))
    workload = Workload(tuple(requests), users, Prefixes(prefix, groups), "a search's")
    return workload, range(cold, cold + counted)


def _lognormal(rng: random.Random, mean: float, spread: float) -> float:
    sigma = math.sqrt(math.log1p(spread))
    return mean * math.exp(rng.gauss(0.0, 1.0) * sigma - sigma * sigma / 2)

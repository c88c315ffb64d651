"""What a simulated load comes to: latencies, rates, goodput, what the time and the KV pool went to, dollars.

Pure functions of a Run. Knows no hardware by name and no terminal; planner/simulation/simulation_report.py
writes it as JSON and text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farthing.errors import UsageError
from farthing.planner.simulation.deployment import Deployment
from farthing.planner.simulation.simulated_replica import Outcome
from farthing.planner.simulation.simulator import Run
from farthing.spread import Spread

_OFTEN = 0.05  # of the time
_MOSTLY = 0.5

Binding = Literal["kv", "slots", "bandwidth", "compute", "link", "latency", "load"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The most seconds that a request may take to its first token, and for each further one; None: any."""

    ttft: float | None = None
    tpot: float | None = None

    def __post_init__(self) -> None:
        for flag, value in (("--ttft", self.ttft), ("--tpot", self.tpot)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{flag} is {value}", fix="it must be a number of seconds above 0")

    def met_by(self, outcome: Outcome) -> bool:
        if outcome.refused:
            return False
        tpot = outcome.tpot_seconds
        return (self.ttft is None or outcome.ttft_seconds <= self.ttft) and (
            self.tpot is None or tpot is None or tpot <= self.tpot
        )


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met the objective: how many, a second, and of all that came (refused ones included)."""

    objective: Objective
    requests: int
    requests_per_second: float
    share: float


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Shares of the time of all devices. `bandwidth` to `latency`: of work, by what limited it; `waiting`: a stage for
    another one's batch; `idle`: nothing to do. They add up to 1. `of_limit`: of the time, what the memory traffic and
    the arithmetic alone needed."""

    bandwidth: float
    compute: float
    link: float
    latency: float
    waiting: float
    idle: float

    @property
    def busy(self) -> float:
        return 1.0 - self.idle

    @property
    def of_limit(self) -> float:
        return self.bandwidth + self.compute


@dataclass(frozen=True, slots=True)
class Pool:
    """KV of all replicas. Usage is a share of the blocks, over the busy time; `hit_ratio` of the prompt tokens.
    `running` and `waiting` requests are means over the busy time and peaks, all replicas together."""

    blocks: int
    block_size: int
    usage: float
    peak_usage: float
    hit_ratio: float
    preemptions: int
    running: float
    peak_running: int
    waiting: float
    peak_waiting: int
    short_of_blocks: float
    short_of_slots: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """`seconds`: from the beginning to the last end. `cut`: answers that the context ended. Rates count what was
    answered. `binding`: what a faster deployment would need first; "load": nothing, requests come no faster."""

    seconds: float
    requests: int
    refused: int
    refusal: str
    cut: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft: Spread
    tpot: Spread
    itl: Spread
    request: Spread
    goodput: Goodput | None
    utilisation: Utilisation
    pool: Pool
    binding: Binding
    nearest: tuple[float, float | None] | None
    steps: int

    @property
    def answered(self) -> int:
        return self.requests - self.refused

    @property
    def requests_per_second(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def input_tokens_per_second(self) -> float:
        return self.input_tokens / self.seconds if self.seconds else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds if self.seconds else 0.0


def summarize(run: Run, deployment: Deployment, objective: Objective | None = None) -> Simulation:
    """`objective` with neither limit is none. UsageError if no request at all could run."""
    answered = [outcome for outcome in run.outcomes if not outcome.refused]
    refusal = next((outcome.refused for outcome in run.outcomes if outcome.refused), "")
    if not answered:
        raise UsageError(f"every request is refused: {refusal}", fix="shorter requests, or a longer --context")
    tpots = [tpot for outcome in answered if (tpot := outcome.tpot_seconds) is not None]
    utilisation, pool = _utilisation(run, deployment), _pool(run, deployment, answered)
    goodput = _goodput(run, objective) if objective is not None and objective != Objective() else None
    is_missed = goodput is not None and not goodput.requests
    return Simulation(
        seconds=run.seconds,
        requests=len(run.outcomes),
        refused=len(run.outcomes) - len(answered),
        refusal=refusal,
        cut=sum(outcome.output_tokens < outcome.request.output_tokens for outcome in answered),
        input_tokens=sum(outcome.request.input_tokens for outcome in answered),
        cached_tokens=sum(outcome.cached_tokens for outcome in answered),
        output_tokens=sum(outcome.output_tokens for outcome in answered),
        ttft=Spread.of(outcome.ttft_seconds for outcome in answered),
        tpot=Spread.of(tpots),
        itl=Spread.of_counts(gap for totals in run.totals for gap in totals.gaps),
        request=Spread.of(outcome.request_seconds for outcome in answered),
        goodput=goodput,
        utilisation=utilisation,
        pool=pool,
        binding=_binding(utilisation, pool),
        nearest=(min(one.ttft_seconds for one in answered), min(tpots, default=None)) if is_missed else None,
        steps=sum(replica.executor.num_batches for replica in run.replicas),
    )


def _goodput(run: Run, objective: Objective) -> Goodput:
    good = sum(objective.met_by(outcome) for outcome in run.outcomes)
    return Goodput(objective, good, good / run.seconds if run.seconds else 0.0, good / len(run.outcomes))


def _utilisation(run: Run, deployment: Deployment) -> Utilisation:
    stages = [len(shape.stages) for shape in deployment.replicas]
    whole = run.seconds * sum(stages) or 1.0
    parts = [replica.executor.busy for replica in run.replicas]
    busy = sum(totals.busy_seconds * count for totals, count in zip(run.totals, stages, strict=True))
    work = sum(part.seconds for part in parts)
    return Utilisation(
        bandwidth=sum(part.bandwidth for part in parts) / whole,
        compute=sum(part.compute for part in parts) / whole,
        link=sum(part.link for part in parts) / whole,
        latency=sum(part.latency for part in parts) / whole,
        waiting=max(0.0, busy - work) / whole,
        idle=max(0.0, 1.0 - busy / whole),
    )


def _pool(run: Run, deployment: Deployment, answered: Sequence[Outcome]) -> Pool:
    totals, blocks = run.totals, sum(shape.num_blocks for shape in deployment.replicas)
    busy = sum(one.busy_seconds for one in totals) or 1.0
    count = len(totals)
    prompt_tokens = sum(outcome.request.input_tokens for outcome in answered)
    return Pool(
        blocks=blocks,
        block_size=deployment.replicas[0].block_size,
        usage=sum(one.used_blocks for one in totals) / busy * count / blocks,
        peak_usage=sum(one.peak_used_blocks for one in totals) / blocks,
        hit_ratio=sum(outcome.cached_tokens for outcome in answered) / prompt_tokens,
        preemptions=sum(replica.scheduler.stats.num_preemptions for replica in run.replicas),
        running=sum(one.running for one in totals) / busy * count,
        peak_running=sum(one.peak_running for one in totals),
        waiting=sum(one.waiting for one in totals) / busy * count,
        peak_waiting=sum(one.peak_waiting for one in totals),
        short_of_blocks=sum(one.short_of_blocks for one in totals) / busy,
        short_of_slots=sum(one.short_of_slots for one in totals) / busy,
    )


def _binding(utilisation: Utilisation, pool: Pool) -> Binding:
    if pool.short_of_blocks > _OFTEN and pool.short_of_blocks >= pool.short_of_slots:
        return "kv"
    if pool.short_of_slots > _OFTEN:
        return "slots"
    if utilisation.busy < _MOSTLY:
        return "load"
    parts: dict[Binding, float] = {
        "bandwidth": utilisation.bandwidth,
        "compute": utilisation.compute,
        "link": utilisation.link,
        "latency": utilisation.latency,
    }
    return max(parts, key=lambda name: parts[name])

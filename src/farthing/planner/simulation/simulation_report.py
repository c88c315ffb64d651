"""A simulated load as the JSON object `farthing.simulate/1` and as text for people. Knows no flags and no terminal."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.plan import Choice, Plan
from farthing.planner.simulation.deployment import Deployment
from farthing.planner.simulation.simulation import Binding, Simulation
from farthing.planner.simulation.workload import Workload
from farthing.units import format_count, format_seconds

SCHEMA = "farthing.simulate/1"
_SAME_TIME = "requests start together"  # what the plan assumes and a simulation does not
_MANY_PREEMPTIONS = 0.05  # of the requests
_LACKS: dict[Binding, str] = {
    "kv": "KV room",
    "slots": "a place among --max-num-seqs",
    "bandwidth": "the memory traffic of others",
    "compute": "the prompts of others",
    "link": "the links",
    "latency": "the launches of others",
    "load": "the steps of others",
}
_WHAT_BINDS: dict[Binding, str] = {
    "kv": "KV room: requests wait for blocks, not for a place among those that run (--max-num-seqs)",
    "slots": "places: --max-num-seqs run at a time, and there is KV room for more",
    "bandwidth": "memory bandwidth",
    "compute": "arithmetic",
    "link": "the link between devices",
    "latency": "launches, one kernel after the other",
    "load": "nothing: requests come no faster",
}


@dataclass(frozen=True, slots=True)
class SimulatedLoad:
    """What was simulated and what came of it. `choice`: the layout of the plan. `engine`: None is our own forecast."""

    plan: Plan
    choice: Choice
    workload: Workload
    deployment: Deployment
    simulation: Simulation
    engine: EngineProfile | None = None

    @property
    def dollars_per_million_output_tokens(self) -> float | None:
        """At this load: the machine is paid for while it waits, too."""
        rate = self.simulation.output_tokens_per_second
        return self.plan.price.per_million_tokens(rate) if rate else None

    @property
    def binds(self) -> str:
        return _WHAT_BINDS[self.simulation.binding]

    @property
    def unmet(self) -> str | None:
        """If no request met the objective: the nearest that one came, and what stands in the way."""
        found = self.simulation
        if found.nearest is None or found.goodput is None:
            return None
        objective, (ttft, tpot) = found.goodput.objective, found.nearest
        speed, parts = self.choice.speed, []
        if objective.ttft is not None and ttft > objective.ttft:
            idle = speed.prefill.seconds
            why = f"its prompt alone takes {format_seconds(idle)} on an idle replica, {speed.prefill.step.bound}-bound"
            if idle < objective.ttft:
                why = f"{format_seconds(idle)} on an idle replica; here it waits for {_LACKS[found.binding]}"
            parts.append(f"first token {format_seconds(ttft)} for --ttft {objective.ttft:g} ({why})")
        if objective.tpot is not None and tpot is not None and tpot > objective.tpot:
            alone = speed.decode
            why = f"one request by itself takes {format_seconds(alone.seconds)} a token, {alone.step.bound}-bound"
            parts.append(f"{format_seconds(tpot)} a token for --tpot {objective.tpot:g} ({why})")
        nearest = "; ".join(parts) or "--ttft is met by some and --tpot by some, both by none"
        return f"no request meets the objective; the nearest: {nearest}"

    def cautions(self) -> list[str]:
        """What a reader of the figures should know."""
        found, notes = self.simulation, []
        if (unmet := self.unmet) is not None:
            notes.append(unmet)
        if found.refused:
            notes.append(f"{found.refused:,} of {found.requests:,} requests are refused: {found.refusal}")
        if found.cut:
            notes.append(f"{found.cut:,} answers are cut off by the context of {self.plan.placement.context:,} tokens")
        if found.binding == "kv":
            held = f"{found.pool.running:,.0f} run at a time of {self._places:,} places"
            notes.append(f"short of KV room {found.pool.short_of_blocks:.0%} of the time: {held}; the others wait")
        if found.pool.preemptions > _MANY_PREEMPTIONS * found.requests:
            notes.append(f"{found.pool.preemptions:,} preemptions: prompts are computed again, since KV ran out")
        if self.is_overloaded:
            notes.append(
                "requests come faster than they are answered: the queue grows, and latencies are those of this many "
                "requests, not of any steady state"
            )
        return notes

    @property
    def _places(self) -> int:
        return sum(shape.max_num_seqs for shape in self.deployment.replicas)

    @property
    def is_overloaded(self) -> bool:
        """Of an open load: it took much longer to answer than to arrive, with places or blocks missing."""
        arrivals = [request.arrival for request in self.workload.requests if request.arrival is not None]
        if len(arrivals) < 2 or self.simulation.binding not in ("kv", "slots"):
            return False
        longest = self.simulation.request.p50 or 0.0
        return self.simulation.seconds > 1.1 * max(arrivals) + longest and self.simulation.pool.peak_waiting > 10

    def assumptions(self) -> list[str]:
        notes = [note for note in self.plan.assumptions if not note.startswith(_SAME_TIME)]
        steps = "steps take what the forecast says; no speculation, no network to the users"
        if self.engine is None:
            return [steps, *notes]
        limits = self.deployment.replicas[0]
        under = (
            f"as {self.engine.name}: {self.engine.what}; {limits.max_num_seqs:,} places, {limits.max_batch_tokens:,} "
            "tokens a step, its share of the memory, its efficiencies"
        )
        return [steps, under, self.plan.price.note]


def to_json_object(load: SimulatedLoad) -> dict[str, Any]:
    """Seconds, tokens per second, shares of 1, dollars."""
    plan, found, layout = load.plan, load.simulation, load.choice.placement.layout
    shape = load.deployment.replicas[0]
    inputs, outputs = load.workload.mean_lengths()
    return {
        "schema": SCHEMA,
        "model": plan.model,
        "hardware": plan.hardware,
        "format": plan.spec.precision.format.name,
        "kv_format": plan.spec.precision.kv_dtype,
        "tp": layout.tp,
        "pp": layout.pp,
        "replicas": layout.replicas,
        "engine": None if load.engine is None else load.engine.name,
        "dealing": load.deployment.dealing,
        "context": shape.context,
        "max_num_seqs": shape.max_num_seqs,
        "max_batch_tokens": shape.max_batch_tokens,
        "workload": {
            "line": load.workload.line,
            "requests": len(load.workload.requests),
            "users": load.workload.users,
            "mean_input_tokens": inputs,
            "mean_output_tokens": outputs,
        },
        "seconds": found.seconds,
        "answered": found.answered,
        "refused": found.refused,
        "cut": found.cut,
        "input_tokens": found.input_tokens,
        "cached_tokens": found.cached_tokens,
        "output_tokens": found.output_tokens,
        "requests_per_second": found.requests_per_second,
        "input_tokens_per_second": found.input_tokens_per_second,
        "output_tokens_per_second": found.output_tokens_per_second,
        "ttft_seconds": asdict(found.ttft),
        "tpot_seconds": asdict(found.tpot),
        "itl_seconds": asdict(found.itl),
        "request_seconds": asdict(found.request),
        "goodput": _goodput_object(found),
        "utilisation": {
            **asdict(found.utilisation),
            "busy": found.utilisation.busy,
            "of_limit": found.utilisation.of_limit,
        },
        "kv": asdict(found.pool),
        "steps": found.steps,
        "binding": found.binding,
        "cost": {
            "dollars_per_hour": plan.price.dollars_per_hour,
            "dollars_per_million_output_tokens": load.dollars_per_million_output_tokens,
        },
        "cautions": load.cautions(),
        "assumptions": load.assumptions(),
    }


def _goodput_object(found: Simulation) -> dict[str, Any] | None:
    if found.goodput is None:
        return None
    return {
        **asdict(found.goodput.objective),
        "requests": found.goodput.requests,
        "requests_per_second": found.goodput.requests_per_second,
        "share": found.goodput.share,
    }


def headline(load: SimulatedLoad) -> str:
    """What is simulated, in one line."""
    plan, layout = load.plan, load.choice.placement.layout
    parts = [("tp", layout.tp), ("pp", layout.pp), ("replicas", layout.replicas)]
    split = ", ".join(f"{name} {count}" for name, count in parts if count > 1)
    where = f"{plan.model} · {plan.spec.precision.format.name} on {plan.hardware}{f' ({split})' if split else ''}"
    where += f" · as {load.engine.name}" if load.engine is not None else ""
    return f"{where} · {load.workload.line}"


def latency_rows(load: SimulatedLoad) -> Iterator[tuple[str, ...]]:
    """(name, mean, p50, p90, p95, p99)."""
    found = load.simulation
    spreads = (
        ("time to first token", found.ttft),
        ("time per token", found.tpot),
        ("between tokens", found.itl),
        ("whole request", found.request),
    )
    for name, spread in spreads:
        values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99)
        yield name, *("-" if value is None else format_seconds(value) for value in values)


def lines(load: SimulatedLoad) -> Iterator[str]:
    """Everything but the latencies."""
    found, pool, used = load.simulation, load.simulation.pool, load.simulation.utilisation
    rates = [
        format_count(rate)
        for rate in (found.requests_per_second, found.input_tokens_per_second, found.output_tokens_per_second)
    ]
    yield (
        f"{found.answered:,} requests answered in {format_seconds(found.seconds)}: {rates[0]} requests/s, "
        f"{rates[1]} tok/s in, {rates[2]} tok/s out"
    )
    if found.goodput is not None:
        objective = found.goodput.objective
        asked = [
            f"{what} within {format_seconds(limit)}"
            for what, limit in (("first token", objective.ttft), ("each further one", objective.tpot))
            if limit is not None
        ]
        yield (
            f"goodput: {found.goodput.share:.1%} of the requests, {format_count(found.goodput.requests_per_second)} a "
            f"second ({' and '.join(asked)})"
        )
    dollars, price = load.dollars_per_million_output_tokens, load.plan.price.dollars_per_hour
    cost = "price unknown" if dollars is None or price is None else f"${dollars:.3g} per million output tokens"
    yield f"cost at this load: {cost}" + ("" if price is None else f" (${price:.3g} an hour)")
    waits = f", {used.waiting:.0%} waiting for another stage" if used.waiting >= 0.005 else ""
    yield (
        f"devices: {used.busy:.0%} busy ({used.bandwidth:.0%} memory traffic, {used.compute:.0%} arithmetic, "
        f"{used.link:.0%} links, {used.latency:.0%} launches{waits}), {used.idle:.0%} idle; "
        f"{used.of_limit:.0%} of the limit"
    )
    yield (
        f"running {pool.running:,.1f} (at most {pool.peak_running:,}), waiting {pool.waiting:,.1f} (at most "
        f"{pool.peak_waiting:,}) while busy; short of places {pool.short_of_slots:.0%}, of KV room "
        f"{pool.short_of_blocks:.0%} of that time"
    )
    yield (
        f"KV: {pool.usage:.0%} of {pool.blocks * pool.block_size:,} tokens in use (at most {pool.peak_usage:.0%}), "
        f"{pool.hit_ratio:.0%} of the input found in the cache, {pool.preemptions:,} preemptions"
    )
    yield f"what binds: {load.binds}"

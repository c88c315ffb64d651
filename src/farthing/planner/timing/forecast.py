"""Seconds of one step, op by op: every op's cost through the roofline, every message through the link, added up.

Ops of a step run one after the other, so their times add; inside one op, memory traffic and arithmetic overlap. The
launch latency counts once per kernel that a good GPU engine starts: q, k and v are one product, gate and up another,
and adds and norms of heads ride on their neighbours. The engine of a CPU, and Farthing's own, runs op by op: there
every call counts (calls.py). Under an engine profile the same ops take the shares of the nominal figures that were
measured of that engine, and a step the host's time beside them. Knows no catalogue: device and links are handed in.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.linear import Linear
from farthing.ops.moe import Experts
from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.engines.engine_replica import nominal_bandwidth, nominal_rate
from farthing.planner.timing.calls import num_calls
from farthing.planner.timing.device import Device
from farthing.planner.timing.device_class import device_class, format_class
from farthing.planner.timing.efficiency import (
    Efficiency,
    attention_seconds,
    host_seconds,
    product_seconds,
    small_op_seconds,
)
from farthing.planner.timing.links import RankLink
from farthing.planner.timing.op_lines import distinct_ops
from farthing.planner.timing.roofline import Bound, StepSize, op_seconds
from farthing.planner.timing.step_work import num_fused_kernels

HOST = "host"  # the name of what an engine's host adds to a step


@dataclass(frozen=True, slots=True)
class OpTime:
    """`count` equal ops (one a layer) that take `seconds` together. `bound`: what limits each of them. `limit`: seconds
    at the bandwidth and the peaks alone; 0 under an engine profile, and of what is no op."""

    name: str
    count: int
    seconds: float
    bound: Bound
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class StepForecast:
    """`by_bound` splits `seconds` by what limits it: the shares of the plan."""

    seconds: float
    by_bound: dict[Bound, float]
    ops: tuple[OpTime, ...]

    @property
    def bound(self) -> Bound:
        return max(self.by_bound, key=lambda name: self.by_bound[name])

    @property
    def limit_seconds(self) -> float:
        """Seconds at the bandwidth and the peaks alone."""
        return sum(op.limit for op in self.ops)


def forecast_step(
    spec: ModelSpec,
    batch: BatchShape,
    device: Device,
    links: tuple[RankLink | None, RankLink | None],
    engine: EngineProfile | None = None,
) -> StepForecast:
    """One rank's step. `links`: under its collectives and, if it hands on to a next stage, under the send.

    `engine`: what runs it; None is an engine that reaches what was measured of the device at best, and, on this
    machine, Farthing's own.
    """
    collective, send = links
    under = _under(spec, device, engine)
    size = _size(spec, batch)
    times: list[OpTime] = []
    by_bound: dict[Bound, float] = {"bandwidth": 0.0, "compute": 0.0, "link": 0.0, "latency": 0.0}
    for op, count in distinct_ops(spec):
        link = send if isinstance(op, Comm) and op.kind == "send" else collective
        limit = 0.0
        if under is None or isinstance(op, Comm):
            parts, limit = _parts(op, batch, device, link, size)
        else:
            parts = _parts_under(op, batch, under)
        for bound, seconds in parts.items():
            by_bound[bound] += seconds * count
        longest = max(parts, key=lambda bound: parts[bound])
        times.append(OpTime(op.name, count, sum(parts.values()) * count, longest, limit * count))
    if under is None:
        seconds = device.machine.host_seconds(batch.num_logits, spec.vocab_size)
    else:
        seconds = host_seconds(batch.num_sequences, under.efficiency)
    if seconds or under is not None:
        times.append(OpTime(HOST, 1, seconds, "latency"))
        by_bound["latency"] += seconds
    return StepForecast(sum(by_bound.values()), by_bound, tuple(times))


def _size(spec: ModelSpec, batch: BatchShape) -> StepSize:
    attended = batch.attended_tokens(spec.layers[0].attention.window) if spec.layers else 0
    return StepSize(
        batch.num_sequences, batch.num_tokens, batch.num_logits, attended, step_working_set_bytes(spec, batch)
    )


@dataclass(frozen=True, slots=True)
class _Under:
    """An engine on a device: nominal bytes/s and FLOP/s, and what it reaches of them."""

    bandwidth: float
    layer_rate: float
    plain_rate: float
    efficiency: Efficiency


def _under(spec: ModelSpec, device: Device, engine: EngineProfile | None) -> _Under | None:
    """None where the device is priced as it was measured: here, or without an entry of the catalogue."""
    if engine is None or device.is_here or device.accelerator is None:
        return None
    accelerator, precision = device.accelerator, spec.precision
    return _Under(
        nominal_bandwidth(accelerator),
        nominal_rate(accelerator, precision.format.math, engine),
        nominal_rate(accelerator, precision.activation_dtype, engine),
        engine.efficiency(device_class(accelerator), format_class(precision.format)),
    )


def _parts_under(op: Op, batch: BatchShape, under: _Under) -> dict[Bound, float]:
    cost, one = op.cost(batch), under.efficiency
    read = cost.moved_bytes / under.bandwidth
    compute = 0.0
    if isinstance(op, Linear | Experts):
        is_head = isinstance(op, Linear) and op.on_logits
        rows = batch.num_logits if is_head else batch.num_tokens
        compute = cost.total_flops / (under.plain_rate if is_head else under.layer_rate)
        seconds = product_seconds(read, compute, rows, one) if rows else 0.0
    elif isinstance(op, Attention):
        compute = cost.total_flops / under.plain_rate
        seconds = attention_seconds(read, compute, one)
    else:
        seconds = small_op_seconds(read) if num_fused_kernels(op) else 0.0
    limit: Bound = "bandwidth" if read >= compute else "compute"
    return {limit: seconds, "latency": num_fused_kernels(op) * one.kernel_seconds}


def _parts(
    op: Op, batch: BatchShape, device: Device, link: RankLink | None, size: StepSize
) -> tuple[dict[Bound, float], float]:
    """Seconds of one op by what they go to, and at its limit; a message and a kernel's launch overlap with nothing."""
    cost, machine = op.cost(batch), device.machine
    if isinstance(op, Comm):
        assert link is not None, f"{op.name} has no link"
        seconds = link.seconds(op, cost.comm_bytes)
        return {"link": seconds}, seconds
    time = op_seconds(op, cost.moved_bytes, cost.flops.items(), size, machine)
    calls = num_calls(op, batch.num_sequences, device.calls)
    return {time.bound: time.seconds, "latency": calls * machine.overhead_seconds_per_op}, time.limit


def add_steps(steps: Iterable[tuple[StepForecast, int]]) -> StepForecast:
    """Steps that run one after the other (stages of a pipeline, chunks of a prompt), each so many times, as one."""
    seconds: dict[str, float] = {}
    limits: dict[str, float] = {}
    counts: Counter[str] = Counter()
    bounds: dict[str, Bound] = {}
    by_bound: dict[Bound, float] = {}
    for step, times in steps:
        for bound, value in step.by_bound.items():
            by_bound[bound] = by_bound.get(bound, 0.0) + times * value
        for op in step.ops:
            seconds[op.name] = seconds.get(op.name, 0.0) + times * op.seconds
            limits[op.name] = limits.get(op.name, 0.0) + times * op.limit
            counts[op.name] += times * op.count
            bounds.setdefault(op.name, op.bound)
    ops = tuple(OpTime(name, counts[name], seconds[name], bounds[name], limits[name]) for name in seconds)
    return StepForecast(sum(by_bound.values()), by_bound, ops)

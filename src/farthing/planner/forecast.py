"""Seconds of one step, op by op: every op's cost through the roofline, every message through the link, added up.

Ops of a step run one after the other, so their times add; inside one op, memory traffic and arithmetic overlap. The
launch latency counts once per kernel that a good GPU engine starts: q, k and v are one product, gate and up another,
and adds and norms of heads ride on their neighbours. The engine of a CPU, and Farthing's own,
runs op by op: there every torch call counts. Knows no catalogue: device and links are handed in.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.planner.device import Device
from farthing.planner.links import RankLink
from farthing.planner.roofline import Bound, step_time

# torch calls of the eager kernels, counted with a dispatch mode (tests/engine/test_ledger.py holds them to 20 %).
CALLS_PER_OP = 5
CALLS_PER_ATTENTION = 28
_FUSED = frozenset(  # no kernel of their own on a GPU
    {
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "self_attn.add",
        "mlp.up_proj",
        "mlp.add",
    }
)


@dataclass(frozen=True, slots=True)
class OpTime:
    """`count` equal ops (one a layer) that take `seconds` together. `bound`: what limits each of them."""

    name: str
    count: int
    seconds: float
    bound: Bound


@dataclass(frozen=True, slots=True)
class StepForecast:
    """`by_bound` splits `seconds` by what limits it: the shares of the plan."""

    seconds: float
    by_bound: dict[Bound, float]
    ops: tuple[OpTime, ...]

    @property
    def bound(self) -> Bound:
        return max(self.by_bound, key=lambda name: self.by_bound[name])


def forecast_step(
    spec: ModelSpec, batch: BatchShape, device: Device, links: tuple[RankLink | None, RankLink | None]
) -> StepForecast:
    """One rank's step. `links`: under its collectives and, if it hands on to a next stage, under the send."""
    collective, send = links
    working_set = step_working_set_bytes(spec, batch)
    times: list[OpTime] = []
    by_bound: dict[Bound, float] = {"bandwidth": 0.0, "compute": 0.0, "link": 0.0, "latency": 0.0}
    for op, count in _distinct_ops(spec):
        link = send if isinstance(op, Comm) and op.kind == "send" else collective
        parts = _parts(op, batch, device, link, working_set)
        for bound, seconds in parts.items():
            by_bound[bound] += seconds * count
        longest = max(parts, key=lambda bound: parts[bound])
        times.append(OpTime(op.name, count, sum(parts.values()) * count, longest))
    return StepForecast(sum(by_bound.values()), by_bound, tuple(times))


def _distinct_ops(spec: ModelSpec) -> Iterator[tuple[Op, int]]:
    """Each op of equal layers once, with how many layers have it."""
    yield from ((op, 1) for op in spec.entry_ops)
    for layer, count in spec.distinct_layers:
        yield from ((op, count) for op in layer.ops())
    yield from ((op, 1) for op in spec.exit_ops)


def num_fused_kernels(op: Op) -> int:
    """Kernels that a good GPU engine starts for an op."""
    return 0 if op.name in _FUSED else 1


def num_torch_calls(op: Op, batch: BatchShape) -> int:
    """Calls that the eager decoder makes for an op: attention goes sequence by sequence, all else batch by batch."""
    calls = CALLS_PER_ATTENTION * batch.num_sequences if isinstance(op, Attention) else 0
    return CALLS_PER_OP + calls


def _parts(
    op: Op, batch: BatchShape, device: Device, link: RankLink | None, working_set_bytes: int
) -> dict[Bound, float]:
    """Seconds of one op by what they go to; a message and a kernel's launch overlap with nothing."""
    cost = op.cost(batch)
    if isinstance(op, Comm):
        assert link is not None, f"{op.name} has no link"
        return {"link": link.seconds(op, cost.comm_bytes)}
    time = step_time(
        cost,
        machine=device.machine,
        num_kernels=num_torch_calls(op, batch) if device.is_eager else num_fused_kernels(op),
        rows=batch.num_tokens,
        working_set_bytes=working_set_bytes,
    )
    limit: Bound = "bandwidth" if time.bandwidth_seconds >= time.compute_seconds else "compute"
    return {limit: max(time.bandwidth_seconds, time.compute_seconds), "latency": time.overhead_seconds}


def add_steps(steps: Iterable[tuple[StepForecast, int]]) -> StepForecast:
    """Steps that run one after the other (stages of a pipeline, chunks of a prompt), each so many times, as one."""
    seconds: dict[str, float] = {}
    counts: Counter[str] = Counter()
    bounds: dict[str, Bound] = {}
    by_bound: dict[Bound, float] = {}
    for step, times in steps:
        for bound, value in step.by_bound.items():
            by_bound[bound] = by_bound.get(bound, 0.0) + times * value
        for op in step.ops:
            seconds[op.name] = seconds.get(op.name, 0.0) + times * op.seconds
            counts[op.name] += times * op.count
            bounds.setdefault(op.name, op.bound)
    ops = tuple(OpTime(name, counts[name], seconds[name], bounds[name]) for name in seconds)
    return StepForecast(sum(by_bound.values()), by_bound, ops)

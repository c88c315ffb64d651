"""Seconds of millions of batches: what planner/timing/forecast.py says of a step, from the sums of its batch in
microseconds.

With planner/engines/engine_pricer.py, which does so under an engine's profile, the one place where the simulator asks
for a price. Every op's bytes and FLOPs are a constant plus so much for each
token, row of logits, attended position and causal pair; these are found once by asking the description, and a step is
then a few products an op. Equal to `forecast_step` (tests/planner/timing/test_batch_pricer.py); where a description is
no such sum (experts, windows), `forecast_step` itself is asked. Knows no arrivals and no scheduler's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.planner.timing.device import Device
from farthing.planner.timing.forecast import CALLS_PER_ATTENTION, CALLS_PER_OP, forecast_step, num_fused_kernels
from farthing.planner.timing.links import RankLink
from farthing.scheduler.batch import Batch

Links = tuple[RankLink | None, RankLink | None]
BASIS: tuple[tuple[list[tuple[int, int]], int], ...] = (
    ([], 0),
    ([], 1),
    ([(1, 0)], 0),
    ([(2, 0)], 0),
    ([(1, 1)], 0),
)


@dataclass(frozen=True, slots=True)
class BatchSums:
    """All that the price of a batch depends on, if no window cuts attention off."""

    sequences: int
    tokens: int
    logits: int
    attended: int
    pairs: int

    @classmethod
    def of(cls, batch: Batch) -> "BatchSums":
        _, starts, token_ids, _, samples, _, num_drafts = zip(*batch.items, strict=True)
        sizes = [len(ids) for ids in token_ids]
        tokens, context = sum(sizes), sum(starts)
        pairs = context + tokens  # where each has one new token
        if tokens > len(sizes):
            pairs = sum(n * c + n * (n + 1) // 2 for n, c in zip(sizes, starts, strict=True))
        return cls(len(sizes), tokens, sum(samples) + sum(num_drafts), context + tokens, pairs)


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds of a stage by what they go to, as the plan's shares."""

    bandwidth: float
    compute: float
    link: float
    latency: float

    @property
    def seconds(self) -> float:
        return self.bandwidth + self.compute + self.link + self.latency


class Pricer(Protocol):
    """One rank of a stage."""

    def price(self, batch: Batch, sums: BatchSums) -> StageTime:
        """`sums`: those of `batch`, which every stage shares."""


@dataclass(frozen=True, slots=True)
class Line:
    """A value that is linear in the sums of a batch."""

    constant: float
    token: float
    logit: float
    attended: float
    pair: float

    def at(self, sums: BatchSums) -> float:
        return (
            self.constant
            + self.token * sums.tokens
            + self.logit * sums.logits
            + self.attended * sums.attended
            + self.pair * sums.pairs
        )


@dataclass(frozen=True, slots=True)
class _OpLines:
    """`count` equal ops. `calls` to launch each, `calls_per_sequence` more."""

    count: int
    calls: int
    calls_per_sequence: int
    moved: Line
    flops: tuple[tuple[str, Line], ...]


@dataclass(frozen=True, slots=True)
class _Message:
    """`count` equal messages: `seconds` each, whatever the payload, and more by the bytes."""

    count: int
    seconds: Line


class StagePricer:
    """One rank's part of a model on a device. `links`: under its collectives, and under its send to the next stage."""

    def __init__(self, spec: ModelSpec, device: Device, links: Links) -> None:
        self._spec, self._device, self._links = spec, device, links
        windows = {layer.attention.window for layer, _ in spec.distinct_layers}
        self._is_sum = not spec.experts and windows <= {None}
        if not self._is_sum:
            return
        ops = [(op, 1) for op in (*spec.entry_ops, *spec.exit_ops)]
        ops += [(op, count) for layer, count in spec.distinct_layers for op in layer.ops()]
        self._ops = [_op_lines(op, count, device) for op, count in ops if not isinstance(op, Comm)]
        self._messages = [_message(op, count, links) for op, count in ops if isinstance(op, Comm)]
        self._maths = {math for op in self._ops for math, _ in op.flops}
        self._working_set = step_working_set_bytes(spec, BatchShape.of([]))
        self._working_set_per_position = step_working_set_bytes(spec, BatchShape.decode(0)) - self._working_set

    def price(self, batch: Batch, sums: BatchSums) -> StageTime:
        if not self._is_sum:
            parts = forecast_step(self._spec, batch.shape, self._device, self._links).by_bound
            return StageTime(parts["bandwidth"], parts["compute"], parts["link"], parts["latency"])
        machine, num_sequences = self._device.machine, sums.sequences
        bytes_per_second = machine.read_bandwidth(self._working_set + self._working_set_per_position * sums.attended)
        rates = {math: machine.flops_per_second(math, sums.tokens) for math in self._maths}
        bandwidth = compute = calls = link = 0.0
        for op in self._ops:
            reading = op.moved.at(sums) / bytes_per_second
            computing = 0.0
            for math, flops in op.flops:
                computing += flops.at(sums) / rates[math]
            if reading >= computing:
                bandwidth += op.count * reading
            else:
                compute += op.count * computing
            calls += op.count * (op.calls + op.calls_per_sequence * num_sequences)
        for message in self._messages:
            link += message.count * message.seconds.at(sums)
        return StageTime(bandwidth, compute, link, calls * machine.overhead_seconds_per_op)


def slowest(times: Sequence[StageTime]) -> StageTime:
    """Of the devices of a stage, that which the others wait for."""
    return times[0] if len(times) == 1 else max(times, key=lambda time: time.seconds)


def _op_lines(op: Op, count: int, device: Device) -> _OpLines:
    costs = [op.cost(BatchShape.of(sequences, num_logits)) for sequences, num_logits in BASIS]
    maths = sorted({math for cost in costs for math in cost.flops})
    eager = device.is_eager
    return _OpLines(
        count,
        CALLS_PER_OP if eager else num_fused_kernels(op),
        CALLS_PER_ATTENTION if eager and isinstance(op, Attention) else 0,
        line_of([cost.moved_bytes for cost in costs]),
        tuple((math, line_of([cost.flops.get(math, 0) for cost in costs])) for math in maths),
    )


def _message(op: Comm, count: int, links: Links) -> _Message:
    collective, send = links
    link = send if op.kind == "send" else collective
    assert link is not None, f"{op.name} has no link"
    costs: list[Cost] = [op.cost(BatchShape.of(sequences, num_logits)) for sequences, num_logits in BASIS]
    return _Message(count, line_of([link.seconds(op, cost.comm_bytes) for cost in costs]))


def line_of(values: Sequence[float]) -> Line:
    """From the values for no token; one row of logits; one token; two of one sequence; one behind another."""
    nothing, one_logit, one_token, two_tokens, one_more_behind = values
    pair = two_tokens - 2 * one_token + nothing
    attended = one_more_behind - one_token - pair
    return Line(nothing, one_token - nothing - attended - pair, one_logit - nothing, attended, pair)

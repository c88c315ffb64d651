"""Seconds of millions of batches: what planner/timing/forecast.py says of a step, from the sums of its batch in
microseconds.

With planner/engines/engine_pricer.py, which does so under an engine's profile, the one place where the simulator asks
for a price. Equal to `forecast_step` (tests/planner/timing/test_batch_pricer.py); where a description is no sum
(op_lines.py) or has windows, `forecast_step` itself is asked. Knows no arrivals and no scheduler's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.planner.timing.calls import num_calls
from farthing.planner.timing.device import Device
from farthing.planner.timing.forecast import forecast_step
from farthing.planner.timing.links import RankLink
from farthing.planner.timing.op_lines import BASIS, BatchSums, Line, distinct_ops, line_of, op_lines
from farthing.planner.timing.roofline import StepSize, op_seconds
from farthing.scheduler.batch import Batch

Links = tuple[RankLink | None, RankLink | None]


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
        self._ops = op_lines(spec)
        self._messages = [_message(op, count, links) for op, count in distinct_ops(spec) if isinstance(op, Comm)]
        self._working_set = step_working_set_bytes(spec, BatchShape.of([]))
        self._working_set_per_position = step_working_set_bytes(spec, BatchShape.decode(0)) - self._working_set

    def price(self, batch: Batch, sums: BatchSums) -> StageTime:
        if not self._is_sum:
            parts = forecast_step(self._spec, batch.shape, self._device, self._links).by_bound
            return StageTime(parts["bandwidth"], parts["compute"], parts["link"], parts["latency"])
        machine, how = self._device.machine, self._device.calls
        working_set = self._working_set + self._working_set_per_position * sums.attended
        size = StepSize(sums.sequences, sums.tokens, sums.logits, sums.attended, working_set)
        bandwidth = compute = calls = link = 0.0
        for lines in self._ops:
            flops = [(math, line.at(sums)) for math, line in lines.flops]
            time = op_seconds(lines.op, lines.moved.at(sums), flops, size, machine)
            if time.bound == "bandwidth":
                bandwidth += lines.count * time.seconds
            else:
                compute += lines.count * time.seconds
            calls += lines.count * num_calls(lines.op, sums.sequences, how)
        for message in self._messages:
            link += message.count * message.seconds.at(sums)
        latency = calls * machine.overhead_seconds_per_op + machine.host_seconds(sums.logits, self._spec.vocab_size)
        return StageTime(bandwidth, compute, link, latency)


def slowest(times: Sequence[StageTime]) -> StageTime:
    """Of the devices of a stage, that which the others wait for."""
    return times[0] if len(times) == 1 else max(times, key=lambda time: time.seconds)


def _message(op: Comm, count: int, links: Links) -> _Message:
    collective, send = links
    link = send if op.kind == "send" else collective
    assert link is not None, f"{op.name} has no link"
    costs: list[Cost] = [op.cost(BatchShape.of(sequences, num_logits)) for sequences, num_logits in BASIS]
    return _Message(count, line_of([link.seconds(op, cost.comm_bytes) for cost in costs]))

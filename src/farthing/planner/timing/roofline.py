"""A Cost and what a machine can do -> seconds: the roofline model with a fixed price per kernel call.

    seconds = max(moved bytes / bandwidth, sum over maths of FLOPs / rate) + kernel calls * overhead

Memory traffic and arithmetic overlap, so the slower of them counts; maths of one step (fp32 attention between int8
linears) run one after the other and add up; the call of a kernel overlaps with nothing on a CPU. Knows no model, and
no machine but what `Machine` answers. Source: Williams, Waterman, Patterson 2009 (Roofline, CACM 52-4).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from farthing.ops.cost import Cost

Bound = Literal["bandwidth", "compute", "link", "latency"]


class Machine(Protocol):
    """What a roofline asks of hardware: as measured (hardware/calibration.py) or catalogued
    (planner/timing/device.py)."""

    @property
    def overhead_seconds_per_op(self) -> float:
        """Seconds that a kernel call takes beside its work."""

    def read_bandwidth(self, bytes_touched: int) -> float:
        """Bytes/s at which a working set of this size is read."""

    def flops_per_second(self, math: str, rows: int) -> float:
        """FLOP/s of a matrix product with this many rows in this math."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Predicted `seconds` of a step, and the three times that it is made of. `bound` names the largest of them."""

    seconds: float
    bandwidth_seconds: float
    compute_seconds: float
    overhead_seconds: float

    @property
    def bound(self) -> Bound:
        times: dict[Bound, float] = {
            "bandwidth": self.bandwidth_seconds,
            "compute": self.compute_seconds,
            "latency": self.overhead_seconds,
        }
        return max(times, key=lambda name: times[name])


def step_time(cost: Cost, *, machine: Machine, num_kernels: int, rows: int, working_set_bytes: int) -> StepTime:
    """Time of a step of `cost` in `num_kernels` calls, on one device.

    `rows`: rows of its matrix products (tokens of the step). `working_set_bytes`: distinct bytes that the step touches
    (weights, KV, activations): a model that fits a cache is read at the cache's bandwidth, not at the memory's.
    """
    assert not cost.comm_bytes, "one device: links have no price here"
    bandwidth_seconds = cost.moved_bytes / machine.read_bandwidth(working_set_bytes)
    compute_seconds = sum(flops / machine.flops_per_second(math, rows) for math, flops in cost.flops.items())
    overhead_seconds = num_kernels * machine.overhead_seconds_per_op
    return StepTime(
        seconds=max(bandwidth_seconds, compute_seconds) + overhead_seconds,
        bandwidth_seconds=bandwidth_seconds,
        compute_seconds=compute_seconds,
        overhead_seconds=overhead_seconds,
    )

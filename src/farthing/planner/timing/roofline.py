"""What one op asks and what a machine can do -> seconds: the roofline model, with what kernels reach instead of peaks.

    seconds = max(moved bytes / bandwidth, sum over maths of FLOPs / rate)

Memory traffic and arithmetic of one op overlap, so the slower of them counts; ops run one after the other, and the call
of a kernel overlaps with nothing on a CPU. A product's rate is that of its format at so many rows with weights where
the step has them; attention's is that of its queries; the small ops between them move their bytes at a bandwidth of
their own. The one place that says so: the forecast, the simulator and the ledger all ask here.
Knows no machine but what `Machine` answers. Source: Williams, Waterman, Patterson 2009 (Roofline, CACM 52-4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from farthing.models.spec import Op
from farthing.ops.attention import Attention
from farthing.ops.linear import Linear
from farthing.ops.moe import Experts

Bound = Literal["bandwidth", "compute", "link", "latency"]


class Machine(Protocol):
    """What a roofline asks of hardware: as measured (hardware/calibration.py) or catalogued
    (planner/timing/device.py). Bytes/s and FLOP/s."""

    @property
    def overhead_seconds_per_op(self) -> float:
        """Seconds that a kernel call takes beside its work."""

    def host_seconds(self, num_sequences: int, vocab_size: int) -> float:
        """Seconds of a step around its calls."""

    def read_bandwidth(self, bytes_touched: int) -> float:
        """At which a working set of this size is read."""

    def small_op_bandwidth(self, bytes_moved: float, bytes_touched: int) -> float:
        """At which a norm, an addition or an activation moves so many bytes, in a step that touches so many."""

    def flops_per_second(self, math: str, rows: float) -> float:
        """Of a matrix product with this many rows in this math."""

    def product_rate(self, weight_format: str, math: str, rows: float, bytes_touched: float) -> float:
        """Of a product with weights in this format, in a step that touches so many bytes."""

    def attention_rate(self, math: str, queries: float, bytes_attended: float) -> float:
        """Of attention, where so many queries share keys and values of so many bytes."""

    def peak(self, math: str) -> float:
        """Which no product exceeds."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """What the times of a step's ops depend on beside their own work. `attended`: positions, of all sequences.
    `working_set_bytes`: distinct bytes that the step touches (weights and KV): a model that fits a cache is read at the
    cache's bandwidth, not at the memory's."""

    sequences: int
    tokens: int
    logits: int
    attended: int
    working_set_bytes: int


@dataclass(frozen=True, slots=True)
class OpSeconds:
    """`seconds`: as kernels do it. `limit`: at the bandwidth and the peak of its math alone, or what kernels take where
    that is less (activations lie in a cache). `bound`: which of the two limits it."""

    seconds: float
    limit: float
    bound: Bound


def op_seconds(op: Op, moved: float, flops: Iterable[tuple[str, float]], size: StepSize, machine: Machine) -> OpSeconds:
    """Of an op that moves so many bytes and computes so many FLOPs, by math. Not of messages."""
    if isinstance(op, Linear) and op.on_logits and not size.logits:
        return OpSeconds(0.0, 0.0, "bandwidth")  # no row needs it, so its weights are not read
    touched = size.working_set_bytes
    reading = moved / machine.read_bandwidth(touched)
    computing = at_best = 0.0
    for math, count in flops:
        if not count:
            continue
        at_best += count / machine.peak(math)
        if isinstance(op, Linear | Experts):
            rows = size.logits if isinstance(op, Linear) and op.on_logits else size.tokens
            computing += count / machine.product_rate(op.format.name, math, rows, touched)
        elif isinstance(op, Attention):
            queries = size.tokens / size.sequences * op.num_heads / op.num_kv_heads
            bytes_attended = size.attended / size.sequences * op.kv_bytes_per_token
            computing += count / machine.attention_rate(math, queries, bytes_attended)
        else:
            computing += count / machine.flops_per_second(math, size.tokens)
    limit: Bound = "bandwidth" if reading >= at_best else "compute"
    is_small = not isinstance(op, Linear | Experts | Attention)
    passing = moved / machine.small_op_bandwidth(moved, touched) if is_small else reading
    seconds = max(passing, computing)
    return OpSeconds(seconds, min(seconds, max(reading, at_best)), limit)

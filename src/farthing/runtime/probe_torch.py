"""What torch's own operations reach on a device: how fast memory is read, how fast matrices are multiplied, what a call
costs. Of every GPU, and of processors for which nothing can be compiled.

The ops are those of a model: a product of a matrix and a vector is what decode does. Knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from farthing.hardware.calibration import BandwidthPoint, GemmPoint
from farthing.runtime.device import usable_bytes
from farthing.runtime.probe_timing import Case, Progress, Timing, part, time_all

_MIB = 2**20
_COLUMNS = 2048  # of the matrix that the matrix-vector product reads
_TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
_OVERHEAD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: sizes, and seconds per part (rounds go on until they are over)."""

    working_sets_bytes: tuple[int, ...]
    read_ops: tuple[str, ...]
    maths: tuple[str, ...]
    rows: tuple[int, ...]
    bandwidth_seconds: float
    gemm_seconds: float


QUICK = Plan(
    working_sets_bytes=tuple(_MIB * 4**i // 4 for i in range(6)),  # 256 KiB to 256 MiB
    read_ops=("dot", "mv"),
    maths=("fp32", "bf16", "int8"),
    rows=(1, 8, 128),
    bandwidth_seconds=1.2,
    gemm_seconds=0.6,
)
FULL = Plan(
    working_sets_bytes=tuple(_MIB * 2**i // 4 for i in range(13)),  # 256 KiB to 1 GiB
    read_ops=("dot", "mv", "sum"),
    maths=("fp32", "bf16", "fp16", "int8"),
    rows=(1, 8, 32, 128, 512),
    bandwidth_seconds=25.0,
    gemm_seconds=15.0,
)


def measure_overhead(device: torch.device, progress: Progress) -> float:
    """Seconds of a torch call that has nothing to do: an addition of one element. What is taken off other timings."""
    one, out = torch.ones(1, device=device), torch.empty(1, device=device)
    case = Case("add", 1, 1, lambda: torch.add(one, one, out=out))
    [(_, timing)] = time_all(device, [case], _OVERHEAD_SECONDS, part(progress, "overhead of a call", 0.0, 0.05))
    return timing.seconds


def _thread_counts(device: torch.device, num_threads: int) -> list[int]:
    return [1] if device.type == "cuda" else sorted({1, num_threads})


def measure_bandwidth(
    device: torch.device, plan: Plan, num_threads: int, overhead_seconds: float, progress: Progress
) -> tuple[BandwidthPoint, ...]:
    """Each working set is the beginning of one buffer, read once before each sample: no other data is timed."""
    smallest, largest = plan.working_sets_bytes[0], usable_bytes(device) // 4
    sizes = [size for size in plan.working_sets_bytes if size == smallest or size <= largest]
    buffer = torch.ones(sizes[-1] // 4, device=device)
    cases = [
        Case(op, threads, size, _reader(op, buffer[: size // 4]))
        for threads in _thread_counts(device, num_threads)
        for op in plan.read_ops
        for size in sizes
    ]
    timed = time_all(device, cases, plan.bandwidth_seconds, part(progress, "memory bandwidth", 0.05, 0.65))
    return tuple(
        BandwidthPoint(
            working_set_bytes=case.work,
            num_threads=case.num_threads,
            op=case.group,
            bytes_per_second=case.work / _without_overhead(timing, overhead_seconds, device),
            spread=timing.spread,
        )
        for case, timing in timed
    )


def _reader(op: str, data_N: torch.Tensor) -> Callable[[], object]:
    """A call that reads all of `data_N` once and does next to nothing else."""
    if op == "dot":
        first, second = data_N.chunk(2)
        return lambda: torch.dot(first, second)
    if op == "sum":
        return lambda: torch.sum(data_N)
    matrix_RC = data_N.view(-1, _COLUMNS)
    vector_C, out_R = data_N.new_ones(_COLUMNS), data_N.new_empty(matrix_RC.shape[0])
    return lambda: torch.mv(matrix_RC, vector_C, out=out_R)


def measure_gemm(
    device: torch.device, plan: Plan, num_threads: int, overhead_seconds: float, progress: Progress
) -> tuple[GemmPoint, ...]:
    """Two sizes of weights: one that fits a core's cache, so that a few rows aren't only a measure of memory."""
    widths = (512, 2048) if device.type == "cpu" else (2048, 8192)
    weights = {
        (name, width): torch.ones(width, width, device=device).to(_TORCH_DTYPES[name])
        for name in plan.maths
        for width in widths
    }
    shapes = {
        Case(name, threads, 2 * rows * width * width, _multiplier(weights[name, width], rows)): (rows, width)
        for threads in _thread_counts(device, num_threads)
        for name in plan.maths
        for rows in plan.rows
        for width in widths
    }
    return tuple(
        GemmPoint(
            math=case.group,
            m=shapes[case][0],
            n=shapes[case][1],
            k=shapes[case][1],
            num_threads=case.num_threads,
            flops_per_second=case.work / _without_overhead(timing, overhead_seconds, device),
            spread=timing.spread,
        )
        for case, timing in time_all(
            device, list(shapes), plan.gemm_seconds, part(progress, "matrix products", 0.65, 1.0)
        )
    )


def _multiplier(weight_NK: torch.Tensor, rows: int) -> Callable[[], object]:
    input_MK = torch.ones(rows, weight_NK.shape[1], device=weight_NK.device).to(weight_NK.dtype)
    if weight_NK.dtype == torch.int8:
        return lambda: torch._int_mm(input_MK, weight_NK.t())
    return lambda: torch.nn.functional.linear(input_MK, weight_NK)


def _without_overhead(timing: Timing, overhead_seconds: float, device: torch.device) -> float:
    """On a GPU calls queue up, and their overhead is hidden."""
    return timing.without(0.0 if device.type == "cuda" else overhead_seconds)

"""Measures this machine: how fast memory is read, how fast matrices are multiplied, what a torch call costs.

Every figure is the median of interleaved repeats (all cases, then all again), so that a disturbance of a second falls
on all of them alike. The ops are those of a model: a product of a matrix and a vector is what decode does. Knows no
model (probe_call.py has a tiny one); hardware/calibration.py keeps what is found here.
"""

import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from farthing.hardware.calibration import BandwidthPoint, Calibration, DeviceKey, GemmPoint, cpu_key, cuda_key
from farthing.runtime.device import open_device, usable_bytes
from farthing.runtime.probe_call import seconds_per_call
from farthing.runtime.process_memory import process_bytes

Progress = Callable[[str, float], None]

_MIB = 2**20
_COLUMNS = 2048  # of the matrix that the matrix-vector product reads
_TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is measured: sizes, and seconds per part (rounds go on until they are over)."""

    working_sets_bytes: tuple[int, ...]
    read_ops: tuple[str, ...]
    maths: tuple[str, ...]
    rows: tuple[int, ...]
    bandwidth_seconds: float
    gemm_seconds: float


_QUICK = _Plan(
    working_sets_bytes=tuple(_MIB * 4**i // 4 for i in range(6)),  # 256 KiB to 256 MiB
    read_ops=("dot", "mv"),
    maths=("fp32", "bf16", "int8"),
    rows=(1, 8, 128),
    bandwidth_seconds=1.2,
    gemm_seconds=0.6,
)
_FULL = _Plan(
    working_sets_bytes=tuple(_MIB * 2**i // 4 for i in range(13)),  # 256 KiB to 1 GiB
    read_ops=("dot", "mv", "sum"),
    maths=("fp32", "bf16", "fp16", "int8"),
    rows=(1, 8, 32, 128, 512),
    bandwidth_seconds=25.0,
    gemm_seconds=15.0,
)
_OVERHEAD_SECONDS = 0.1
_SAMPLE_SECONDS = 0.001  # a sample repeats a short pass until it is this long
_MIN_ROUNDS, _MAX_ROUNDS = 2, 31


@dataclass(frozen=True, slots=True)
class _Case:
    """One thing to time. `work`: bytes or FLOPs of one pass; cases of one `group` come from small to large."""

    group: str
    num_threads: int
    work: int
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Timing:
    seconds: float
    spread: float


def probe(device: str = "cpu", *, quick: bool, progress: Progress) -> Calibration:
    """Measure `device` ("cpu", "cuda", "cuda:1", "auto") in at most about 3 s (`quick`) or 60 s.

    `progress(what, fraction)` is called all along. UsageError if there is no such device. Torch's thread count is
    changed while it runs and put back.
    """
    target = open_device(device)
    plan = _QUICK if quick else _FULL
    num_threads = torch.get_num_threads()
    try:
        with torch.inference_mode():
            own_bytes, device_context_bytes = _measure_fixed_memory(target)
            overhead_seconds = _measure_overhead(target, progress)
            torch.set_num_threads(1)  # a second thread would only wait
            call_seconds = seconds_per_call(target, _OVERHEAD_SECONDS)
            torch.set_num_threads(num_threads)
            bandwidth = _measure_bandwidth(target, plan, num_threads, overhead_seconds, progress)
            gemm = _measure_gemm(target, plan, num_threads, overhead_seconds, progress)
    finally:
        torch.set_num_threads(num_threads)
    progress("done", 1.0)
    return Calibration(
        device=device_key(target),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        bandwidth=bandwidth,
        gemm=gemm,
        links=(),
        overhead_seconds_per_op=call_seconds,
        process_bytes=own_bytes,
        device_context_bytes=device_context_bytes,
    )


def _part(progress: Progress, what: str, start: float, end: float) -> Callable[[float], None]:
    """Progress of a part, 0 to 1, as progress of the whole, `start` to `end`."""
    return lambda fraction: progress(what, start + (end - start) * fraction)


def device_key(device: torch.device) -> DeviceKey:
    if device.type == "cpu":
        return cpu_key()
    try:
        driver = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    except OSError:
        driver = None
    name = torch.cuda.get_device_name(device)
    return cuda_key(name, cuda=str(torch.version.cuda), driver=driver.group() if driver else "unknown")


def _measure_fixed_memory(device: torch.device) -> tuple[int, int]:
    """Bytes of this process and of the device that are taken before any model: code, threads, context.

    On a GPU other processes that use it count too.
    """
    square = torch.ones(64, 64, device=device)
    _synchronize_after(device, lambda: square @ square)
    if device.type == "cpu":
        return process_bytes(), 0
    free, total = torch.cuda.mem_get_info(device)
    return process_bytes(), total - free - torch.cuda.memory_reserved(device)


def _measure_overhead(device: torch.device, progress: Progress) -> float:
    """Seconds of a torch call that has nothing to do: an addition of one element. What is taken off other timings."""
    one, out = torch.ones(1, device=device), torch.empty(1, device=device)
    case = _Case("add", 1, 1, lambda: torch.add(one, one, out=out))
    [(_, timing)] = _time_all(device, [case], _OVERHEAD_SECONDS, _part(progress, "overhead of a call", 0.0, 0.05))
    return timing.seconds


def _thread_counts(device: torch.device, num_threads: int) -> list[int]:
    return [1] if device.type == "cuda" else sorted({1, num_threads})


def _measure_bandwidth(
    device: torch.device, plan: _Plan, num_threads: int, overhead_seconds: float, progress: Progress
) -> tuple[BandwidthPoint, ...]:
    """Each working set is the beginning of one buffer, read once before each sample: no other data is timed."""
    smallest, largest = plan.working_sets_bytes[0], usable_bytes(device) // 4
    sizes = [size for size in plan.working_sets_bytes if size == smallest or size <= largest]
    buffer = torch.ones(sizes[-1] // 4, device=device)
    cases = [
        _Case(op, threads, size, _reader(op, buffer[: size // 4]))
        for threads in _thread_counts(device, num_threads)
        for op in plan.read_ops
        for size in sizes
    ]
    timed = _time_all(device, cases, plan.bandwidth_seconds, _part(progress, "memory bandwidth", 0.05, 0.65))
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


def _measure_gemm(
    device: torch.device, plan: _Plan, num_threads: int, overhead_seconds: float, progress: Progress
) -> tuple[GemmPoint, ...]:
    """Two sizes of weights: one that fits a core's cache, so that a few rows aren't only a measure of memory."""
    widths = (512, 2048) if device.type == "cpu" else (2048, 8192)
    weights = {
        (name, width): torch.ones(width, width, device=device).to(_TORCH_DTYPES[name])
        for name in plan.maths
        for width in widths
    }
    shapes = {
        _Case(name, threads, 2 * rows * width * width, _multiplier(weights[name, width], rows)): (rows, width)
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
        for case, timing in _time_all(
            device, list(shapes), plan.gemm_seconds, _part(progress, "matrix products", 0.65, 1.0)
        )
    )


def _multiplier(weight_NK: torch.Tensor, rows: int) -> Callable[[], object]:
    input_MK = torch.ones(rows, weight_NK.shape[1], device=weight_NK.device).to(weight_NK.dtype)
    if weight_NK.dtype == torch.int8:
        return lambda: torch._int_mm(input_MK, weight_NK.t())
    return lambda: torch.nn.functional.linear(input_MK, weight_NK)


def _without_overhead(timing: _Timing, overhead_seconds: float, device: torch.device) -> float:
    """Seconds of the work alone; planner/timing/roofline.py adds the overhead. On a GPU calls queue up, and it is
    hidden."""
    hidden = 0.0 if device.type == "cuda" else overhead_seconds
    return max(timing.seconds - hidden, timing.seconds / 2)


def _time_all(
    device: torch.device, cases: Sequence[_Case], seconds: float, progress: Callable[[float], None]
) -> list[tuple[_Case, _Timing]]:
    """Time the cases in turns for about `seconds`. Left out: what torch can't do here, and what would take too long."""
    start = time.perf_counter()

    def sample(case: _Case, passes: int) -> float:
        torch.set_num_threads(case.num_threads)
        _synchronize_after(device, case.run)  # brings the working set back into the caches
        begin = time.perf_counter()
        for _ in range(passes - 1):
            case.run()
        _synchronize_after(device, case.run)
        end = time.perf_counter()
        progress(min(1.0, (end - start) / seconds))
        return (end - begin) / passes

    passes: dict[_Case, int] = {}
    rates: dict[tuple[str, int], float] = {}
    for case in cases:
        group = (case.group, case.num_threads)
        if group in rates and case.work / rates[group] > seconds / 10:
            continue
        try:
            once = sample(case, 1)
        except RuntimeError:  # this dtype or shape has no kernel here
            continue
        rates[group] = max(case.work / once, rates.get(group, 0.0))
        passes[case] = max(1, math.ceil(_SAMPLE_SECONDS / once))
    samples: dict[_Case, list[float]] = {case: [] for case in passes}
    for number in range(_MAX_ROUNDS):
        if number >= _MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        for case in samples:
            samples[case].append(sample(case, passes[case]))
    return [(case, _summarize(values)) for case, values in samples.items()]


def _summarize(seconds: list[float]) -> _Timing:
    median = statistics.median(seconds)
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return _Timing(median, (upper - lower) / median)


def _synchronize_after(device: torch.device, run: Callable[[], object]) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)

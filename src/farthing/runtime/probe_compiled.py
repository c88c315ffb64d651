"""What the kernels compiled for this processor reach: instructions alone, memory by working set, products in every
format by rows and by where their weights lie, attention, the small ops between them, and the overhead of a call.

All with one thread and with all. The tasks are those of kernels/peaks.py; here they get sizes, a clock and their place
in a Calibration. Knows no model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from farthing.hardware.calibration import ATTENTION, SMALL_OPS, BandwidthPoint, GemmPoint, PeakPoint
from farthing.kernels.peaks import Peaks, Task, open_peaks
from farthing.runtime.device import usable_bytes
from farthing.runtime.probe_timing import Case, Progress, Timing, part, time_all

_MIB = 2**20
_CPU = torch.device("cpu")
_CACHED_WIDTH, _CACHED_BYTES = 512, _MIB  # matrices that a core's own cache holds
_WIDTH = 2048
_FEW_ROWS = 16  # up to here the weights are read from memory again and again; beyond, it does not matter where they lie
_MANY_ROWS_BYTES = 8 * _MIB
_SMALL_COLUMNS = 2048
_MOST_OVERHEAD = 0.25  # of what is timed: a call that others delayed would make all else too fast
_GROUPS = (1, 8)  # query heads to a KV head
_SEQUENCES, _PROMPT = 4, 512


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: sizes, and seconds per part (rounds go on until they are over)."""

    working_sets_bytes: tuple[int, ...]
    rows: tuple[int, ...]
    small_rows: tuple[int, ...]
    positions: tuple[int, ...]
    read_seconds: float
    product_seconds: float
    other_seconds: float


QUICK = Extent(
    working_sets_bytes=tuple(_MIB * 4**i // 4 for i in range(6)),  # 256 KiB to 256 MiB
    rows=(1, 16, 512),
    small_rows=(1, 512),
    positions=(64, 1024),
    read_seconds=0.5,
    product_seconds=1.2,
    other_seconds=0.4,
)
FULL = Extent(
    working_sets_bytes=tuple(_MIB * 2**i // 4 for i in range(13)),  # 256 KiB to 1 GiB
    rows=(1, 4, 16, 64, 512),
    small_rows=(1, 16, 512),
    positions=(64, 512, 4096),
    read_seconds=12.0,
    product_seconds=30.0,
    other_seconds=5.0,
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A part of a Calibration."""

    bandwidth: tuple[BandwidthPoint, ...]
    gemm: tuple[GemmPoint, ...]
    peaks: tuple[PeakPoint, ...]
    overhead_seconds: float
    overhead_seconds_alone: float


def measure_compiled(extent: Extent, num_threads: int, progress: Progress) -> Compiled | None:
    """None if nothing can be compiled here."""
    smallest, largest = extent.working_sets_bytes[0], usable_bytes(_CPU) // 4
    sizes = [size for size in extent.working_sets_bytes if size == smallest or size <= largest]
    progress("compiling kernels", 0.0)
    data = torch.ones(max(sizes[-1], _MANY_ROWS_BYTES + 2 * _MIB) // 4)
    opened: dict[int, Peaks] = {}
    for threads in sorted({1, num_threads}):
        peaks = open_peaks(data, threads)
        if peaks is None:
            return None
        opened[threads] = peaks
    calls = _overheads(opened, extent, part(progress, "overhead of a call", 0.0, 0.05))
    return Compiled(
        bandwidth=(
            *_reads(opened, extent, sizes, part(progress, "memory bandwidth", 0.05, 0.35)),
            *_small_ops(opened, extent, calls, part(progress, "small ops", 0.35, 0.4)),
        ),
        gemm=(
            *_products(opened, extent, sizes[-1], calls, part(progress, "matrix products", 0.4, 0.85)),
            *_attention(opened, extent, calls, part(progress, "attention", 0.85, 0.9)),
        ),
        peaks=_instructions(opened, extent, part(progress, "instructions", 0.9, 0.95)),
        overhead_seconds=calls[num_threads],
        overhead_seconds_alone=calls[1],
    )


_Share = Callable[[float], None]
Key = TypeVar("Key")


def _time(
    tasks: Mapping[tuple[str, int, Key], Task], seconds: float, progress: _Share
) -> Iterator[tuple[int, Key, Task, Timing]]:
    """Tasks by group, threads and something else, timed in turns; those that would take too long are left out."""
    cases = {Case(key[0], key[1], task.work, task.run): (key[1], key[2], task) for key, task in tasks.items()}
    for case, timing in time_all(_CPU, list(cases), seconds, progress):
        yield *cases[case], timing


def _overheads(opened: Mapping[int, Peaks], extent: Extent, progress: _Share) -> dict[int, float]:
    """Seconds of a recorded call that has nothing to do, by threads."""
    tasks = {("call", threads, None): peaks.calls() for threads, peaks in opened.items()}
    timed = _time(tasks, extent.other_seconds / 4, progress)
    return {threads: timing.best / task.calls for threads, _, task, timing in timed}


def _reads(
    opened: Mapping[int, Peaks], extent: Extent, sizes: Sequence[int], progress: _Share
) -> Iterator[BandwidthPoint]:
    tasks = {("read", threads, size): peaks.read(size) for threads, peaks in opened.items() for size in sizes}
    for threads, size, task, timing in _time(tasks, extent.read_seconds, progress):
        yield BandwidthPoint(size, threads, "read", task.work / timing.seconds, timing.spread)


def _small_ops(
    opened: Mapping[int, Peaks], extent: Extent, calls: Mapping[int, float], progress: _Share
) -> Iterator[BandwidthPoint]:
    tasks = {
        ("small", threads, rows): peaks.small_ops(rows=rows, columns=_SMALL_COLUMNS)
        for threads, peaks in opened.items()
        for rows in extent.small_rows
    }
    for threads, _, task, timing in _time(tasks, extent.other_seconds, progress):
        seconds = timing.without(task.calls * calls[threads], most=_MOST_OVERHEAD)
        yield BandwidthPoint(task.work // task.calls, threads, SMALL_OPS, task.work / seconds, timing.spread)


def _products(
    opened: Mapping[int, Peaks], extent: Extent, largest: int, calls: Mapping[int, float], progress: _Share
) -> Iterator[GemmPoint]:
    """Of few rows: weights that a core's cache holds, and weights from memory."""
    tasks = {}
    for threads, peaks in opened.items():
        for weight_format in peaks.formats:
            for rows in extent.rows:
                for width, num_bytes in (
                    (_CACHED_WIDTH, _CACHED_BYTES),
                    (_WIDTH, largest if rows <= _FEW_ROWS else _MANY_ROWS_BYTES),
                ):
                    task = peaks.product(weight_format, rows=rows, columns=width, outputs=width, num_bytes=num_bytes)
                    tasks[f"{weight_format.name} {rows}", threads, (weight_format, rows, width, num_bytes)] = task
    for threads, (weight_format, rows, width, num_bytes), task, timing in _time(
        tasks, extent.product_seconds, progress
    ):
        rate = task.work / timing.without(task.calls * calls[threads], most=_MOST_OVERHEAD)
        name, math = weight_format.name, weight_format.math
        name = "" if name == math else name
        yield GemmPoint(math, rows, width, width, threads, rate, timing.spread, name, num_bytes)


def _attention(
    opened: Mapping[int, Peaks], extent: Extent, calls: Mapping[int, float], progress: _Share
) -> Iterator[GemmPoint]:
    """Of one row and of a whole prompt, for heads that share keys and heads that do not; `m` counts the queries that
    share them."""
    tasks = {}
    for threads, peaks in opened.items():
        for positions in extent.positions:
            for group in _GROUPS:
                for rows, num_sequences in ((1, _SEQUENCES), (min(positions, _PROMPT), 1)):
                    task = peaks.attention(rows=rows, group=group, positions=positions, num_sequences=num_sequences)
                    tasks["attention", threads, (rows * group, positions, peaks)] = task
    for threads, (queries, positions, peaks), task, timing in _time(tasks, extent.other_seconds, progress):
        rate = task.work / timing.without(task.calls * calls[threads], most=_MOST_OVERHEAD)
        num_bytes = positions * peaks.kv_bytes_per_position
        yield GemmPoint("fp32", queries, positions, peaks.head_dim, threads, rate, timing.spread, ATTENTION, num_bytes)


def _instructions(opened: Mapping[int, Peaks], extent: Extent, progress: _Share) -> tuple[PeakPoint, ...]:
    tasks = {(math, threads, math): peaks.peak(math) for threads, peaks in opened.items() for math in peaks.maths}
    timed = _time(tasks, extent.other_seconds, progress)
    return tuple(
        PeakPoint(math, threads, task.work / timing.best, timing.spread) for threads, math, task, timing in timed
    )

"""`farthing probe`: measures this machine, shows what was found and keeps it for plans and for `run`.

Knows flags and how the figures look; runtime/probe.py measures and is loaded when it is needed.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from farthing import discover
from farthing.cli import output
from farthing.hardware.calibration import (
    ATTENTION,
    SMALL_OPS,
    BandwidthPoint,
    Calibration,
    GemmPoint,
    PeakPoint,
    save,
    to_json_object,
)
from farthing.units import format_bytes, format_count, format_seconds

_BAR_WIDTH = 24
_BUSY_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class ProbeFlags:
    """What `farthing probe` is told."""

    device: Annotated[str, Parameter(help="auto (the freest GPU where there is one), cpu, cuda, cuda:1.")] = "auto"
    quick: Annotated[
        bool, Parameter(help="Fewer sizes: 5 seconds instead of a minute; longer on a GPU, for kernels are compiled.")
    ] = False
    json: Annotated[bool, Parameter(help="Print the measured figures as one JSON object.")] = False


_DEFAULTS = ProbeFlags()


def probe(*, flags: Annotated[ProbeFlags, Parameter(name="*")] = _DEFAULTS) -> None:
    """Measure a device, print what was found, and keep it."""
    measure = discover.load("farthing.runtime", "probe").probe
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        calibration: Calibration = measure(
            flags.device,
            quick=flags.quick,
            progress=lambda what, fraction: bar.update(task, description=what, completed=fraction),
        )
    if flags.json:
        output.print_json(to_json_object(calibration))
    else:
        print_tables(calibration)
    output.stderr.print(f"saved to {save(calibration)}", soft_wrap=True)
    if was_busy(calibration):
        output.stderr.print("the machine was busy, so these limits are too low: probe again when it is idle")


def was_busy(calibration: Calibration) -> bool:
    """Repeats differ a lot, or all threads together read memory or compute slower than one: others took the cores."""
    spreads = [point.spread for point in calibration.bandwidth] + [point.spread for point in calibration.gemm]
    reads = [point for point in calibration.bandwidth if point.op != SMALL_OPS]
    largest = max(reads, key=lambda point: (point.working_set_bytes, point.bytes_per_second))
    most_threads = max(point.num_threads for point in calibration.bandwidth)
    fastest = max(calibration.peaks, key=lambda point: point.flops_per_second, default=None)
    alone = fastest is not None and fastest.num_threads < most_threads
    return statistics.median(spreads) > _BUSY_SPREAD or largest.num_threads < most_threads or alone


def print_tables(calibration: Calibration) -> None:
    """Bandwidth, matrix products, overhead and memory, to stdout."""
    device = calibration.device
    output.stdout.print(f"{device.name} · {device.num_cores} cores · {device.versions}", soft_wrap=True)
    output.stdout.print(_bandwidth_table([point for point in calibration.bandwidth if point.op != SMALL_OPS]))
    output.stdout.print(_gemm_table([point for point in calibration.gemm if point.format != ATTENTION]))
    if calibration.peaks:
        output.stdout.print(_peak_table(calibration.peaks))
    call = "recorded call" if calibration.records else "torch call"
    output.stdout.print(f"{f'overhead of a {call}':<25} {format_seconds(calibration.overhead_seconds_per_op)}")
    if calibration.records:
        output.stdout.print(f"around a step's calls     {format_seconds(calibration.overhead_seconds_per_step)}")
    output.stdout.print(f"interpreter and torch     {format_bytes(calibration.process_bytes)}")
    if calibration.device_context_bytes:
        output.stdout.print(f"context on the device     {format_bytes(calibration.device_context_bytes)}")


def _bandwidth_table(points: Sequence[BandwidthPoint]) -> Table:
    """A row per working set: the best op of one thread and of all of them, a bar for the better of both."""
    table = Table(title="read bandwidth", title_justify="left", box=None, padding=(0, 2))
    thread_counts = sorted({point.num_threads for point in points})
    table.add_column("working set", justify="right")
    for count in thread_counts:
        table.add_column(f"{count} thread" + "s" * (count > 1), justify="right")
    table.add_column("")
    best: dict[int, dict[int, BandwidthPoint]] = {}
    for point in sorted(points, key=lambda point: (point.working_set_bytes, point.bytes_per_second)):
        best.setdefault(point.working_set_bytes, {})[point.num_threads] = point
    highest = max(point.bytes_per_second for point in points)
    for size, by_threads in best.items():
        texts = [_read_rate(by_threads[count]) if count in by_threads else "-" for count in thread_counts]
        top = max(point.bytes_per_second for point in by_threads.values())
        table.add_row(format_bytes(size), *texts, "█" * round(_BAR_WIDTH * top / highest))
    return table


def _gemm_table(points: Sequence[GemmPoint]) -> Table:
    """A row per format or math, a column per number of rows that meet the matrix: the best shape and threads."""
    table = Table(title="matrix products", title_justify="left", box=None, padding=(0, 1))
    counts = sorted({point.m for point in points})
    table.add_column("rows:", justify="right")
    for count in counts:
        table.add_column(str(count), justify="right")
    best: dict[str, dict[int, GemmPoint]] = {}
    for point in sorted(points, key=lambda point: point.flops_per_second):
        best.setdefault(point.kind, {})[point.m] = point
    for kind in dict.fromkeys(point.kind for point in points):
        rates = best[kind]
        table.add_row(kind, *(_product_rate(rates[count]) if count in rates else "-" for count in counts))
    return table


def _peak_table(points: Sequence[PeakPoint]) -> Table:
    """A row per number of threads, a column per math."""
    table = Table(title="multiplications and additions, no memory", title_justify="left", box=None, padding=(0, 2))
    maths = list(dict.fromkeys(point.math for point in points))
    table.add_column("threads", justify="right")
    for name in maths:
        table.add_column(name, justify="right")
    for count in sorted({point.num_threads for point in points}):
        rates = {point.math: point.flops_per_second for point in points if point.num_threads == count}
        table.add_row(str(count), *(format_count(rates[name], "FLOP/s") if name in rates else "-" for name in maths))
    return table


def _read_rate(point: BandwidthPoint) -> str:
    return f"{format_count(point.bytes_per_second, 'B/s')} ±{50 * point.spread:.0f} %"


def _product_rate(point: GemmPoint) -> str:
    return format_count(point.flops_per_second, "FLOP/s")

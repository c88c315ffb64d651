"""Measures this machine: what its memory, its arithmetic, a call and a step reach, as far as a forecast needs it.

On a processor with the kernels that are compiled for it (probe_compiled.py), else with torch's own operations
(probe_torch.py), and on a GPU with the engine's kernels beside them (probe_graph.py). Rates are medians of interleaved
repeats; instruction peaks and what a call costs are the best of theirs. Knows no model (probe_call.py has a tiny one);
hardware/calibration.py keeps what is found here.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from farthing.hardware.calibration import Calibration, DeviceKey, cpu_key, cuda_key
from farthing.kernels.peaks import compiled_version, gpu_version
from farthing.runtime import probe_compiled, probe_graph, probe_torch
from farthing.runtime.device import open_device
from farthing.runtime.probe_call import host_seconds, seconds_per_call
from farthing.runtime.probe_graph_calls import graph_seconds
from farthing.runtime.probe_timing import Progress, synchronize_after
from farthing.runtime.process_memory import process_bytes

_CALL_SECONDS = 0.1
_MOST_CONTEXT_BYTES = 2**30  # more than any context takes: the rest is held by other processes
_HOST_SECONDS = 0.3  # of each of three cases


def probe(device: str = "cpu", *, quick: bool, progress: Progress, compiled: bool = True) -> Calibration:
    """Measure `device` ("cpu", "cuda", "cuda:1", "auto") in about 5 s (`quick`) or 60 s; on a GPU, whose kernels are
    compiled for it, in longer.

    `progress(what, fraction)` is called all along. `compiled` False: as if nothing could be compiled. UsageError if
    there is no such device. Torch's thread count is changed while it runs and put back.
    """
    target = open_device(device)
    num_threads = torch.get_num_threads()
    try:
        fixed = _measure_fixed_memory(target)
        if compiled and target.type == "cpu":
            extent = probe_compiled.QUICK if quick else probe_compiled.FULL
            found = probe_compiled.measure_compiled(extent, num_threads, progress)
            if found is not None:
                return _with_compiled(found, target, num_threads, fixed, progress)
        whole = _with_torch(probe_torch.QUICK if quick else probe_torch.FULL, target, num_threads, fixed, progress)
        return _with_graphs(whole, probe_graph.QUICK if quick else probe_graph.FULL, target, progress)
    finally:
        torch.set_num_threads(num_threads)


@torch.inference_mode()
def _with_torch(
    plan: probe_torch.Plan, device: torch.device, num_threads: int, fixed: tuple[int, int], progress: Progress
) -> Calibration:
    overhead_seconds = probe_torch.measure_overhead(device, progress)
    torch.set_num_threads(1)  # a second thread would only wait
    call_seconds = seconds_per_call(device, _CALL_SECONDS)
    torch.set_num_threads(num_threads)
    bandwidth = probe_torch.measure_bandwidth(device, plan, num_threads, overhead_seconds, progress)
    gemm = probe_torch.measure_gemm(device, plan, num_threads, overhead_seconds, progress)
    progress("done", 1.0)
    return Calibration(
        device=device_key(device, compiled=False),
        date=_now(),
        bandwidth=bandwidth,
        gemm=gemm,
        links=(),
        overhead_seconds_per_op=call_seconds,
        process_bytes=fixed[0],
        device_context_bytes=fixed[1],
    )


def _with_graphs(
    measured: Calibration, extent: probe_graph.Extent, device: torch.device, progress: Progress
) -> Calibration:
    """Where the engine captures its steps, also what its own kernels reach in them, and what calls cost there."""
    kernels = probe_graph.graph_kernels(device)
    if not kernels:
        return measured
    products = probe_graph.measure_products(device, kernels, extent, progress)
    call_seconds, step_seconds = graph_seconds(device)
    return replace(
        measured,
        gemm=(*measured.gemm, *products),
        records=True,
        overhead_seconds_per_op=call_seconds,
        overhead_seconds_per_step=step_seconds,
    )


def _with_compiled(
    found: probe_compiled.Compiled, device: torch.device, num_threads: int, fixed: tuple[int, int], progress: Progress
) -> Calibration:
    per_step, per_sequence, per_logit = host_seconds(num_threads, _HOST_SECONDS)
    progress("done", 1.0)
    return Calibration(
        device=device_key(device, compiled=True),
        date=_now(),
        bandwidth=found.bandwidth,
        gemm=found.gemm,
        links=(),
        overhead_seconds_per_op=found.overhead_seconds,
        process_bytes=fixed[0],
        device_context_bytes=fixed[1],
        peaks=found.peaks,
        records=True,
        overhead_seconds_per_op_alone=found.overhead_seconds_alone,
        overhead_seconds_per_step=per_step,
        overhead_seconds_per_sequence=per_sequence,
        overhead_seconds_per_logit=per_logit,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_key(device: torch.device, *, compiled: bool) -> DeviceKey:
    """`compiled`: the kernels that are compiled for a processor run on it, if they can be. Those of a GPU do where they
    can, whatever the format that is asked for."""
    if device.type == "cpu":
        return cpu_key(compiled_version() if compiled else "")
    try:
        driver = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    except OSError:
        driver = None
    name = torch.cuda.get_device_name(device)
    driver_version = driver.group() if driver else "unknown"
    return cuda_key(name, cuda=str(torch.version.cuda), driver=driver_version, kernels=gpu_version(device))


def _measure_fixed_memory(device: torch.device) -> tuple[int, int]:
    """Bytes of this process and of the device that are taken before any model: code, threads, context.

    On a GPU what other processes hold of it is not told apart, but a context is not taken to be larger than any is.
    """
    square = torch.ones(64, 64, device=device)
    synchronize_after(device, lambda: square @ square)
    if device.type == "cpu":
        return process_bytes(), 0
    free, total = torch.cuda.mem_get_info(device)
    return process_bytes(), min(total - free - torch.cuda.memory_reserved(device), _MOST_CONTEXT_BYTES)

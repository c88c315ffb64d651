"""Seconds of what a device does, beside those of the clock on the wall; on a CPU both are the same."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Timed:
    """Of one step, medians: on the wall, and on the device from the first kernel to the last."""

    wall_seconds: float
    device_seconds: float

    @property
    def host_share(self) -> float:
        """Of the wall's time, that in which the device had nothing to do."""
        return max(0.0, 1.0 - self.device_seconds / self.wall_seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(device: torch.device, call: Callable[[], object], repeats: int) -> float:
    """Of a call from its start until the device is done; once before, unmeasured."""
    call()
    found = []
    for _ in range(repeats):
        synchronize(device)
        begin = time.perf_counter()
        call()
        synchronize(device)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def time_steps(device: torch.device, steps: Sequence[Callable[[], object]]) -> Timed:
    """Steps that follow each other without a pause, as a decoding engine has them: seconds of one. The device's are
    those between two marks around each step, in which it waits for nobody."""
    if device.type != "cuda":
        begin = time.perf_counter()
        for step in steps:
            step()
        seconds = (time.perf_counter() - begin) / len(steps)
        return Timed(seconds, seconds)
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in steps]
    synchronize(device)
    begin = time.perf_counter()
    for step, (first, last) in zip(steps, marks, strict=True):
        first.record()
        step()
        last.record()
    synchronize(device)
    wall = (time.perf_counter() - begin) / len(steps)
    return Timed(wall, statistics.median(first.elapsed_time(last) for first, last in marks) / 1e3)

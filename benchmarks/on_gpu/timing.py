"""Seconds of what a device does, beside those of the clock on the wall; on a CPU both are the same."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_CYCLES_PER_SECOND = 2e9  # of a GPU's clock, about: how long it is told to wait
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Timed:
    """Of one step: on the wall while steps follow each other, and on a device that has all of its work before it."""

    wall_seconds: float
    device_seconds: float

    @property
    def host_share(self) -> float:
        """Of the wall's time, that in which the device had nothing to do."""
        return max(0.0, 1.0 - self.device_seconds / self.wall_seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(device: torch.device, call: Callable[[], object], repeats: int, calls: int) -> float:
    """Of one of several calls that follow each other until the device is done; once before, unmeasured."""
    call()
    found = []
    for _ in range(repeats):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        found.append((time.perf_counter() - begin) / calls)
    return statistics.median(found)


def device_seconds(
    device: torch.device, call: Callable[[], object], after: Callable[[], object], *, host_seconds: float
) -> float:
    """Of what `call` hands to the device, which waits first until the host is done with it: at most `host_seconds`.
    What a call waits for the device in the middle of it is counted as the device's. `after` follows, unmeasured."""
    found = []
    for _ in range(_REPEATS):
        synchronize(device)
        if device.type == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(int(host_seconds * _CYCLES_PER_SECOND))
            first.record()
            call()
            last.record()
            after()
            synchronize(device)
            found.append(first.elapsed_time(last) / 1e3)
        else:
            begin = time.perf_counter()
            call()
            found.append(time.perf_counter() - begin)
            after()
    return statistics.median(found)

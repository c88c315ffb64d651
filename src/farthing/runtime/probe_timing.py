"""Times things in turns: all cases, then all again, so that a disturbance of a second falls on all of them alike.

Knows a clock; what is timed is runtime/probe_torch.py's and runtime/probe_compiled.py's.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Progress = Callable[[str, float], None]

_SAMPLE_SECONDS = 0.001  # a sample repeats a short pass until it is this long
_MIN_ROUNDS, _MAX_ROUNDS = 2, 31


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time. `work`: bytes or FLOPs of one pass; cases of one `group` come from small to large."""

    group: str
    num_threads: int
    work: int
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """`seconds`: the median of the repeats; `best`: the shortest, for what is a limit whatever else runs."""

    seconds: float
    spread: float
    best: float

    def without(self, overhead_seconds: float, *, most: float = 0.5) -> float:
        """Seconds of the work alone; the forecast adds the overhead, which is `most` of them at most."""
        return max(self.seconds - overhead_seconds, (1 - most) * self.seconds)


def part(progress: Progress, what: str, start: float, end: float) -> Callable[[float], None]:
    """Progress of a part, 0 to 1, as progress of the whole, `start` to `end`."""
    return lambda fraction: progress(what, start + (end - start) * fraction)


def time_all(
    device: torch.device, cases: Sequence[Case], seconds: float, progress: Callable[[float], None]
) -> list[tuple[Case, Timing]]:
    """Time the cases in turns for about `seconds`. Left out: what torch can't do here, and what would take too long."""
    start = time.perf_counter()

    def sample(case: Case, passes: int) -> float:
        torch.set_num_threads(case.num_threads)
        synchronize_after(device, case.run)  # brings the working set back into the caches
        begin = time.perf_counter()
        for _ in range(passes - 1):
            case.run()
        synchronize_after(device, case.run)
        end = time.perf_counter()
        progress(min(1.0, (end - start) / seconds))
        return (end - begin) / passes

    passes: dict[Case, int] = {}
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
    samples: dict[Case, list[float]] = {case: [] for case in passes}
    for number in range(_MAX_ROUNDS):
        if number >= _MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        for case in samples:
            samples[case].append(sample(case, passes[case]))
    return [(case, _summarize(values)) for case, values in samples.items()]


def _summarize(seconds: list[float]) -> Timing:
    median = statistics.median(seconds)
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, (upper - lower) / median, min(seconds))


def synchronize_after(device: torch.device, run: Callable[[], object]) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)

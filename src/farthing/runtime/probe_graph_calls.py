"""What a recorded step costs a GPU beside its work: a call in a graph, and what passes between two graphs.

The host is ahead, as it is while a model runs: times are the device's. Knows no model; runtime/probe.py asks.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from farthing.runtime.graph import captured
from farthing.runtime.inputs import InputBuffers, Limits
from farthing.scheduler.batch import Batch, BatchItem

_CALLS = 500
_STEPS = 20
_ROUNDS = 7
_BLOCK_SIZE = 16
_BUSY_WIDTH, _BUSY_PRODUCTS = 4096, 4  # some 10 ms, in which the host gets ahead


def graph_seconds(device: torch.device) -> tuple[float, float]:
    """Of a call that has next to nothing to do, and of a step without calls: its inputs on their way to the device, the
    start of a graph, and tokens on their way back."""
    one = torch.zeros(1, device=device)
    few, many = (captured(partial(_add, one, count)) for count in (1, 1 + _CALLS))
    matrix = torch.ones(_BUSY_WIDTH, _BUSY_WIDTH, device=device)
    buffers = InputBuffers(Limits(1, 1, _BLOCK_SIZE), block_size=_BLOCK_SIZE, device=device, depth=2)
    batch = Batch(0, (BatchItem(0, 3, (5,), (0,), True, 0),))
    host = torch.empty(1, pin_memory=True)

    def steps() -> None:
        for _ in range(_STEPS):
            buffers.fill(batch)
            few.replay()
            host.copy_(one, non_blocking=True)

    for run in (few.replay, many.replay, steps):
        run()
    per_call = (_seconds(many.replay, matrix) - _seconds(few.replay, matrix)) / _CALLS
    return max(per_call, 1e-9), max(_seconds(steps, matrix) / _STEPS, 0.0)


def _add(one: torch.Tensor, times: int) -> None:
    """Calls that wait for each other, as a layer's do."""
    for _ in range(times):
        one.add_(1)


def _seconds(run: Callable[[], None], matrix: torch.Tensor) -> float:
    """Median of the device's time from the first to the last of what `run` queues."""
    found = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(_BUSY_PRODUCTS):
            matrix @ matrix
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return median(found)

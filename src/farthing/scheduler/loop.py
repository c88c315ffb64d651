"""The loop, written once: the engine runs it with a real executor, the planner with one that does arithmetic.

Knows neither tensors nor prices: an executor turns batches into tokens and finish times, a clock says what time it is.
Whoever calls `step` waits for messages, or jumps to the next arrival, when there is nothing to do.
"""

import time
from typing import Protocol

from farthing.scheduler.batch import Batch, Done, TokenOutput
from farthing.scheduler.scheduler import Scheduler


class Executor(Protocol):
    """Executes batches in the order of `submit`, at most `depth` at a time."""

    @property
    def depth(self) -> int: ...

    @property
    def in_flight(self) -> int:
        """Batches submitted and not collected."""
        ...

    def submit(self, batch: Batch) -> None: ...

    def collect(self) -> Done:
        """The oldest batch in flight; waits for it."""
        ...


class Clock(Protocol):
    """Seconds from an arbitrary origin, the same as that of `Sequence.arrival_time` and `Done.finished_at`."""

    def now(self) -> float: ...

    def advance_to(self, seconds: float) -> None: ...


class RealClock:
    """The machine's monotonic clock; it advances by itself."""

    def now(self) -> float:
        return time.monotonic()

    def advance_to(self, seconds: float) -> None:
        pass


class VirtualClock:
    """Stands still until it is told to jump; a moment that has passed changes nothing."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return self._seconds

    def advance_to(self, seconds: float) -> None:
        self._seconds = max(self._seconds, seconds)


def step(scheduler: Scheduler, executor: Executor, clock: Clock) -> tuple[TokenOutput, ...]:
    """Fills the executor, collects its oldest batch, and returns the tokens that came out.

    Returns () when idle, but also after a batch that yields no token (a chunk of a prompt, a cancelled sequence).
    There is work as long as `scheduler.has_unfinished or executor.in_flight`.
    """
    while executor.in_flight < executor.depth and (batch := scheduler.schedule(clock.now())):
        executor.submit(batch)
    if not executor.in_flight:
        return ()
    done = executor.collect()
    clock.advance_to(done.finished_at)
    return scheduler.update(done)

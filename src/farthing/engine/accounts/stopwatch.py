"""How long an executor had the engine's thread: an Executor around another one, of which it changes nothing.

Knows no batches' meaning and no prices.
"""

import time

from farthing.scheduler.batch import Batch, Done
from farthing.scheduler.loop import Executor


class Stopwatch:
    """`lap()` gives the seconds since the lap before that were spent inside the executor, and what it brought last."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._seconds = 0.0
        self._done: Done | None = None

    @property
    def depth(self) -> int:
        return self._executor.depth

    @property
    def in_flight(self) -> int:
        return self._executor.in_flight

    def submit(self, batch: Batch) -> None:
        started = time.monotonic()
        self._executor.submit(batch)
        self._seconds += time.monotonic() - started

    def collect(self) -> Done:
        started = time.monotonic()
        self._done = self._executor.collect()
        self._seconds += time.monotonic() - started
        return self._done

    def lap(self) -> tuple[float, Done | None]:
        lap = self._seconds, self._done
        self._seconds, self._done = 0.0, None
        return lap

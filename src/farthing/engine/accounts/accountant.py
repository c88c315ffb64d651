"""The engine's own bookkeeping: each step timed, priced, divided among its requests, and added to the ledger.

A step's time runs from the end of the step before it, if that left work, so that the steps of a busy engine leave no
gap. Knows no tensors and no text: engine.py says when a step begins and ends.
"""

import time
from collections.abc import Callable

from farthing.engine.accounts.ledger import Ledger
from farthing.engine.accounts.step_price import Measured, StepPricer
from farthing.engine.accounts.step_record import Charge, StepRecord
from farthing.engine.accounts.stopwatch import Stopwatch
from farthing.ops.batch import BatchShape
from farthing.scheduler.scheduler import Scheduler

Owner = tuple[str, str]  # request id, and whose request it is


class Accountant:
    """`last`: the record of the newest step, and `charges` those of its requests; None and nothing after a step that
    computed nothing. `pricer` None: nothing is measured."""

    def __init__(self, pricer: StepPricer | None, scheduler: Scheduler, stopwatch: Stopwatch) -> None:
        self._pricer, self._scheduler, self._stopwatch = pricer, scheduler, stopwatch
        self.ledger = Ledger()
        self.last: StepRecord | None = None
        self.charges: list[Charge] = []
        self._computed: tuple[BatchShape, list[Owner], float] | None = None
        self._since: float | None = None

    def begin(self) -> None:
        """Before a step."""
        self.last, self.charges, self._computed = None, [], None
        if self._since is None:
            self._since = time.monotonic()

    def computed(self, owner_of: Callable[[int], Owner]) -> None:
        """Behind the executor. `owner_of(seq_id)` is asked now: the ends of sequences are not taken yet."""
        seconds, done = self._stopwatch.lap()
        if done is not None and self._pricer is not None:
            owners = [owner_of(item.seq_id) for item in done.batch.items]
            self._computed = done.batch.shape, owners, seconds

    def end(self, *, more: bool) -> None:
        """Behind everything that a step brings; `more`: whether the next one follows at once."""
        assert self._since is not None
        started, now = self._since, time.monotonic()
        self._since = now if more and self._computed is not None else None
        if self._computed is None or self._pricer is None:
            return
        shape, owners, executor_seconds = self._computed
        scheduler, pool = self._scheduler, self._scheduler.block_pool
        measured = Measured(
            shape=shape,
            owners=owners,
            seconds=now - started,
            executor_seconds=executor_seconds,
            num_waiting=scheduler.num_waiting,
            waiting_for=scheduler.waiting_for,
            used_blocks=pool.num_blocks - pool.num_available,
            num_preemptions=scheduler.stats.num_preemptions,
        )
        self.last, self.charges = self._pricer.price(measured)
        self.ledger.record(self.last)

"""The engine's own bookkeeping: each step timed, priced, divided among its requests, and added to the ledger.

A step's time runs from the end of the step before it, if that left work, so that the steps of a busy engine leave no
gap. Steps are only noted as they end, and priced some at a time: in one go that takes a fraction of what it takes
between two steps. Knows no tensors and no text: engine.py says when a step begins and ends.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from farthing.engine.accounts.ledger import Ledger
from farthing.engine.accounts.step_price import Measured, StepPricer
from farthing.engine.accounts.step_record import Charge, Owner, StepRecord
from farthing.scheduler.batch import Batch
from farthing.scheduler.scheduler import Scheduler

_MAX_NOTED = 16  # steps
_MAX_NOTED_SECONDS = 0.25

OnSettled = Callable[[Sequence[StepRecord], Sequence[Charge]], None]


class Accountant:
    """`on_settled` is handed the records of steps, and the charges of their requests, once they are priced: at the
    latest with the step in which a request ends. `pricer` None: nothing is measured."""

    def __init__(self, pricer: StepPricer | None, scheduler: Scheduler) -> None:
        self._pricer, self._scheduler = pricer, scheduler
        self.on_settled: OnSettled = lambda steps, charges: None
        self._ledger = Ledger()
        self._noted: list[Measured] = []
        self._patience = 1  # steps that are noted before they are priced
        self._computed: tuple[Batch, list[Owner], float] | None = None
        self._since: float | None = None

    @property
    def ledger(self) -> Ledger:
        """Of all steps so far."""
        self.settle()
        return self._ledger

    def begin(self) -> None:
        """Before a step."""
        self._computed = None
        if self._since is None:
            self._since = time.monotonic()

    def computed(self, batch: Batch, seconds: float, owner_of: Callable[[int], Owner]) -> None:
        """Behind the executor, which was busy for so many seconds. `owner_of(seq_id)` is asked now: the ends of
        sequences are not taken yet."""
        if self._pricer is not None:
            owners = [owner_of(item.seq_id) for item in batch.items]
            self._computed = batch, owners, seconds

    def end(self, *, more: bool, ended: bool, num_outputs: int) -> None:
        """Behind everything that a step brings. `more`: whether the next one follows at once; `ended`: whether a
        request did; `num_outputs`: tokens that came."""
        assert self._since is not None
        started, now = self._since, time.monotonic()
        self._since = now if more and self._computed is not None else None
        if self._computed is not None:
            batch, owners, executor_seconds = self._computed
            scheduler, pool = self._scheduler, self._scheduler.block_pool
            step = Measured(
                time=time.time(),
                batch=batch,
                num_outputs=num_outputs,
                owners=owners,
                seconds=now - started,
                executor_seconds=executor_seconds,
                num_waiting=scheduler.num_waiting,
                waiting_for=scheduler.waiting_for,
                used_blocks=pool.num_blocks - pool.num_available,
                num_preemptions=scheduler.stats.num_preemptions,
            )
            self._noted.append(step)
            is_old = step.time - self._noted[0].time > _MAX_NOTED_SECONDS
            if ended or is_old or step.has_prompt or len(self._noted) >= self._patience:
                self.settle()
                # Soon after a prompt, and then ever more rarely: of an engine that is lost, the last steps are known.
                self._patience = 1 if step.has_prompt else min(2 * self._patience, _MAX_NOTED)
        if not more:
            self.rest()

    def rest(self) -> None:
        """Nothing is left to compute: the time until the next step is nobody's."""
        self.settle()
        self._since = None

    def settle(self) -> None:
        """Price what was noted."""
        noted, self._noted = self._noted, []
        if not noted or self._pricer is None:
            return
        records: list[StepRecord] = []
        charges: dict[str, Charge] = {}
        for alike in _alike(noted):
            priced, shares = self._pricer.price_alike(alike)
            for record in priced:
                self._ledger.record(record)
            records += priced
            for share in shares:
                charges[share.request_id] = _added(charges.get(share.request_id), share)
        self.on_settled(records, list(charges.values()))


def _alike(steps: Sequence[Measured]) -> Iterator[list[Measured]]:
    """Runs of steps that decode the same sequences with as many drafts; a step with a prompt is alone."""
    for _, run in groupby(steps, key=lambda step: object() if step.has_prompt else (step.owners, step.num_drafts)):
        yield list(run)


def _added(so_far: Charge | None, more: Charge) -> Charge:
    if so_far is None:
        return more
    return Charge(
        more.request_id,
        more.owner,
        so_far.seconds + more.seconds,
        so_far.limit_seconds + more.limit_seconds,
        max(so_far.queue_seconds, more.queue_seconds),
    )

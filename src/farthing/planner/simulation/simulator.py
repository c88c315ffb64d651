"""Requests dealt to the replicas of a deployment, and what becomes of them, second by second, without any hardware.

Each replica runs the scheduler and the loop that serve (planner/simulation/simulated_replica.py). The replica that is
furthest behind goes next; a request is dealt when no replica can still be at an earlier moment. Same workload, same
deployment: same result.
Knows no names of hardware and no flags.
"""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass

from farthing.planner.simulation.deployment import Deployment
from farthing.planner.simulation.simulated_replica import Outcome, SimulatedReplica, Totals
from farthing.planner.simulation.workload import Request, Workload

_TELL_EVERY_SECONDS = 0.5
_LOOK_EVERY_STEPS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """`outcomes` in the order of their requests; `replicas` as they ended, with their totals and statistics."""

    outcomes: tuple[Outcome, ...]
    replicas: tuple[SimulatedReplica, ...]

    @property
    def seconds(self) -> float:
        """From the beginning to the last end."""
        return max(outcome.ended for outcome in self.outcomes)

    @property
    def totals(self) -> tuple[Totals, ...]:
        return tuple(replica.totals for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class Progress:
    """For whoever watches: requests ended, of how many; the simulated time; real seconds since the start."""

    ended: int
    requests: int
    simulated_seconds: float
    real_seconds: float


def simulate(workload: Workload, deployment: Deployment, tell: Callable[[Progress], None] | None = None) -> Run:
    """Until every request has ended. `tell` is called about twice a second."""
    return _Simulation(workload, deployment, tell).run()


class _Simulation:
    def __init__(self, workload: Workload, deployment: Deployment, tell: Callable[[Progress], None] | None) -> None:
        self._workload, self._deployment, self._tell = workload, deployment, tell
        self._replicas = [SimulatedReplica(number, shape, workload) for number, shape in enumerate(deployment.replicas)]
        self._outcomes: list[Outcome | None] = [None] * len(workload.requests)
        self._num_ended = self._num_dealt = 0
        self._busy: list[tuple[float, int]] = []  # (where it stands, replica): a heap
        self._arrivals: list[tuple[float, int]] = []  # (moment, index of the request): a heap
        self._next_of_users = len(workload.requests)
        if workload.users is None:
            self._arrivals = [(_arrival(request), request.index) for request in workload.requests]
            heapq.heapify(self._arrivals)
        else:
            self._next_of_users = min(workload.users, len(workload.requests))
            for request in workload.requests[: self._next_of_users]:
                heapq.heappush(self._arrivals, (request.think_seconds, request.index))

    def run(self) -> Run:
        began, told, steps = time.monotonic(), time.monotonic(), 0
        while self._busy or self._arrivals:
            self._deal_due()
            _, number = heapq.heappop(self._busy)
            replica = self._replicas[number]
            for outcome in replica.step():
                self._end(outcome)
            if replica.has_work:
                heapq.heappush(self._busy, (replica.now, number))
            steps += 1
            if self._tell is None or steps % _LOOK_EVERY_STEPS:
                continue
            if (now := time.monotonic()) - told >= _TELL_EVERY_SECONDS:
                told = now
                self._tell(Progress(self._num_ended, len(self._outcomes), replica.now, now - began))
        outcomes = tuple(outcome for outcome in self._outcomes if outcome is not None)
        assert len(outcomes) == len(self._outcomes), "every request ends"
        return Run(outcomes, tuple(self._replicas))

    def _deal_due(self) -> None:
        """All that have come by the moment at which the replica furthest behind stands; of idle ones the first."""
        wait = self._deployment.request_seconds
        while self._arrivals:
            at = self._arrivals[0][0] + wait
            if self._busy and at > self._busy[0][0]:
                return
            arrival, index = heapq.heappop(self._arrivals)
            number = self._choose(at)
            replica = self._replicas[number]
            was_idle = not replica.has_work
            replica.take(self._workload.requests[index], arrival, at)
            if was_idle:
                heapq.heappush(self._busy, (replica.now, number))
            self._num_dealt += 1

    def _choose(self, at: float) -> int:
        count = len(self._replicas)
        if count == 1:
            return 0
        in_turn = self._num_dealt % count
        if self._deployment.dealing == "round-robin":
            return in_turn
        loads = [replica.outstanding(at) for replica in self._replicas]
        return min(range(count), key=lambda number: (loads[number], (number - in_turn) % count))  # of equals the next

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.request.index] = outcome
        self._num_ended += 1
        if self._workload.users is not None and self._next_of_users < len(self._workload.requests):
            request = self._workload.requests[self._next_of_users]
            self._next_of_users += 1
            heapq.heappush(self._arrivals, (outcome.ended + request.think_seconds, request.index))


def _arrival(request: Request) -> float:
    assert request.arrival is not None
    return request.arrival

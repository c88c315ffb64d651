"""One copy of a model that serves: the engine's own scheduler and loop on a virtual clock, with an executor that does
arithmetic. It counts what becomes of its requests, and what its time and its KV pool go to.

Knows no other replicas and no arrivals to come: planner/simulation/simulator.py deals the requests.
"""

from collections import deque
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from farthing.errors import RequestError
from farthing.planner.simulation.simulated_executor import SimulatedExecutor
from farthing.planner.simulation.workload import Request, Workload
from farthing.planner.timing.batch_pricer import Pricer
from farthing.scheduler.loop import VirtualClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """`stages`: of each pipeline stage the pricers of its different devices. `num_blocks` KV blocks of `block_size`
    tokens: those of the rank with the least room. `context`: tokens of the longest sequence. `step_seconds`: of the
    host before each batch. `overlaps`: the next batch is made while one computes, before its tokens are known."""

    stages: tuple[tuple[Pricer, ...], ...]
    num_blocks: int
    block_size: int
    max_num_seqs: int
    max_batch_tokens: int
    context: int
    step_seconds: float = 0.0
    overlaps: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of a request. Times in seconds since the beginning. `refused`: why it never ran, else empty."""

    request: Request
    replica: int
    arrival: float
    first_token: float = 0.0
    ended: float = 0.0
    output_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    refused: str = ""

    @property
    def ttft_seconds(self) -> float:
        return self.first_token - self.arrival

    @property
    def tpot_seconds(self) -> float | None:
        """Seconds a token after the first; None of an answer of one token."""
        return (self.ended - self.first_token) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def request_seconds(self) -> float:
        return self.ended - self.arrival


@dataclass(slots=True)
class Totals:
    """Sums over time, in (what) x seconds, and counts. `busy_seconds`: with a batch in flight."""

    busy_seconds: float = 0.0
    running: float = 0.0
    waiting: float = 0.0
    used_blocks: float = 0.0
    short_of_blocks: float = 0.0  # seconds in which the head of the queue waited for KV room
    short_of_slots: float = 0.0  # or for a place among max_num_seqs
    peak_running: int = 0
    peak_waiting: int = 0
    peak_used_blocks: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)  # seconds between tokens of a request, how often


class SimulatedReplica:
    """Alternates between `take` and `step`; `now` is where it stands. Requests come in the order of their times."""

    def __init__(self, number: int, shape: ReplicaShape, workload: Workload) -> None:
        self.totals = Totals()
        self._number, self._shape, self._workload = number, shape, workload
        self._clock = VirtualClock()
        self.executor = SimulatedExecutor(
            shape.stages, self._clock, step_seconds=shape.step_seconds, overlaps=shape.overlaps
        )
        self.scheduler = Scheduler(
            num_blocks=shape.num_blocks,
            block_size=shape.block_size,
            max_num_seqs=shape.max_num_seqs,
            max_batch_tokens=shape.max_batch_tokens,
            max_model_len=shape.context,
            max_tokens_in_flight=int(shape.overlaps),
        )
        self._queue: deque[tuple[Request, float]] = deque()  # behind those that the scheduler has
        self._live: dict[int, tuple[Sequence, Outcome]] = {}
        self._newest: dict[int, float] = {}  # when a request's newest token came
        self._ends: deque[float] = deque()
        self._num_taken = 0

    @property
    def now(self) -> float:
        return self._clock.now()

    @property
    def has_work(self) -> bool:
        return bool(self._queue) or self.scheduler.has_unfinished or self.executor.in_flight > 0

    def outstanding(self, at: float) -> int:
        """Requests taken and not ended by then; moments are asked for in order."""
        while self._ends and self._ends[0] <= at:
            self._ends.popleft()
            self._num_taken -= 1
        return self._num_taken

    def take(self, request: Request, arrival: float, at: float) -> None:
        """A request that a user sent at `arrival` and that is here `at`, not after `now` while there is work."""
        if not self.has_work:
            self._clock.advance_to(at)
        self._queue.append((request, arrival))
        self._num_taken += 1

    def step(self) -> list[Outcome]:
        """One turn of the loop. The requests that ended in it."""
        ended = self._feed()
        scheduler, totals, before = self.scheduler, self.totals, self._clock.now()
        outputs = step(scheduler, self.executor, self._clock)
        now = self._clock.now()
        newest, gaps, last_gap, times = self._newest, totals.gaps, 0.0, 0
        for seq_id, _, reason, _ in outputs:
            came = newest.get(seq_id)
            newest[seq_id] = now
            if came is None:
                self._live[seq_id][1].first_token = now
            elif now - came == last_gap:
                times += 1
            else:
                if times:
                    gaps.append((last_gap, times))
                last_gap, times = now - came, 1
            if reason is not None:
                ended.append(self._end(seq_id, now))
        if times:
            gaps.append((last_gap, times))
        self._count(now - before, num_ended=len(ended))
        return ended

    def _feed(self) -> list[Outcome]:
        """Hands the scheduler as many as it can look at in one step: it takes the first of its queue, never another.
        Those that it refuses have ended."""
        refused = []
        while self._queue and self.scheduler.num_waiting <= self._shape.max_num_seqs:
            request, arrival = self._queue.popleft()
            outcome = Outcome(request, self._number, arrival)
            sequence = Sequence(
                request.index,
                self._workload.prompt_ids(request),
                max_output_tokens=request.output_tokens,
                ignore_eos=True,
                arrival_time=arrival,
            )
            try:
                self.scheduler.add(sequence)
            except RequestError as error:
                outcome.refused, outcome.first_token, outcome.ended = error.what, arrival, arrival
                self._ends.append(self._clock.now())
                refused.append(outcome)
            else:
                self._live[request.index] = (sequence, outcome)
        return refused

    def _count(self, seconds: float, num_ended: int) -> None:
        totals, scheduler, pool = self.totals, self.scheduler, self.scheduler.block_pool
        waiting, used = scheduler.num_waiting + len(self._queue), pool.num_blocks - pool.num_available
        running = scheduler.num_running + num_ended
        totals.busy_seconds += seconds
        totals.running += seconds * running
        totals.waiting += seconds * waiting
        totals.used_blocks += seconds * used
        if scheduler.waiting_for == "blocks":
            totals.short_of_blocks += seconds
        elif scheduler.waiting_for == "slots":
            totals.short_of_slots += seconds
        totals.peak_running = max(totals.peak_running, running)
        totals.peak_waiting = max(totals.peak_waiting, waiting)
        totals.peak_used_blocks = max(totals.peak_used_blocks, used)

    def _end(self, seq_id: int, now: float) -> Outcome:
        sequence, outcome = self._live.pop(seq_id)
        del self._newest[seq_id]
        outcome.ended = now
        outcome.output_tokens = sequence.num_output_tokens
        outcome.cached_tokens = sequence.num_cached_tokens
        outcome.preemptions = sequence.num_preemptions
        self._ends.append(now)
        return outcome


def total_of(parts: Ordered[Totals]) -> Totals:
    """Of all replicas; peaks are added too, so they are at most what was there at one time."""
    whole = Totals()
    for part in parts:
        whole.busy_seconds += part.busy_seconds
        whole.running += part.running
        whole.waiting += part.waiting
        whole.used_blocks += part.used_blocks
        whole.short_of_blocks += part.short_of_blocks
        whole.short_of_slots += part.short_of_slots
        whole.peak_running += part.peak_running
        whole.peak_waiting += part.peak_waiting
        whole.peak_used_blocks += part.peak_used_blocks
        whole.gaps += part.gaps
    return whole

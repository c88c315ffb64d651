"""An executor that does arithmetic: batches go through the stages of a replica in the seconds that they are priced at.

One stage is a device by itself. In a pipeline a batch leaves a stage when it is done there and the next one is free.
Every token is the same; which ones come is not the question. Knows no arrivals and no requests.
"""

from collections import deque
from collections.abc import Sequence
from itertools import compress

from farthing.planner.simulation.workload import OUTPUT_TOKEN
from farthing.planner.timing.batch_pricer import Pricer, StageTime, slowest
from farthing.planner.timing.op_lines import BatchSums
from farthing.scheduler.batch import Batch, Done
from farthing.scheduler.loop import Clock


class SimulatedExecutor:
    """`stages`: of each stage the pricers of its different devices. `step_seconds`: of the host, before each batch.

    As many batches are in flight as there are stages, and as many again where the engine `overlaps`. `busy`: seconds of
    all stages together, by what they went to.
    """

    def __init__(
        self, stages: Sequence[Sequence[Pricer]], clock: Clock, *, step_seconds: float = 0.0, overlaps: bool = False
    ) -> None:
        assert stages and step_seconds >= 0
        self.busy = StageTime(0.0, 0.0, 0.0, 0.0)
        self.num_batches = 0
        self.depth = len(stages) * (1 + overlaps)
        self._stages, self._clock, self._step_seconds = stages, clock, step_seconds
        self._free_at = [0.0] * len(stages)
        self._flying: deque[Done] = deque()

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def submit(self, batch: Batch) -> None:
        sums = BatchSums.of(batch)
        free_at, last = self._free_at, len(self._stages) - 1
        at = max(self._clock.now(), free_at[0])
        for index, pricers in enumerate(self._stages):
            time = slowest([pricer.price(batch, sums) for pricer in pricers])
            latency = time.latency + (self._step_seconds if index == 0 else 0.0)
            at += time.bandwidth + time.compute + time.link + latency
            if index < last:
                at = max(at, free_at[index + 1])
            free_at[index] = at
            busy = self.busy
            self.busy = StageTime(
                busy.bandwidth + time.bandwidth,
                busy.compute + time.compute,
                busy.link + time.link,
                busy.latency + latency,
            )
        self.num_batches += 1
        seq_ids = [item[0] for item in batch.items]
        if sums.logits < len(seq_ids):
            seq_ids = list(compress(seq_ids, [item.samples for item in batch.items]))
        self._flying.append(Done(batch, dict.fromkeys(seq_ids, OUTPUT_TOKEN), at))

    def collect(self) -> Done:
        return self._flying.popleft()

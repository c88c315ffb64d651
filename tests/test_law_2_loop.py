"""Law 2: one loop. The engine makes the batches that the same loop makes with an executor that only computes times."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import CASES, Loaded, load, make_reference, save_reference

from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams
from farthing.scheduler.batch import Batch, Done
from farthing.scheduler.loop import Clock, RealClock, VirtualClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence

# (arrives before step, prompt tokens, output tokens): enough to force chunks, waiting and preemption in 40 blocks of 8.
TRACE = ((0, 50, 20), (0, 9, 30), (1, 120, 4), (2, 30, 60), (2, 30, 60), (5, 77, 33), (9, 5, 5), (30, 64, 64))
SIZES = {"num_blocks": 40, "block_size": 8, "max_num_seqs": 4, "max_batch_tokens": 32, "max_model_len": 256}


class Arithmetic:
    """An executor whose every token is the same and whose steps take what they are said to take."""

    depth = 1

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.finished_at = iter(seconds), 0.0
        self.batches: list[Batch] = []

    @property
    def in_flight(self) -> int:
        return len(self.batches)

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)

    def collect(self) -> Done:
        self.finished_at += next(self.seconds)
        batch = self.batches.pop()
        return Done(batch, {item.seq_id: 7 for item in batch.items if item.samples}, self.finished_at)


def sequences(by_step: bool) -> list[tuple[float, Sequence]]:
    """Prompts that share no prefix, since tokens are not the point here."""
    return [
        (
            arrival,
            Sequence(
                number,
                [3 + (number * 31 + i) % 200 for i in range(num_prompt)],
                max_output_tokens=num_output,
                ignore_eos=True,
                arrival_time=0.0 if by_step else arrival,
            ),
        )
        for number, (arrival, num_prompt, num_output) in enumerate(TRACE)
    ]


def batches(scheduler: Scheduler, executor: object, clock: Clock, on_add=lambda sequence: None) -> list[object]:
    """Drive the trace, arrivals by step number; (new tokens, context, samples) of each item of each batch."""
    waiting, made, number = sequences(by_step=True), [], 0
    submit = executor.submit

    def recording(batch: Batch) -> None:
        made.append([(item.seq_id, len(item.token_ids), item.start, item.samples) for item in batch.items])
        submit(batch)

    executor.submit = recording
    while waiting or scheduler.has_unfinished:
        for arrival, sequence in [entry for entry in waiting if entry[0] <= number]:
            waiting.remove((arrival, sequence))
            on_add(sequence)
            scheduler.add(sequence)
        step(scheduler, executor, clock)
        number += 1
    executor.submit = submit
    return made


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder: Path = tmp_path_factory.mktemp("model")
    save_reference(make_reference(CASES[1]), folder)
    return load(folder, num_blocks=SIZES["num_blocks"], block_size=SIZES["block_size"])


def test_engine_and_arithmetic_make_the_same_sequence_of_batches(loaded: Loaded) -> None:
    params = SamplingParams(temperature=0.0)

    def add(sequence: Sequence) -> None:
        state = RequestState(params, seed=0, sample_index=0, prompt_ids=(), stop_ids=frozenset())
        loaded.runner.add(sequence.seq_id, state, sequence.token_ids)

    scheduler = Scheduler(**SIZES)
    by_engine = batches(scheduler, loaded.runner, RealClock(), add)
    simulated = batches(Scheduler(**SIZES), Arithmetic([0.01] * 1000), VirtualClock())
    assert by_engine == simulated
    assert scheduler.stats.num_preemptions > 0, "the trace must be hard enough to show a difference"


def test_measured_step_times_reproduce_the_batches_of_a_wall_clock_run(loaded: Loaded) -> None:
    """Arrivals in seconds. The engine runs on the wall clock; fed with when its steps and waits ended, the loop makes
    the same batches on a virtual clock, with an executor that only does arithmetic."""
    params = SamplingParams(temperature=0.0)
    origin = time.monotonic()
    ends: list[float] = []

    def add(sequence: Sequence) -> None:
        state = RequestState(params, seed=0, sample_index=0, prompt_ids=(), stop_ids=frozenset())
        loaded.runner.add(sequence.seq_id, state, sequence.token_ids)

    def wall_clock(until: float) -> float:
        time.sleep(max(0.0, until - (time.monotonic() - origin)))
        ends.append(time.monotonic() - origin)
        return ends[-1]

    measured = timed_batches(loaded.runner, RealClock(), wall_clock, add)

    virtual, steps = VirtualClock(), iter(ends)
    simulated = timed_batches(
        Arithmetic([0.0] * 1000), virtual, lambda until: (virtual.advance_to(next(steps)), virtual.now())[1]
    )
    assert measured == simulated
    assert len({len(batch) for batch in measured}) > 2, "arrivals must meet a busy engine"


def timed_batches(
    executor: object, clock: Clock, time_after: Callable[[float], float], on_add=lambda sequence: None
) -> list[object]:
    """Drive the trace, arrivals in hundredths of a second. `time_after(until)`: the time after a step (until 0), or
    after a wait until then."""
    scheduler, waiting, now = Scheduler(**SIZES), sequences(by_step=False), 0.0
    made: list[object] = []
    submit = executor.submit

    def recording(batch: Batch) -> None:
        made.append([(item.seq_id, len(item.token_ids), item.start) for item in batch.items])
        submit(batch)

    executor.submit = recording
    while waiting or scheduler.has_unfinished:
        for entry in [entry for entry in waiting if entry[0] / 100 <= now]:
            waiting.remove(entry)
            on_add(entry[1])
            scheduler.add(entry[1])
        num_made = len(made)
        step(scheduler, executor, clock)
        idle = len(made) == num_made
        now = time_after(min(arrival for arrival, _ in waiting) / 100 if idle else 0.0)
    executor.submit = submit
    return made

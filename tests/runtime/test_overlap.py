"""Two batches on their way: for a token that nobody has read yet the device computes what it always computes."""

from pathlib import Path

import pytest
import torch
from tiny_models import CASES, Loaded, load, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.runtime.graph import bucket_sizes
from farthing.runtime.inputs import NO_SLOT, InputBuffers, Limits
from farthing.runtime.int_buffer import IntBuffer
from farthing.sampling_params import SamplingParams
from farthing.scheduler.batch import Batch, BatchItem
from farthing.scheduler.loop import RealClock, step

PROMPTS = {seq_id: [3 + (7 * seq_id + 5 * index) % 300 for index in range(4 + 9 * seq_id)] for seq_id in range(6)}
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)
SAMPLED = SamplingParams(max_tokens=24, temperature=0.9, top_p=0.9)
PENALIZED = SamplingParams(max_tokens=24, temperature=0.0, repetition_penalty=1.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = next(case for case in CASES if case.name == "llama-2-gqa")
    return save_reference(make_reference(case), tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("params", [GREEDY, SAMPLED, PENALIZED], ids=["greedy", "sampled", "penalized"])
def test_outputs_are_those_of_one_batch_at_a_time(params: SamplingParams, folder: Path) -> None:
    alone, overlapped = load(folder), load(folder, depth=2)
    assert overlapped.run(PROMPTS, params) == alone.run(PROMPTS, params)
    assert overlapped.runner.in_flight <= 1  # a step past the last end


def test_sequences_that_want_different_things_share_batches(folder: Path) -> None:
    def outputs(loaded: Loaded) -> dict[int, list[int]]:
        for seq_id, prompt in PROMPTS.items():
            loaded.add(seq_id, prompt, (GREEDY, SAMPLED, PENALIZED)[seq_id % 3])
        found: dict[int, list[int]] = {seq_id: [] for seq_id in PROMPTS}
        for seq_id, token in loaded.steps():
            found[seq_id].append(token)
        return found

    assert outputs(load(folder, depth=2)) == outputs(load(folder))


def test_preempted_sequences_and_small_chunks_change_nothing(folder: Path) -> None:
    tight = load(folder, depth=2, num_blocks=14, max_num_seqs=6, max_batch_tokens=16)
    expected = load(folder).run(PROMPTS, GREEDY)
    assert tight.run(PROMPTS, GREEDY) == expected
    assert tight.scheduler.stats.num_preemptions > 0


def test_the_next_step_is_on_its_way_before_the_last_one_is_read(folder: Path) -> None:
    loaded = load(folder, depth=2)
    loaded.add(0, PROMPTS[3], GREEDY)
    clock = RealClock()
    in_flight = []
    while loaded.scheduler.has_unfinished:
        step(loaded.scheduler, loaded.runner, clock)
        in_flight.append(loaded.runner.in_flight)
    assert in_flight[:10] == [1] * 10


class Broken(ReferenceKernels):
    """Its logits are NaN from some step on."""

    num_calls = 0

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.num_calls += 1
        return super().largest(logits_RV * float("nan") if self.num_calls > 5 else logits_RV)


@pytest.mark.parametrize("params", [GREEDY, PENALIZED], ids=["on the device", "by the host"])
def test_a_row_that_is_not_finite_fails_though_the_next_is_on_its_way(params: SamplingParams, folder: Path) -> None:
    loaded = load(folder, depth=2, kernels=Broken())
    loaded.add(0, PROMPTS[2], params)
    clock, outputs = RealClock(), []
    while loaded.scheduler.has_unfinished:
        outputs += step(loaded.scheduler, loaded.runner, clock)
    assert len(outputs) == 6
    assert outputs[-1].finish_reason == "error" and "nan" in outputs[-1].error


def test_buckets_end_with_the_most_and_waste_little() -> None:
    assert bucket_sizes(1) == [1]
    assert bucket_sizes(5) == [1, 2, 4, 5]
    assert bucket_sizes(256)[-4:] == [160, 192, 224, 256]
    for most in range(1, 300):
        sizes = bucket_sizes(most)
        assert sizes == sorted(set(sizes)) and sizes[-1] == most


def test_behind_a_batch_of_a_device_stand_rows_that_compute_nothing() -> None:
    buffers = InputBuffers(Limits(16, 4, 64), block_size=8, device=torch.device("meta"))
    padded = buffers._padded([7, 8], [3, 0], [11, 16], [0, 1], [(0, 1, 3), (1, 1, 0)])
    assert padded == (
        [7, 8, 0, 0],
        [3, 0, 0, 0],
        [11, 16, NO_SLOT, NO_SLOT],
        [0, 1, 2, 3],
        [(0, 1, 3), (1, 1, 0), (2, 0, 0), (3, 0, 0)],
    )


def test_a_prompt_is_not_padded_where_it_has_more_rows_than_there_are_sequences() -> None:
    buffers = InputBuffers(Limits(16, 4, 64), block_size=8, device=torch.device("meta"))
    rows = list(range(6))
    padded = buffers._padded(rows, rows, rows, [5], [(0, 6, 0)])
    assert padded[0] == rows and padded[2] == rows and padded[3] == [5, 1, 2, 3]


def test_pending_tokens_are_taken_from_the_batch_before() -> None:
    buffers = InputBuffers(Limits(16, 4, 64), block_size=8, device=torch.device("cpu"), depth=2)
    item = BatchItem(5, 3, (-1,), (1,), samples=True, output_index=1)
    inputs = buffers.fill(Batch(0, (item._replace(seq_id=4, token_ids=(9,)), item)))
    buffers.put_pending([1], [2], torch.tensor([40, 50, 60]))
    assert inputs.token_ids_T.tolist() == [9, 60]


def test_numbers_of_two_steps_on_their_way_do_not_share_memory() -> None:
    buffer = IntBuffer(2, 3, device=torch.device("meta"), turns=2)
    hosts = buffer._hosts
    buffer.put([1, 2], row=1, turn=0)
    buffer.put([3], row=1, turn=1)
    assert hosts[0].tolist() == [[0, 0, 0], [1, 2, 0]] and hosts[1].tolist() == [[0, 0, 0], [3, 0, 0]]

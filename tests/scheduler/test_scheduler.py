"""Continuous batching, chunked prefill, ends and refusals, tokens in flight."""

import random

import pytest

from farthing.errors import RequestError, UsageError
from farthing.scheduler.batch import PENDING_TOKEN, Batch, Done
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence, SequenceStatus

from .invariants import check_idle, check_scheduler
from .virtual_executor import EOS, VOCABULARY, World, next_token, reference_output

PROMPT = [1, 2, 3, 4, 5, 6]
EVERY_TOKEN = frozenset(range(VOCABULARY))


def test_a_request_alone_is_prefilled_once_and_then_decoded_token_by_token() -> None:
    world = World()
    sequence = world.add(PROMPT, max_output_tokens=3)
    world.run()
    assert [batch.shape.sequences for batch in world.executor.batches] == [((6, 0),), ((1, 6),), ((1, 7),)]
    assert sequence.output_ids == reference_output(PROMPT, 3, frozenset())
    assert sequence.finish_reason == "length" and sequence.status is SequenceStatus.FINISHED
    check_idle(world)


def test_a_request_joins_while_others_decode_and_leaves_before_them() -> None:
    world = World()
    world.add(PROMPT, max_output_tokens=5)
    world.step()
    world.add([6, 6], max_output_tokens=2)
    world.step()
    assert world.last_items() == [(0, 6, 1), (1, 0, 2)]
    world.step()
    assert world.last_items() == [(0, 7, 1), (1, 2, 1)]
    world.step()
    assert world.last_items() == [(0, 8, 1)]


def test_decodes_go_first_then_running_prefills_then_new_ones_within_the_token_budget() -> None:
    world = World(max_batch_tokens=8)
    decoding = world.add([5], max_output_tokens=50)
    world.step()
    long = world.add(PROMPT * 2, max_output_tokens=1)
    new = world.add([4, 4, 4], max_output_tokens=1)
    world.step()
    assert world.last_items() == [(decoding.seq_id, 1, 1), (long.seq_id, 0, 7)]
    world.step()
    assert world.last_items() == [(decoding.seq_id, 2, 1), (long.seq_id, 7, 5), (new.seq_id, 0, 2)]
    world.step()
    assert world.last_items() == [(decoding.seq_id, 3, 1), (new.seq_id, 2, 1)]
    assert all(batch.shape.num_tokens <= 8 for batch in world.executor.batches)


def test_only_the_last_chunk_of_a_prompt_samples() -> None:
    world = World(max_batch_tokens=8)
    world.add(PROMPT * 3, max_output_tokens=1)
    world.run()
    assert [batch.items[0].samples for batch in world.executor.batches] == [False, False, True]
    assert [batch.shape.num_logits for batch in world.executor.batches] == [0, 0, 1]


def test_chunks_of_one_prompt_are_pipelined_since_they_need_no_token() -> None:
    world = World(max_batch_tokens=8, depth=2)
    world.add(PROMPT * 3, max_output_tokens=1)
    world.step()
    assert [batch.items[0].start for batch in world.executor.batches] == [0, 8]


def test_no_more_than_max_num_seqs_run_at_a_time() -> None:
    world = World(max_num_seqs=2)
    for token in range(5):
        world.add([token], max_output_tokens=3)
    world.step()
    assert (world.scheduler.num_running, world.scheduler.num_waiting) == (2, 3)
    world.run()
    assert max(batch.shape.num_sequences for batch in world.executor.batches) == 2


def test_a_token_budget_below_max_num_seqs_is_refused() -> None:
    with pytest.raises(UsageError, match="max_batch_tokens 7 is below max_num_seqs 8"):
        World(max_batch_tokens=7, max_num_seqs=8)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(RequestError, match="empty"):
        World().add([])


def test_a_prompt_that_leaves_no_room_for_a_token_in_the_context_is_refused() -> None:
    world = World(max_model_len=6)
    with pytest.raises(RequestError, match="has 6 tokens, and there is room for 6"):
        world.add(PROMPT)
    world.add(PROMPT[:5])
    world.run()


def test_a_prompt_that_could_never_have_its_blocks_is_refused() -> None:
    world = World(num_blocks=2, block_size=3)
    with pytest.raises(RequestError, match="has 6 tokens, and there is room for 6"):
        world.add(PROMPT)
    world.add(PROMPT[:5])
    world.run()
    check_idle(world)


def test_a_refused_request_leaves_no_trace() -> None:
    world = World(max_model_len=6)
    with pytest.raises(RequestError):
        world.add(PROMPT)
    assert not world.scheduler.has_unfinished and world.scheduler.num_waiting == 0


@pytest.mark.parametrize(("num_blocks", "max_model_len"), [(64, 10), (5, 1000)])
def test_output_ends_by_length_where_context_or_pool_ends(num_blocks: int, max_model_len: int) -> None:
    world = World(num_blocks=num_blocks, block_size=2, max_model_len=max_model_len)
    sequence = world.add(PROMPT, max_output_tokens=100)
    world.run()
    assert sequence.finish_reason == "length" and len(sequence.token_ids) == 10


def test_an_end_token_ends_the_request_and_is_its_last_token() -> None:
    world = World()
    ending = reference_output(PROMPT, 3, frozenset())[-1]
    sequence = world.add(PROMPT, max_output_tokens=50, stop_token_ids=frozenset({ending}))
    world.run()
    assert sequence.finish_reason == "stop" and sequence.stop_token == ending == sequence.output_ids[-1]
    assert sequence.output_ids == reference_output(PROMPT, 50, frozenset({ending}))


def test_min_output_tokens_and_ignore_eos_hold_in_the_loop() -> None:
    world = World()
    at_least = world.add(PROMPT, max_output_tokens=9, eos_token_ids=EVERY_TOKEN, min_output_tokens=4)
    ignoring = world.add(PROMPT, max_output_tokens=9, eos_token_ids=EVERY_TOKEN, ignore_eos=True)
    world.run()
    assert (at_least.num_output_tokens, at_least.finish_reason) == (5, "stop")
    assert (ignoring.num_output_tokens, ignoring.finish_reason) == (9, "length")


def test_the_engine_ends_a_sequence_for_a_stop_string() -> None:
    world = World()
    sequence = world.add(PROMPT, max_output_tokens=50)
    world.step()
    assert world.scheduler.finish(sequence.seq_id)
    assert sequence.finish_reason == "stop" and sequence.stop_token is None
    assert not world.scheduler.finish(sequence.seq_id)
    check_idle(world)


def test_a_waiting_a_prefilling_and_a_decoding_request_can_be_cancelled_and_nobody_else_notices() -> None:
    world = World(max_num_seqs=3, max_batch_tokens=8, depth=2)
    decoding = world.add([1], max_output_tokens=50)
    world.step()
    prefilling = world.add([2] * 40, max_output_tokens=50)
    other = world.add([3], max_output_tokens=9)
    waiting = world.add([4], max_output_tokens=50)
    world.step()
    for sequence in (waiting, prefilling, decoding):
        assert world.scheduler.cancel(sequence.seq_id) and not world.scheduler.cancel(sequence.seq_id)
        assert sequence.finish_reason == "cancelled"
        check_scheduler(world)
    world.run()
    assert other.output_ids == reference_output([3], 9, frozenset())
    check_idle(world)


def test_cancelling_what_never_was_is_no_error() -> None:
    assert not World().scheduler.cancel(17)


def test_a_token_in_flight_when_its_request_is_cancelled_is_dropped_and_counted() -> None:
    world = World(depth=2)
    sequence = world.add(PROMPT)
    world.executor.submit(world.scheduler.schedule(0.0))
    world.scheduler.cancel(sequence.seq_id)
    assert world.scheduler.update(world.executor.collect()) == ()
    assert world.scheduler.stats.num_dropped_tokens == 1 and sequence.output_ids == []


def test_blocks_of_a_cancelled_request_are_held_until_the_last_batch_that_touches_them_is_collected() -> None:
    world = World(depth=3, max_batch_tokens=8)
    sequence = world.add(PROMPT * 4, max_output_tokens=50)
    pool = world.scheduler.block_pool
    for _ in range(2):
        world.executor.submit(world.scheduler.schedule(0.0))
    world.scheduler.cancel(sequence.seq_id)
    world.add([7], max_output_tokens=1)
    world.executor.submit(world.scheduler.schedule(0.0))  # a later batch, which does not touch them
    world.scheduler.update(world.executor.collect())
    assert pool.num_available == pool.num_blocks - 7 - 1
    world.scheduler.update(world.executor.collect())
    assert pool.num_available == pool.num_blocks - 1


def test_without_tokens_in_flight_a_sequence_waits_for_its_token() -> None:
    world = World(depth=2, max_tokens_in_flight=0)
    world.add(PROMPT)
    world.step()
    assert len(world.executor.batches) == 1


def test_with_a_token_in_flight_the_next_step_is_scheduled_on_a_pending_token() -> None:
    world = World(depth=2, max_tokens_in_flight=1)
    sequence = world.add(PROMPT, max_output_tokens=4)
    world.step()
    first, second = (batch.items[0] for batch in world.executor.batches)
    assert (first.start, first.token_ids, first.output_index) == (0, tuple(PROMPT), 0)
    assert (second.start, second.token_ids, second.output_index) == (6, (PENDING_TOKEN,), 1)
    world.run()
    assert sequence.output_ids == reference_output(PROMPT, 4, frozenset())


def test_no_step_is_wasted_past_an_end_that_is_known_by_count() -> None:
    world = World(depth=4, max_tokens_in_flight=1)
    world.add(PROMPT, max_output_tokens=3)
    world.run()
    assert len(world.executor.batches) == 3 and world.scheduler.stats.num_dropped_tokens == 0


def test_a_step_computed_past_a_stop_is_dropped_and_counted() -> None:
    world = World(depth=2, max_tokens_in_flight=1)
    sequence = world.add(PROMPT, max_output_tokens=50, eos_token_ids=frozenset({next_token(PROMPT)}))
    world.run()
    assert sequence.num_output_tokens == 1 and sequence.finish_reason == "stop"
    assert len(world.executor.batches) == 2 and world.scheduler.stats.num_dropped_tokens == 1
    check_idle(world)


def test_batches_come_back_in_order() -> None:
    world = World(depth=2, max_batch_tokens=8)
    world.add(PROMPT * 3)
    first = world.scheduler.schedule(0.0)
    second = world.scheduler.schedule(0.0)
    assert first is not None and second is not None
    with pytest.raises(AssertionError, match="in order"):
        world.scheduler.update(Done(second, {}, 0.0))


def test_a_sequence_remembers_when_it_was_first_scheduled() -> None:
    world = World(max_num_seqs=1)
    world.add(PROMPT, max_output_tokens=2)
    second = world.add(PROMPT, max_output_tokens=1)
    world.step()
    assert second.first_scheduled_time is None
    world.step()
    before = world.clock.now()
    world.run()
    assert second.first_scheduled_time == before


def drive(seed: int, depth: int, max_tokens_in_flight: int) -> World:
    """Forty requests that arrive by step number, in a pool for about three."""
    rng = random.Random(seed)
    world = World(
        num_blocks=16,
        max_num_seqs=6,
        max_batch_tokens=16,
        depth=depth,
        max_tokens_in_flight=max_tokens_in_flight,
        aging_seconds=0.5,
    )
    for _ in range(40):
        prefix = rng.choice([[], PROMPT, PROMPT * 2])
        world.add(
            prefix + rng.choices(range(VOCABULARY), k=rng.randint(1, 8)),
            max_output_tokens=rng.randint(1, 30),
            eos_token_ids=frozenset({EOS}),
            ignore_eos=rng.random() < 0.7,
            priority=rng.randint(-1, 1),
            salt=rng.choice(["", "", "salted"]),
            use_prefix_cache=rng.random() < 0.8,
        )
        for _ in range(rng.randint(0, 6)):
            world.step()
            check_scheduler(world)
    world.run(max_steps=3000)
    return world


@pytest.mark.parametrize(("depth", "max_tokens_in_flight"), [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1)])
def test_under_heavy_traffic_every_output_is_that_of_the_request_alone(depth: int, max_tokens_in_flight: int) -> None:
    for seed in range(10):
        world = drive(seed, depth, max_tokens_in_flight)
        check_idle(world)
        for sequence in world.sequences.values():
            prompt = sequence.token_ids[: sequence.num_prompt_tokens]
            alone = reference_output(prompt, sequence.max_output_tokens, sequence.ending_token_ids)
            assert sequence.output_ids == alone
        stats = world.scheduler.stats
        assert stats.num_preemptions > 5 and stats.num_cached_tokens > 50, "the traffic is what it claims to be"
        assert (stats.num_dropped_tokens > 0) == (max_tokens_in_flight > 0)


def test_the_same_trace_gives_the_same_batches() -> None:
    def batches(seed: int) -> list[Batch]:
        return drive(seed, depth=2, max_tokens_in_flight=1).executor.batches

    assert batches(1) == batches(1) != batches(2)


def test_ids_are_never_used_again() -> None:
    scheduler = Scheduler(num_blocks=8, block_size=4, max_num_seqs=2, max_batch_tokens=8, max_model_len=32)
    scheduler.add(Sequence(0, PROMPT, max_output_tokens=1))
    with pytest.raises(AssertionError):
        scheduler.add(Sequence(0, PROMPT, max_output_tokens=1))

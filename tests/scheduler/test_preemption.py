"""Who goes when blocks run out, and when it comes back."""

import pytest

from farthing.scheduler.sequence import SequenceStatus

from .invariants import check_idle, check_scheduler
from .virtual_executor import World, reference_output

A, B, C = [1, 1, 1], [2, 2, 2], [3, 3, 3]


def small_world(num_blocks: int, depth: int = 1, max_tokens_in_flight: int = 0) -> World:
    """Blocks of 4; no prefix cache, so that the numbers below are easy to follow."""
    return World(
        num_blocks=num_blocks, depth=depth, max_tokens_in_flight=max_tokens_in_flight, enable_prefix_caching=False
    )


def step_until_preempted(world: World) -> None:
    for _ in range(100):
        world.step()
        check_scheduler(world)
        if world.scheduler.stats.num_preemptions:
            return
    raise AssertionError("nobody was preempted")


def test_the_latest_of_equal_priority_is_preempted_and_still_gives_the_same_output() -> None:
    world = small_world(4)
    first, second, third = (world.add(prompt, max_output_tokens=12) for prompt in (A, B, C))
    step_until_preempted(world)
    assert (first.num_preemptions, second.num_preemptions, third.num_preemptions) == (0, 0, 1)
    assert third.status is SequenceStatus.WAITING and third.block_ids == []
    world.run()
    check_idle(world)
    for sequence, prompt in ((first, A), (second, B), (third, C)):
        assert sequence.output_ids == reference_output(prompt, 12, frozenset())


def test_the_least_urgent_is_preempted_though_it_came_first() -> None:
    world = small_world(4)
    lazy = world.add(A, max_output_tokens=12, priority=2)
    urgent = world.add(B, max_output_tokens=12, priority=-1)
    normal = world.add(C, max_output_tokens=12)
    step_until_preempted(world)
    assert (lazy.num_preemptions, urgent.num_preemptions, normal.num_preemptions) == (1, 0, 0)


def test_a_decode_that_is_itself_the_last_in_rank_goes_rather_than_a_higher_one() -> None:
    world = small_world(3)
    first = world.add([1] * 6, max_output_tokens=6)  # two blocks, for 8 tokens
    last = world.add(B, max_output_tokens=12)  # one block, and the first to need another
    step_until_preempted(world)
    assert (first.num_preemptions, last.num_preemptions) == (0, 1)


def test_a_prefilling_sequence_is_preempted_for_a_decode_of_higher_rank() -> None:
    world = World(num_blocks=6, max_batch_tokens=8, max_num_seqs=4, enable_prefix_caching=False)
    decoding = world.add(A, max_output_tokens=12)
    world.step()
    prefilling = world.add([2] * 19, max_output_tokens=2)
    step_until_preempted(world)
    assert prefilling.num_preemptions == 1 and prefilling.num_output_tokens == 0
    world.run()
    assert decoding.num_preemptions == 0 and prefilling.output_ids == reference_output([2] * 19, 2, frozenset())


def test_a_resumed_request_is_admitted_only_if_its_whole_prefix_fits() -> None:
    world = small_world(5)
    first = world.add(A, max_output_tokens=16)
    second = world.add(B, max_output_tokens=16)
    step_until_preempted(world)
    pool = world.scheduler.block_pool
    some_were_free = False
    while not first.finish_reason:
        assert second.status is SequenceStatus.WAITING
        assert pool.blocks_for(len(second.token_ids) + 1) > pool.num_available
        some_were_free |= pool.num_available > 0
        world.step()
    assert some_were_free
    world.step()
    assert second.status is SequenceStatus.RUNNING
    assert second.num_preemptions == 1, "it came back for good"
    world.run()
    assert second.output_ids == reference_output(B, 16, frozenset())


def test_a_preempted_request_goes_back_to_its_rank_before_later_ones() -> None:
    world = small_world(4)
    world.add(A, max_output_tokens=12)
    preempted = world.add(B, max_output_tokens=12)
    world.step()
    later = [world.add([token], max_output_tokens=2) for token in (4, 5, 6)]
    while not preempted.num_preemptions:
        world.step()
    world.run()
    assert all(preempted.first_scheduled_time < sequence.first_scheduled_time for sequence in later)
    assert [len(world.outputs[s.seq_id]) for s in later] == [2, 2, 2]


def test_a_resumed_request_finds_its_own_blocks_in_the_prefix_cache() -> None:
    world = World(num_blocks=6)
    first = world.add(A, max_output_tokens=16)
    second = world.add(B, max_output_tokens=16)
    step_until_preempted(world)
    num_computed = len(second.token_ids)
    world.run()
    resumed = next(
        item for batch in world.executor.batches for item in batch.items if item.seq_id == 1 and len(item.token_ids) > 1
        and item.start
    )  # fmt: skip
    assert 0 < resumed.start < num_computed
    assert second.num_cached_tokens == 0, "only prompt tokens at the first admission count"
    assert (first.num_preemptions, second.num_preemptions) == (0, 1)


@pytest.mark.parametrize("max_tokens_in_flight", [0, 1])
def test_tokens_in_flight_of_a_preempted_sequence_are_kept(max_tokens_in_flight: int) -> None:
    world = small_world(4, depth=2, max_tokens_in_flight=max_tokens_in_flight)
    world.add([1] * 7, max_output_tokens=9)
    victim = world.add([2] * 5, max_output_tokens=9)
    while not world.scheduler.stats.num_preemptions:
        world.step()
    num_pending, num_known = victim.num_pending_tokens, victim.num_output_tokens
    world.run()
    assert num_pending <= max_tokens_in_flight and victim.output_ids == reference_output([2] * 5, 9, frozenset())
    samples = [item for batch in world.executor.batches for item in batch.items if item.seq_id == 1 and item.samples]
    assert len(samples) == 9 and num_known + num_pending < 9, "no token was drawn twice"


def test_a_block_freed_by_preemption_is_reused_only_after_the_batches_in_flight() -> None:
    world = small_world(4, depth=2, max_tokens_in_flight=1)
    world.add([1] * 6, max_output_tokens=9)
    victim = world.add([2] * 6, max_output_tokens=9)
    while not world.scheduler.stats.num_preemptions:
        table = list(victim.block_ids)
        world.step()
        check_scheduler(world)
    in_flight = {
        block for batch in world.executor.batches_in_flight for item in batch.items for block in item.block_ids
    }
    pool = world.scheduler.block_pool
    assert all(pool.num_references(block_id) for block_id in in_flight)
    assert table and pool.num_available + sum(map(pool.num_references, range(4))) == 4


def test_one_preemption_is_enough_while_its_blocks_are_on_their_way() -> None:
    world = World(num_blocks=6, depth=4, max_tokens_in_flight=1, enable_prefix_caching=False)
    world.add([1] * 6, max_output_tokens=12)
    world.add([2] * 6, max_output_tokens=12)
    world.add([3] * 6, max_output_tokens=12)
    step_until_preempted(world)
    assert world.scheduler.stats.num_preemptions == 1
    world.run()
    check_idle(world)


def test_a_preempted_request_can_be_cancelled() -> None:
    world = small_world(4, depth=2, max_tokens_in_flight=1)
    world.add([1] * 6, max_output_tokens=9)
    victim = world.add([2] * 6, max_output_tokens=9)
    step_until_preempted(world)
    assert victim.status is SequenceStatus.WAITING and world.scheduler.cancel(victim.seq_id)
    world.run()
    check_idle(world)

"""Idle requests fill what others leave: they come last, join rarely, and give way at once."""

import pytest

from farthing.scheduler.scheduler import _IDLE_TURN
from farthing.scheduler.sequence import IDLE_PRIORITY

from .virtual_executor import World


def test_alone_they_have_the_whole_budget() -> None:
    world = World(max_batch_tokens=16)
    for _ in range(3):
        world.add([1] * 10, priority=IDLE_PRIORITY)
    world.step()
    assert [num for _, _, num in world.last_items()] == [10, 6]


def test_beside_others_they_join_one_batch_in_a_few_with_no_more_tokens_than_those() -> None:
    world = World()
    live = world.add([1, 2], max_output_tokens=100)
    idle = [world.add([3] * 9, max_output_tokens=40, priority=IDLE_PRIORITY) for _ in range(3)]
    for _ in range(64):
        world.step()
    joined = [batch for batch in world.executor.batches if len({item.seq_id for item in batch.items}) > 1]
    assert [batch.batch_id for batch in joined] == list(range(0, 64, _IDLE_TURN))
    for batch in joined:
        tokens = {item.seq_id: len(item.token_ids) for item in batch.items}
        assert sum(tokens.values()) <= 2 * tokens[live.seq_id]
    assert live.num_output_tokens == 64, "each batch brought it a token"
    assert sum(sequence.num_computed_tokens for sequence in idle) >= 8


def test_a_request_of_anyone_takes_the_slot_of_an_idle_one_which_ends_later_as_it_would_have() -> None:
    world = World(max_num_seqs=2)
    idle = [world.add([number], max_output_tokens=30, priority=IDLE_PRIORITY) for number in range(2)]
    for _ in range(5):
        world.step()
    live = world.add([5, 6], max_output_tokens=3)
    while live.finish_reason is None:
        world.step()
    assert live.num_output_tokens == 3 and all(sequence.finish_reason is None for sequence in idle)
    assert [sequence.num_preemptions for sequence in idle] == [0, 1], "the last to come makes way"
    world.run()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_request_of_anyone_takes_the_blocks_of_idle_ones(depth: int) -> None:
    world = World(num_blocks=8, block_size=4, depth=depth)
    for number in range(3):
        world.add([number] * 8, max_output_tokens=4, priority=IDLE_PRIORITY)
    for _ in range(2):
        world.step()
    live = world.add([5] * 20, max_output_tokens=10)
    waited = 0
    while live.first_scheduled_time is None:
        world.step()
        waited += 1
    assert waited <= depth + 1
    world.run()


def test_whoever_waits_long_still_comes_before_them() -> None:
    world = World(max_num_seqs=1)
    world.add([1], max_output_tokens=3)
    idle = world.add([2], priority=IDLE_PRIORITY, max_output_tokens=1)
    world.clock.advance_to(1e9)
    late = world.add([3], max_output_tokens=1)
    world.run()
    order = [item.seq_id for batch in world.executor.batches for item in batch.items]
    assert order.index(late.seq_id) < order.index(idle.seq_id)


def test_the_scheduler_says_what_the_first_of_the_queue_lacks() -> None:
    world = World(num_blocks=4, block_size=4, max_num_seqs=2, max_batch_tokens=8)
    world.add([1] * 6, max_output_tokens=2)
    world.step()
    assert world.scheduler.waiting_for == ""
    world.add([2] * 9, max_output_tokens=2)
    world.step()
    assert world.scheduler.waiting_for == "blocks"
    roomy = World(max_num_seqs=1)
    for _ in range(2):
        roomy.add([1], max_output_tokens=4)
    roomy.step()
    assert roomy.scheduler.waiting_for == "slots"
    narrow = World(max_num_seqs=4, max_batch_tokens=4)
    for _ in range(2):
        narrow.add([1] * 9, max_output_tokens=4)
    narrow.step()
    assert narrow.scheduler.waiting_for == "tokens"

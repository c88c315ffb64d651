"""Who is admitted first, and why nobody waits for ever."""

from farthing.scheduler.sequence import Sequence

from .virtual_executor import World


def order_of_admission(world: World) -> list[int]:
    seen: dict[int, None] = {}
    for batch in world.executor.batches:
        seen.update(dict.fromkeys(item.seq_id for item in batch.items))
    return list(seen)


def test_equal_priorities_are_served_in_order_of_arrival() -> None:
    world = World(max_num_seqs=1)
    for token in range(4):
        world.add([token])
    world.run()
    assert order_of_admission(world) == [0, 1, 2, 3]


def test_arrival_counts_and_not_the_order_of_adding() -> None:
    world = World(max_num_seqs=1)
    for seq_id, arrival_time in ((0, 2.0), (1, 1.0)):
        sequence = Sequence(seq_id, [seq_id], max_output_tokens=1, arrival_time=arrival_time)
        world.scheduler.add(sequence)
        world.executor.know(sequence)
        world.sequences[seq_id], world.outputs[seq_id] = sequence, []
    world.run()
    assert order_of_admission(world) == [1, 0]


def test_a_smaller_number_is_more_urgent() -> None:
    world = World(max_num_seqs=1)
    for priority in (1, 0, 2, -1):
        world.add([1], priority=priority)
    world.run()
    assert order_of_admission(world) == [3, 1, 0, 2]


def test_prefills_share_the_budget_by_rank() -> None:
    world = World(max_batch_tokens=8)
    world.add([1] * 12, priority=1)
    world.add([2] * 12, priority=0)
    world.step()
    assert world.last_items() == [(1, 0, 8)]
    world.step()
    assert world.last_items() == [(1, 8, 4), (0, 0, 4)]


def test_waiting_makes_up_for_priority() -> None:
    world = World(max_num_seqs=1, aging_seconds=10.0)
    world.add([0], max_output_tokens=2)
    world.step()
    patient = world.add([1], priority=1)
    world.clock.advance_to(world.clock.now() + 9.0)
    soon = world.add([2], priority=0)
    world.clock.advance_to(world.clock.now() + 2.0)
    late = world.add([3], priority=0)
    world.run()
    assert order_of_admission(world)[1:] == [soon.seq_id, patient.seq_id, late.seq_id]


def test_without_aging_priorities_are_strict() -> None:
    world = World(max_num_seqs=1, aging_seconds=float("inf"))
    world.add([0], max_output_tokens=2)
    world.step()
    patient = world.add([1], priority=1)
    world.clock.advance_to(1e6)
    late = world.add([2], priority=0)
    world.run()
    assert order_of_admission(world)[1:] == [late.seq_id, patient.seq_id]


def test_the_least_urgent_request_is_served_in_an_endless_stream_of_urgent_ones() -> None:
    world = World(max_num_seqs=1, aging_seconds=0.5)
    lazy = world.add([1], priority=3, max_output_tokens=1)
    for _ in range(1000):
        world.add([2], priority=0, max_output_tokens=1)
        world.step()
        if lazy.finish_reason:
            break
    assert 1.5 <= lazy.first_scheduled_time < 1.6


def test_a_big_request_that_does_not_fit_is_not_overtaken_by_small_ones_that_would() -> None:
    world = World(num_blocks=8, enable_prefix_caching=False)
    running = world.add([1] * 8, max_output_tokens=9)
    world.step()
    big = world.add([2] * 24, max_output_tokens=1)
    small = world.add([3], max_output_tokens=1)
    while not running.finish_reason:
        assert big.first_scheduled_time is None and small.first_scheduled_time is None
        world.step()
    world.run()
    assert order_of_admission(world) == [0, big.seq_id, small.seq_id]


def test_a_refused_head_is_tried_again_once_a_prefill_has_published_what_it_needs() -> None:
    world = World(num_blocks=8)
    common = [5] * 18
    world.add(common, max_output_tokens=9)
    second = world.add(common, max_output_tokens=1)
    world.step()
    assert second.first_scheduled_time is None, "five blocks of its own do not fit beside the first"
    world.step()
    assert second.num_cached_tokens == 16 and world.scheduler.num_running == 1

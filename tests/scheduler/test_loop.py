"""The loop and its clocks."""

from farthing.scheduler.loop import RealClock, VirtualClock, step

from .virtual_executor import World


def test_an_idle_step_returns_nothing_and_leaves_the_clock_alone() -> None:
    world = World()
    assert step(world.scheduler, world.executor, world.clock) == ()
    assert world.clock.now() == 0.0 and not world.executor.batches


def test_a_step_moves_a_virtual_clock_to_the_end_of_the_collected_batch() -> None:
    world = World()
    world.add([1, 2, 3], max_output_tokens=1)
    world.step()
    assert world.clock.now() == 0.01 + 0.001 * 3


def test_the_executor_is_filled_to_its_depth_and_one_batch_collected() -> None:
    world = World(depth=4, max_batch_tokens=8)
    world.add(list(range(1, 7)) * 10)
    world.step()
    assert len(world.executor.batches) == 4 and world.executor.in_flight == 3


def test_batches_left_in_flight_by_a_cancel_are_drained_by_further_steps() -> None:
    world = World(depth=2, max_tokens_in_flight=1)
    sequence = world.add([1, 2, 3], max_output_tokens=50)
    world.step()
    world.scheduler.cancel(sequence.seq_id)
    assert not world.scheduler.has_unfinished and world.executor.in_flight
    assert step(world.scheduler, world.executor, world.clock) == () and not world.executor.in_flight
    assert world.scheduler.block_pool.num_available == world.scheduler.block_pool.num_blocks


def test_a_virtual_clock_never_runs_back() -> None:
    clock = VirtualClock(5.0)
    clock.advance_to(4.0)
    assert clock.now() == 5.0
    clock.advance_to(6.0)
    assert clock.now() == 6.0


def test_the_real_clock_cannot_be_moved() -> None:
    clock = RealClock()
    before = clock.now()
    clock.advance_to(before + 1000.0)
    assert before <= clock.now() < before + 500.0

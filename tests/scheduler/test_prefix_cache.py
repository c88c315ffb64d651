"""What is shared between sequences, when it can be, and what is never shared."""

from .invariants import check_idle, check_scheduler
from .virtual_executor import World, reference_output

TEXT = [1, 2, 3, 4, 5, 6, 0, 1, 2, 3]  # two full blocks of 4, and two tokens


def test_a_later_request_takes_the_full_blocks_of_a_common_prefix_and_computes_the_rest() -> None:
    world = World()
    world.add(TEXT, max_output_tokens=1)
    world.run()
    second = world.add([*TEXT[:9], 6, 6], max_output_tokens=2)
    world.run()
    assert second.num_cached_tokens == 8 and world.scheduler.stats.num_cached_tokens == 8
    assert world.executor.batches[1].shape.sequences == ((3, 8),)
    assert second.output_ids == reference_output([*TEXT[:9], 6, 6], 2, frozenset())


def test_a_prefix_is_shared_while_its_first_owner_still_runs() -> None:
    world = World()
    first = world.add(TEXT, max_output_tokens=9)
    world.step()
    second = world.add(TEXT, max_output_tokens=9)
    world.step()
    assert second.block_ids[:2] == first.block_ids[:2] and second.block_ids[2] != first.block_ids[2]


def test_output_is_cached_too_so_that_the_next_turn_of_a_chat_goes_on_from_there() -> None:
    world = World()
    first = world.add(TEXT, max_output_tokens=7)
    world.run()
    next_turn = world.add([*first.token_ids, 5], max_output_tokens=1)
    world.run()
    assert next_turn.num_cached_tokens == 16


def test_at_least_one_token_of_a_prompt_is_computed() -> None:
    world = World()
    world.add(TEXT[:8], max_output_tokens=1)
    world.run()
    same = world.add(TEXT[:8], max_output_tokens=1)
    world.run()
    assert same.num_cached_tokens == 4 and same.output_ids == reference_output(TEXT[:8], 1, frozenset())


def test_a_block_can_be_shared_only_after_its_batch_has_been_collected() -> None:
    world = World(depth=2)
    world.add(TEXT, max_output_tokens=5)
    world.executor.submit(world.scheduler.schedule(0.0))
    early = world.add(TEXT, max_output_tokens=5)
    world.executor.submit(world.scheduler.schedule(0.0))
    assert early.num_cached_tokens == 0
    world.run()
    late = world.add(TEXT, max_output_tokens=5)
    world.run()
    assert late.num_cached_tokens == 8


def test_two_that_computed_the_same_block_end_up_with_one_of_it() -> None:
    world = World()
    first, second = (world.add(TEXT, max_output_tokens=9) for _ in range(2))
    world.step()
    assert first.block_ids[:2] == second.block_ids[:2]
    check_scheduler(world)
    world.run()
    check_idle(world)


def test_the_copy_that_is_given_up_for_an_equal_block_stays_until_no_batch_in_flight_touches_it() -> None:
    world = World(depth=2, max_tokens_in_flight=1)
    pool = world.scheduler.block_pool
    first, second = (world.add(TEXT, max_output_tokens=9) for _ in range(2))
    for _ in range(2):
        world.executor.submit(world.scheduler.schedule(0.0))
    own = second.block_ids[0]
    world.scheduler.update(world.executor.collect())
    assert second.block_ids[0] == first.block_ids[0] != own and pool.num_references(own) == 1
    world.scheduler.update(world.executor.collect())
    assert pool.num_references(own) == 0


def test_another_salt_shares_nothing() -> None:
    world = World()
    world.add(TEXT, salt="mine")
    world.run()
    yours, mine = world.add(TEXT, salt="yours"), world.add(TEXT, salt="mine")
    world.run()
    assert (yours.num_cached_tokens, mine.num_cached_tokens) == (0, 8)


def test_a_sequence_that_needs_its_whole_prompt_computed_reads_no_cache_but_fills_it() -> None:
    world = World()
    reader = world.add(TEXT, use_prefix_cache=False)
    world.run()
    again = world.add(TEXT, use_prefix_cache=False)
    world.run()
    other = world.add(TEXT)
    world.run()
    assert [s.num_cached_tokens for s in (reader, again, other)] == [0, 0, 8]
    assert world.scheduler.block_pool.num_cached == 3, "the copy of the second run is not kept beside the first"


def test_without_prefix_caching_nothing_is_kept() -> None:
    world = World(enable_prefix_caching=False)
    for _ in range(2):
        world.add(TEXT)
        world.run()
    assert world.scheduler.block_pool.num_cached == 0 and world.scheduler.stats.num_cached_tokens == 0


def test_the_least_recently_used_prefix_makes_room_and_from_its_end() -> None:
    world = World(num_blocks=6)
    old, new = TEXT[:9], [6] * 9
    for prompt in (old, new, [0] * 8):  # the last one needs three blocks where two are free
        world.add(prompt, max_output_tokens=1)
        world.run()
    again_new, again_old = world.add([*new[:8], 3], max_output_tokens=1), world.add(old, max_output_tokens=1)
    world.step()
    assert again_new.num_cached_tokens == 8
    world.run()
    assert again_old.num_cached_tokens == 4


def test_after_a_reset_nothing_old_is_shared_and_those_who_run_go_on_by_themselves() -> None:
    world = World()
    running = world.add(TEXT, max_output_tokens=12)
    for _ in range(3):
        world.step()
    world.scheduler.reset_prefix_cache()
    after = world.add(TEXT, max_output_tokens=2)
    world.step()
    assert after.num_cached_tokens == 0 and after.block_ids[0] != running.block_ids[0]
    world.run()
    check_idle(world)
    again = world.add([*TEXT, *running.output_ids, 1], max_output_tokens=1)
    world.run()
    assert again.num_cached_tokens == 8, "only what was computed after the reset"
    assert running.output_ids == reference_output(TEXT, 12, frozenset())


def test_a_sequence_that_is_preempted_after_a_reset_publishes_again() -> None:
    world = World(num_blocks=6)
    world.add([1, 1, 1], max_output_tokens=16)
    second = world.add([2, 2, 2], max_output_tokens=16)
    world.step()
    world.scheduler.reset_prefix_cache()
    world.run()
    assert second.num_preemptions == 1
    again = world.add([*second.token_ids, 1], max_output_tokens=1)
    world.run()
    assert again.num_cached_tokens == 16

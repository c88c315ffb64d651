"""A sequence for which no token could be drawn ends with an error; nobody ever reads what its step computed."""

import pytest

from .invariants import check_idle, check_scheduler
from .virtual_executor import World

PROMPT = [1, 2, 3, 4, 5, 6, 1, 2, 3]


@pytest.mark.parametrize("after", [0, 3])
def test_one_fails_alone_and_the_counter_rises(after: int) -> None:
    world = World()
    bad, good = world.add(PROMPT, max_output_tokens=8), world.add([6, 5, 4], max_output_tokens=8)
    for _ in range(after):
        world.step()
    world.executor.failing.add(bad.seq_id)
    world.run()
    assert bad.finish_reason == "error" and bad.num_output_tokens == after
    assert good.finish_reason == "length" and good.num_output_tokens == 8
    assert world.scheduler.stats.num_failed == 1
    check_scheduler(world)
    check_idle(world)


def test_the_output_says_why() -> None:
    world = World()
    sequence = world.add(PROMPT)
    world.executor.failing.add(sequence.seq_id)
    world.executor.submit(world.scheduler.schedule(0.0))
    (output,) = world.scheduler.update(world.executor.collect())
    assert (output.token_id, output.finish_reason, output.error) == (None, "error", "sequence 0 failed")


@pytest.mark.parametrize("max_batch_tokens", [64, 8])
def test_a_prompt_that_failed_is_computed_anew_by_the_next_who_has_it(max_batch_tokens: int) -> None:
    """Also its first chunk, which nothing was drawn from."""
    world = World(max_batch_tokens=max_batch_tokens)
    bad = world.add(PROMPT)
    world.executor.failing.add(bad.seq_id)
    world.run()
    again = world.add(PROMPT)
    world.run()
    assert again.num_cached_tokens == 0 and again.finish_reason == "length"
    third = world.add(PROMPT)
    world.run()
    assert third.num_cached_tokens == 8


def test_what_was_drawn_from_before_the_failure_stays_shared() -> None:
    world = World()
    bad = world.add(PROMPT, max_output_tokens=8)
    world.step()
    world.executor.failing.add(bad.seq_id)
    world.run()
    again = world.add(PROMPT)
    world.run()
    assert again.num_cached_tokens == 8

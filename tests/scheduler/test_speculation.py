"""Drafts in the batches: what they bring, and what they never take from others."""

import pytest

from farthing.scheduler.sequence import IDLE_PRIORITY

from .invariants import check_idle, check_scheduler
from .virtual_executor import World, reference_output

PROMPT = [1, 2, 3, 4, 5]


def test_steps_become_fewer_and_the_output_is_the_same() -> None:
    plain, drafting = World(), World(max_drafts=4)
    for world in (plain, drafting):
        sequence = world.add(PROMPT, max_output_tokens=40)
        world.run()
        assert sequence.output_ids == reference_output(PROMPT, 40, frozenset())
        check_idle(world)
    assert len(drafting.executor.batches) < len(plain.executor.batches)
    stats = drafting.scheduler.stats
    assert 0 < stats.num_accepted_tokens < stats.num_draft_tokens
    assert len(drafting.executor.batches) == len(plain.executor.batches) - stats.num_accepted_tokens


def test_the_first_token_and_those_beside_a_prompt_come_without_drafts() -> None:
    world = World(max_drafts=4, max_batch_tokens=8)
    world.add(PROMPT, max_output_tokens=9)
    world.step()
    world.add([1] * 20, max_output_tokens=9)
    world.run()
    for batch in world.executor.batches:
        assert batch.is_decode or not any(item.num_drafts for item in batch.items)
        assert not any(item.num_drafts for item in batch.items if not item.output_index)
    assert world.scheduler.stats.num_accepted_tokens > 0


@pytest.mark.parametrize("max_output_tokens", [1, 2, 3, 7])
def test_nothing_is_drafted_that_could_not_be_put_out(max_output_tokens: int) -> None:
    world = World(max_drafts=9)
    sequence = world.add(PROMPT, max_output_tokens=max_output_tokens)
    world.run()
    assert sequence.num_output_tokens == max_output_tokens and world.scheduler.stats.num_dropped_tokens == 0


def test_rows_of_logits_are_never_more_than_sequences_may_run() -> None:
    world = World(max_drafts=9, max_num_seqs=4)
    for _ in range(2):
        world.add(PROMPT, max_output_tokens=20)
    world.run()
    assert max(batch.shape.num_logits for batch in world.executor.batches) == 4
    alone = World(max_drafts=9, max_num_seqs=1)
    alone.add(PROMPT)
    alone.run()
    assert alone.scheduler.stats.num_draft_tokens == 0


def test_idle_sequences_get_none() -> None:
    world = World(max_drafts=4)
    world.add(PROMPT, max_output_tokens=20, priority=IDLE_PRIORITY)
    world.run()
    assert world.scheduler.stats.num_draft_tokens == 0


def test_drafts_preempt_nobody() -> None:
    """Both fit without drafts, to the last block."""
    world = World(max_drafts=9, num_blocks=10, block_size=4)
    first, second = (world.add(PROMPT, max_output_tokens=15) for _ in range(2))
    world.run()
    assert world.scheduler.stats.num_preemptions == 0 and world.scheduler.stats.num_draft_tokens > 0
    assert first.output_ids == second.output_ids


def test_only_tokens_that_came_are_found_in_the_prefix_cache() -> None:
    world = World(max_drafts=9, block_size=2)
    sequence = world.add(PROMPT, max_output_tokens=30)
    world.run()
    assert world.scheduler.stats.num_accepted_tokens < world.scheduler.stats.num_draft_tokens
    known = {tuple(sequence.token_ids[start : start + 2]) for start in range(0, len(sequence.token_ids), 2)}
    assert {token_ids for _, token_ids, _ in world.scheduler.block_pool._key_of.values()} <= known
    again = world.add(sequence.token_ids, max_output_tokens=3)
    world.run()
    assert again.num_cached_tokens >= 32 and again.output_ids == reference_output(again.token_ids[:35], 3, frozenset())


def test_what_comes_behind_an_end_is_dropped() -> None:
    world = World(max_drafts=9)
    (ending,) = set(reference_output(PROMPT, 12, frozenset())[11:])
    expected = reference_output(PROMPT, 40, frozenset({ending}))
    sequence = world.add(PROMPT, max_output_tokens=40, eos_token_ids=frozenset({ending}))
    world.run()
    assert sequence.output_ids == expected and sequence.stop_token == ending
    check_idle(world)


def test_a_row_that_fails_among_drafts_does_not_empty_the_prefix_cache() -> None:
    world = World(max_drafts=4)
    sequence = world.add([1, 2, 3, 4, 5, 6, 7], max_output_tokens=20)
    for _ in range(3):
        world.step()
    world.executor.failing.add(sequence.seq_id)
    num_cached = world.scheduler.block_pool.num_cached
    world.run()
    assert sequence.finish_reason == "error" and world.scheduler.block_pool.num_cached == num_cached > 0
    check_scheduler(world)

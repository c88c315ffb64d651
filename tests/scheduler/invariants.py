"""What must hold in a block pool and a scheduler after every call, whatever the calls were."""

from collections import Counter
from collections.abc import Iterable

from farthing.scheduler.batch import Batch
from farthing.scheduler.block_pool import BlockPool
from farthing.scheduler.scheduler import _IDLE_TURN, Scheduler
from farthing.scheduler.sequence import Sequence

from .virtual_executor import World


def check_pool(pool: BlockPool, tables: Iterable[list[int]]) -> None:
    """`tables`: the block tables of all holders."""
    held = Counter(block_id for table in tables for block_id in table)
    assert [pool.num_references(block_id) for block_id in range(pool.num_blocks)] == [
        held[block_id] for block_id in range(pool.num_blocks)
    ], "references are the number of holders"

    free, kept = list(pool._free), list(pool._kept)
    assert sorted([*free, *kept, *held]) == list(range(pool.num_blocks)), "each block is free, kept or held, and once"
    assert pool.num_available == len(free) + len(kept)

    assert {block_id: key for key, block_id in pool._block_of.items()} == pool._key_of
    assert pool._serial_of.keys() == pool._key_of.keys()
    assert set(kept) <= pool._key_of.keys() and pool._key_of.keys().isdisjoint(free)
    block_by_serial = {serial: block_id for block_id, serial in pool._serial_of.items()}
    assert len(block_by_serial) == len(pool._serial_of)
    for block_id, (parent, token_ids, _) in pool._key_of.items():
        assert len(token_ids) == pool.block_size
        if parent:
            parent_id = block_by_serial[parent]  # a KeyError here: a child outlived its parent
            assert pool.num_references(parent_id) >= pool.num_references(block_id)
            if parent_id in pool._kept:
                assert kept.index(block_id) < kept.index(parent_id), "children are evicted first"


def check_scheduler(world: World) -> None:
    scheduler = world.scheduler
    running, waiting = scheduler._running, scheduler._waiting
    assert all(queue == sorted(queue, key=lambda s: s.rank) for queue in (running, waiting))
    assert len(running) <= scheduler._max_num_seqs
    assert not any(sequence.block_ids for sequence in waiting)
    given_up = [table for flight in scheduler._in_flight.values() for table in flight.tables]
    check_pool(scheduler.block_pool, [*(sequence.block_ids for sequence in running), *given_up])
    _check_sharing(scheduler, running)
    for batch in world.executor.batches_in_flight:
        _check_idle_sequences(world, batch)
        assert batch.shape.num_tokens <= scheduler._max_batch_tokens
        assert batch.shape.num_logits <= scheduler._max_num_seqs
        for item in batch.items:
            for block_id in item.block_ids:
                assert scheduler.block_pool.num_references(block_id), "released while a batch in flight touches it"


def _check_idle_sequences(world: World, batch: Batch) -> None:
    """Beside others they are rare, and never more than those."""
    idle, others = 0, 0
    for item in batch.items:
        is_idle = world.sequences[item.seq_id].is_idle
        idle += is_idle * len(item.token_ids)
        others += (not is_idle) * len(item.token_ids)
    if others and idle:
        assert batch.batch_id % _IDLE_TURN == 0 and idle <= others


def _check_sharing(scheduler: Scheduler, running: list[Sequence]) -> None:
    """Equal block, equal place, equal salt, equal tokens up to its end."""
    block_size = scheduler.block_pool.block_size
    seen: dict[int, tuple[int, str, list[int]]] = {}
    for sequence in running:
        for index, block_id in enumerate(sequence.block_ids):
            end = (index + 1) * block_size
            value = (index, sequence.salt, sequence.token_ids[:end])
            assert seen.setdefault(block_id, value) == value
            if scheduler.block_pool.num_references(block_id) > 1 and len(sequence.token_ids) < end:
                holders = sum(block_id in other.block_ids for other in running)
                assert holders == 1, "a block that is not full has one owner"


def check_idle(world: World) -> None:
    scheduler = world.scheduler
    assert not scheduler.has_unfinished and not scheduler.num_running and not scheduler.num_waiting
    assert scheduler.block_pool.num_available == scheduler.block_pool.num_blocks
    assert scheduler.schedule(world.clock.now()) is None
    num_tokens = sum(batch.shape.num_tokens for batch in world.executor.batches)
    assert scheduler.stats.num_scheduled_tokens == num_tokens
    num_kept = sum(len(tokens) for tokens in world.outputs.values())
    assert scheduler.stats.num_dropped_tokens == world.executor.num_sampled_tokens - num_kept
    num_drafts = sum(item.num_drafts for batch in world.executor.batches for item in batch.items)
    assert scheduler.stats.num_draft_tokens == num_drafts >= scheduler.stats.num_accepted_tokens
    for seq_id, sequence in world.sequences.items():
        assert sequence.output_ids == world.outputs[seq_id]
        assert sequence.num_pending_tokens == 0 and sequence.block_ids == []

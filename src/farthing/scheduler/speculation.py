"""Drafts for the decodes of a batch: several tokens of a sequence computed in one step, kept as far as they are right.

A drafted token counts only where it is the token that is sampled in its place anyway, so outputs are what they are
without drafts. They take what nobody else wants: no drafts beside a prompt, none for idle sequences, none that cost
another its block, and no more rows of logits than sequences may run. Knows no prices: a DraftPolicy does.
"""

from farthing.scheduler.block_pool import BlockPool
from farthing.scheduler.drafts import DraftPolicy
from farthing.scheduler.flight import Flight
from farthing.scheduler.sequence import Sequence


def add_drafts(flight: Flight, pool: BlockPool, policy: DraftPolicy, room: int, num_running: int) -> int:
    """How many drafts were added, at most `room`. `num_running`: sequences that may need a block in the next step."""
    if any(len(item.token_ids) > 1 for item in flight.items):
        return 0
    num_sequences, left = len(flight.items), min(room, flight.budget)
    num_added = 0
    for index, (sequence, _) in enumerate(flight.members):
        item = flight.items[index]
        if sequence.drafter is None or sequence.is_idle or not item.samples or not item.output_index:
            continue
        most = min(left - num_added, sequence.max_output_tokens - item.output_index - 1)
        if most > 0 and (acceptance := sequence.drafter.acceptance()):
            most = min(most, policy.num_drafts(num_sequences, acceptance))
            most = min(most, _room(sequence, pool, most, num_running))
            if most > 0:
                flight.add_drafts(index, sequence.drafter.drafts(most), pool.block_size)
                num_added += most
    return num_added


def _room(sequence: Sequence, pool: BlockPool, num_drafts: int, num_running: int) -> int:
    """Drafts that the blocks of a sequence have room for, with more blocks if enough are left for the others."""
    room = len(sequence.block_ids) * pool.block_size - sequence.num_scheduled_tokens
    if num_drafts > room:
        num_blocks = pool.blocks_for(num_drafts - room)
        if pool.num_available - num_blocks >= num_running:
            sequence.block_ids += pool.allocate(num_blocks)
            sequence.block_table = None
            room += num_blocks * pool.block_size
    return room

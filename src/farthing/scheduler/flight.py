"""A batch in the making and on its way: its items, whose they are, and the blocks that wait for it to come back.

Knows neither tensors nor prices, and not why a sequence is in it: scheduler.py decides.
"""

from dataclasses import dataclass, field

from farthing.scheduler.batch import PENDING_TOKEN, BatchItem
from farthing.scheduler.sequence import Sequence

_new = tuple.__new__  # of a named tuple: its own constructor takes twice the time, and there are millions


@dataclass(slots=True)
class Flight:
    """A batch from `schedule` to `update`.

    `members`: per item its sequence and the number of its preemptions, which tells whether the item's block table is
    still the sequence's own. `tables`: block tables that were given up while this batch was the last to touch them.
    """

    batch_id: int
    budget: int
    items: list[BatchItem] = field(default_factory=list)
    members: list[tuple[Sequence, int]] = field(default_factory=list)
    tables: list[list[int]] = field(default_factory=list)

    def take(self, sequence: Sequence, num_tokens: int, block_size: int) -> None:
        """Adds the next `num_tokens` tokens of a sequence that has the blocks for them."""
        start, known, num_pending = sequence.num_scheduled_tokens, sequence.token_ids, sequence.num_pending_tokens
        num_known = len(known)
        end = start + num_tokens
        samples = end == num_known + num_pending
        if end > num_known:
            token_ids: tuple[int, ...] = (PENDING_TOKEN,)
        else:
            token_ids = (known[start],) if num_tokens == 1 else tuple(known[start:end])
        block_ids = sequence.block_table
        if block_ids is None:
            block_ids = sequence.block_table = tuple(sequence.block_ids)
        num_blocks = -(-end // block_size)
        if num_blocks < len(block_ids):
            block_ids = block_ids[:num_blocks]
        output_index = num_known + num_pending - sequence.num_prompt_tokens
        self.items.append(_new(BatchItem, (sequence.seq_id, start, token_ids, block_ids, samples, output_index, 0)))
        self.members.append((sequence, sequence.num_preemptions))
        self.budget -= num_tokens
        sequence.num_scheduled_tokens = end
        if samples:
            sequence.num_pending_tokens = num_pending + 1
        sequence.last_batch_id = self.batch_id

    def add_drafts(self, index: int, drafts: tuple[int, ...], block_size: int) -> None:
        """Behind the one token of an item, whose sequence has the blocks for them."""
        item, (sequence, _) = self.items[index], self.members[index]
        if sequence.block_table is None:
            sequence.block_table = tuple(sequence.block_ids)
        num_blocks = -(-(item.start + 1 + len(drafts)) // block_size)
        self.items[index] = item._replace(
            token_ids=item.token_ids + drafts,
            block_ids=sequence.block_table[:num_blocks],
            num_drafts=len(drafts),
        )
        self.budget -= len(drafts)

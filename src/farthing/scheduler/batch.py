"""What goes to an executor and what comes back: plain values that can cross a process border.

Knows no sequence objects, no tensors and no prices. `Batch.shape` is what ops/ needs to price the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from farthing.ops.batch import BatchShape
from farthing.scheduler.sequence import FinishReason

PENDING_TOKEN = -1
"""Stands for a token that was still in flight when the batch was made: the executor puts in what its newest earlier
batch with a sampling item of this sequence has drawn."""


class BatchItem(NamedTuple):
    """The part of one sequence in one step. (A named tuple: millions of them are made.)

    `start`: tokens whose KV is there before this step = position of the first new token.
    `token_ids`: the new tokens; exactly `(PENDING_TOKEN,)` where the newest token is still in flight. The last
    `num_drafts` of them are guesses.
    `block_ids`: the block table, just long enough for start + len(token_ids) tokens.
    `samples`: whether the step yields a token: a decode, or the last chunk of a prefix. With drafts it yields one more
    for each that is right, up to the first that is wrong.
    `output_index`: index of the first of them among the output tokens, from 0 (the counter of the random numbers).
    """

    seq_id: int
    start: int
    token_ids: tuple[int, ...]
    block_ids: tuple[int, ...]
    samples: bool
    output_index: int
    num_drafts: int = 0


@dataclass(frozen=True)
class Batch:
    """One step. `batch_id` counts from 0; batches are executed and collected in this order."""

    batch_id: int
    items: tuple[BatchItem, ...]

    @cached_property
    def shape(self) -> BatchShape:
        """(new tokens, context tokens) per item; one row of logits per sampling item, and one per draft."""
        return BatchShape.of(
            ((len(item.token_ids), item.start) for item in self.items),
            num_logits=sum(item.samples + item.num_drafts for item in self.items),
        )

    @cached_property
    def is_decode(self) -> bool:
        """Whether no sequence has more than one new token, drafts aside."""
        return all(len(item.token_ids) - item.num_drafts == 1 for item in self.items)


@dataclass(frozen=True, slots=True)
class Done:
    """A collected batch: seq_id -> sampled token for its sampling items, and when it finished, in seconds.

    `num_accepted`: seq_id -> how many of its drafts, from the first on, are the tokens that were sampled in their
    places; `token_ids` has the one that comes after these. Without an entry there is none.
    `failed`: seq_id -> why no token could be drawn for it (a line for the one who asked). Such a sampling item has no
    token, and what the step computed for it must not be used again.
    """

    batch: Batch
    token_ids: Mapping[int, int]
    finished_at: float
    failed: Mapping[int, str] = field(default_factory=dict)
    num_accepted: Mapping[int, int] = field(default_factory=dict)


class TokenOutput(NamedTuple):
    """A new token of a sequence; `finish_reason` is set with the last one. Reason "error" comes without a token and
    with the text of the `error`."""

    seq_id: int
    token_id: int | None
    finish_reason: FinishReason | None
    error: str = ""

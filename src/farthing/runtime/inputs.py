"""A scheduled batch as the tensors that the decoder reads: ids, positions, slots, block tables, rows that yield logits.

They are the beginnings of buffers that stay where they are, so that a recorded step can read them again and again.
What lies behind a batch is a row for each further sequence that computes nothing: it has no slot and no position.
Knows the layout of the KV cache (slot = block * block_size + offset). Knows no weights; runtime/decoder.py comes next.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import torch

from farthing.kernels.sequences import Sequences
from farthing.runtime.int_buffer import IntBuffer
from farthing.scheduler.batch import Batch


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest step: new tokens, sequences, and positions of one of them."""

    max_tokens: int
    max_sequences: int
    max_positions: int


@dataclass(frozen=True, slots=True)
class StepInputs:
    """T tokens of all sequences, one after the other; int64."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    slots_T: torch.Tensor
    sequences: Sequences
    logit_rows: torch.Tensor


_KEPT_VIEWS = 64
NO_SLOT = -1
"""Of a row that computes nothing: its keys and values are not kept."""


class InputBuffers:
    """Room for any step within `limits`, on `device`; `whole` is all of it. `depth`: steps that may be on their way."""

    def __init__(self, limits: Limits, *, block_size: int, device: torch.device, depth: int = 1) -> None:
        self.device = device
        self._block_size, self._depth, self._turn = block_size, depth, 0
        num_sequences, max_blocks = limits.max_sequences, -(-limits.max_positions // block_size)
        self._max_sequences, self._pads = num_sequences, device.type != "cpu"
        self._columns = tuple(IntBuffer(num_sequences, device=device, turns=depth) for _ in range(3))
        self._rows = tuple(IntBuffer(limits.max_tokens, device=device, turns=depth) for _ in range(4))
        self._of_shape = self._columns[0], self._columns[1], self._rows[3]
        self._of_step = *self._rows[:3], self._columns[2]
        self._shapes: dict[IntBuffer, tuple[int, ...]] = {}  # what these buffers hold
        self._table = IntBuffer(num_sequences, max_blocks, device=device, turns=depth)
        self._tables: list[tuple[int, ...]] = [()] * num_sequences  # what the rows of the block table hold
        self._pending = tuple(IntBuffer(num_sequences, device=device, turns=depth) for _ in range(2))
        self.first = lru_cache(_KEPT_VIEWS)(self._first)
        self.whole = self.first(limits.max_tokens, num_sequences, limits.max_tokens)

    def fill(self, batch: Batch, all_rows_of: Set[int] = frozenset()) -> StepInputs:
        """The batch in the buffers. `all_rows_of`: ids of sequences whose every row yields logits (prompt logprobs),
        not just the sampling one and its drafts. A PENDING_TOKEN is left to `put_pending`."""
        self._turn = (self._turn + 1) % self._depth
        block_size, turn = self._block_size, self._turn
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        described: list[tuple[int, int, int]] = []
        logit_rows: list[int] = []
        for index, item in enumerate(batch.items):
            first_row, num_rows, block_ids = len(token_ids), len(item.token_ids), item.block_ids
            token_ids.extend(item.token_ids)
            span = range(item.start, item.start + num_rows)
            positions.extend(span)
            slots.extend(block_ids[position // block_size] * block_size + position % block_size for position in span)
            described.append((first_row, num_rows, item.start))
            if self._tables[index] is not block_ids:
                self._tables[index] = block_ids
                self._table.put(block_ids, index, turn)
            if item.seq_id in all_rows_of:
                logit_rows.extend(range(first_row, first_row + num_rows))
            elif item.samples:
                end = first_row + num_rows
                logit_rows.extend(range(end - 1 - item.num_drafts, end))
        sizes = len(token_ids), len(described), len(logit_rows)
        if self._pads:
            token_ids, positions, slots, logit_rows, described = self._padded(
                token_ids, positions, slots, logit_rows, described
            )
        first_rows, num_rows, starts = zip(*described, strict=True)
        for buffer, values in zip(self._of_shape, (first_rows, num_rows, tuple(logit_rows)), strict=True):
            if self._shapes.get(buffer) != values:  # from decode to decode they stay what they are
                self._shapes[buffer] = values
                buffer.put(values, turn=turn)
        for buffer, values in zip(self._of_step, (token_ids, positions, slots, starts), strict=True):
            buffer.put(values, turn=turn)
        return self.first(*sizes)

    def put_pending(self, rows: Sequence[int], sources: Sequence[int], token_R: torch.Tensor) -> None:
        """Into these rows of the batch that was filled in last the tokens at `sources` of `token_R`, on the device."""
        for buffer, values in zip(self._pending, (rows, sources), strict=True):
            buffer.put(values, turn=self._turn)
        rows_P, sources_P = (buffer.tensor[: len(rows)] for buffer in self._pending)
        self.whole.token_ids_T.index_copy_(0, rows_P, token_R[sources_P])

    def _padded(
        self,
        token_ids: list[int],
        positions: list[int],
        slots: list[int],
        logit_rows: list[int],
        described: list[tuple[int, int, int]],
    ) -> tuple[list[int], list[int], list[int], list[int], list[tuple[int, int, int]]]:
        """Rows that compute nothing behind those of the batch, up to one a sequence."""
        missing = range(len(token_ids), self._max_sequences)
        zeros = [0] * len(missing)
        idle = [(row, 0, 0) for row in range(len(described), self._max_sequences)]
        return (
            token_ids + zeros,
            positions + zeros,
            slots + [NO_SLOT] * len(missing),
            logit_rows + list(range(len(logit_rows), self._max_sequences)),
            described + idle,
        )

    def _first(self, num_tokens: int, num_sequences: int, num_logits: int) -> StepInputs:
        """The beginnings of the buffers. Steps of the same sizes follow each other, and get the same views."""
        token_ids, positions, slots, logit_rows = (buffer.tensor for buffer in self._rows)
        first_rows, num_rows, starts = (column.tensor[:num_sequences] for column in self._columns)
        return StepInputs(
            token_ids[:num_tokens],
            positions[:num_tokens],
            slots[:num_tokens],
            Sequences(first_rows, num_rows, starts, self._table.tensor[:num_sequences]),
            logit_rows[:num_logits],
        )

"""A scheduled batch as the tensors that the decoder reads: ids, positions, slots, block tables, rows that yield logits.

They are the beginnings of buffers that stay where they are, so that a recorded step can read them again and again.
Knows the layout of the KV cache (slot = block * block_size + offset). Knows no weights; runtime/decoder.py comes next.
"""

from collections.abc import Set
from dataclasses import dataclass

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


class InputBuffers:
    """Room for any step within `limits`, on `device`; `whole` is all of it."""

    def __init__(self, limits: Limits, *, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        num_sequences, max_blocks = limits.max_sequences, -(-limits.max_positions // block_size)
        self._columns = tuple(IntBuffer(num_sequences, device=device) for _ in range(3))
        self._rows = tuple(IntBuffer(limits.max_tokens, device=device) for _ in range(4))
        self._table = IntBuffer(num_sequences, max_blocks, device=device)
        self._tables: list[tuple[int, ...]] = [()] * num_sequences  # what the rows of the block table hold
        self.whole = self._first(limits.max_tokens, num_sequences, limits.max_tokens)

    def fill(self, batch: Batch, all_rows_of: Set[int] = frozenset()) -> StepInputs:
        """The batch in the buffers. `all_rows_of`: ids of sequences whose every row yields logits (prompt logprobs),
        not just the sampling one and its drafts."""
        block_size = self._block_size
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
                self._table.put(block_ids, index)
            if item.seq_id in all_rows_of:
                logit_rows.extend(range(first_row, first_row + num_rows))
            elif item.samples:
                end = first_row + num_rows
                logit_rows.extend(range(end - 1 - item.num_drafts, end))
        for column, values in zip(self._columns, zip(*described, strict=True), strict=True):
            column.put(values)
        for buffer, values in zip(self._rows, (token_ids, positions, slots, logit_rows), strict=True):
            buffer.put(values)
        return self._first(len(token_ids), len(described), len(logit_rows))

    def _first(self, num_tokens: int, num_sequences: int, num_logits: int) -> StepInputs:
        """The beginnings of the buffers."""
        token_ids, positions, slots, logit_rows = (buffer.tensor for buffer in self._rows)
        first_rows, num_rows, starts = (column.tensor[:num_sequences] for column in self._columns)
        return StepInputs(
            token_ids[:num_tokens],
            positions[:num_tokens],
            slots[:num_tokens],
            Sequences(first_rows, num_rows, starts, self._table.tensor[:num_sequences]),
            logit_rows[:num_logits],
        )

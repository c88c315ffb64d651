"""A scheduled batch as the tensors that the decoder reads: ids, positions, slots, block tables, rows that yield logits.

They are the beginnings of buffers that stay where they are, so that a recorded step can read them again and again.
Knows the layout of the KV cache (slot = block * block_size + offset). Knows no weights; runtime/decoder.py comes next.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch

from farthing.kernels.sequences import Sequences
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

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        num_sequences, max_blocks = limits.max_sequences, -(-limits.max_positions // block_size)
        described = (zeros(num_sequences), zeros(num_sequences), zeros(num_sequences))
        sequences = Sequences(*described, zeros(num_sequences, max_blocks))
        tokens = (zeros(limits.max_tokens), zeros(limits.max_tokens), zeros(limits.max_tokens))
        self.whole = StepInputs(*tokens, sequences, zeros(limits.max_tokens))
        self._tables: list[tuple[int, ...]] = [()] * num_sequences  # what the rows of the block tables hold

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
                _put(self.whole.sequences.tables_SP[index], block_ids)
            if item.seq_id in all_rows_of:
                logit_rows.extend(range(first_row, first_row + num_rows))
            elif item.samples:
                end = first_row + num_rows
                logit_rows.extend(range(end - 1 - item.num_drafts, end))
        whole, sequences = self.whole, self.whole.sequences
        first_rows_S, num_rows_S, starts_S = zip(*described, strict=True)
        return StepInputs(
            _put(whole.token_ids_T, token_ids),
            _put(whole.positions_T, positions),
            _put(whole.slots_T, slots),
            Sequences(
                _put(sequences.first_rows_S, first_rows_S),
                _put(sequences.num_rows_S, num_rows_S),
                _put(sequences.starts_S, starts_S),
                sequences.tables_SP[: len(described)],
            ),
            _put(whole.logit_rows, logit_rows),
        )


def _put(buffer: torch.Tensor, values: Sequence[int]) -> torch.Tensor:
    """The beginning of the buffer, with the values in it."""
    part = buffer[: len(values)]
    part.copy_(torch.tensor(values, dtype=torch.int64))
    return part

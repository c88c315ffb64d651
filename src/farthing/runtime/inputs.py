"""A scheduled batch as the tensors that the decoder reads: ids, positions, slots, block tables, rows that yield logits.

Knows the layout of the KV cache (slot = block * block_size + offset). Knows no weights; runtime/decoder.py comes next.
"""

from collections.abc import Set
from dataclasses import dataclass

import torch

from farthing.scheduler.batch import Batch


@dataclass(frozen=True, slots=True)
class StepInputs:
    """T tokens of all sequences, one after the other. `sequences`: (first row, rows, start, block table) each."""

    token_ids_T: torch.Tensor
    positions_T: torch.Tensor
    slots_T: torch.Tensor
    sequences: list[tuple[int, int, int, torch.Tensor]]
    logit_rows: torch.Tensor


def build_inputs(
    batch: Batch, block_size: int, device: torch.device, all_rows_of: Set[int] = frozenset()
) -> StepInputs:
    """`all_rows_of`: ids of sequences whose every row yields logits (prompt logprobs), not just the sampling one."""
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sequences: list[tuple[int, int, int, torch.Tensor]] = []
    logit_rows: list[int] = []
    for item in batch.items:
        first_row, num_rows = len(token_ids), len(item.token_ids)
        token_ids.extend(item.token_ids)
        span = range(item.start, item.start + num_rows)
        positions.extend(span)
        slots.extend(item.block_ids[position // block_size] * block_size + position % block_size for position in span)
        sequences.append((first_row, num_rows, item.start, torch.tensor(item.block_ids, device=device)))
        if item.seq_id in all_rows_of:
            logit_rows.extend(range(first_row, first_row + num_rows))
        elif item.samples:
            logit_rows.append(first_row + num_rows - 1)
    return StepInputs(
        torch.tensor(token_ids, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(slots, device=device),
        sequences,
        torch.tensor(logit_rows, dtype=torch.int64, device=device),
    )

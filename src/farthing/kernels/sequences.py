"""The sequences of one step as attention reads them: where their rows stand, how much came before, their KV blocks.

Shapes: S sequences, P blocks of the longest block table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Sequences:
    """int64 tensors. Rows `first_rows_S` to + `num_rows_S` of the step stand at positions `starts_S` and on, and
    `tables_SP` has the blocks of all positions up to the last of them (what lies behind these is not read)."""

    first_rows_S: torch.Tensor
    num_rows_S: torch.Tensor
    starts_S: torch.Tensor
    tables_SP: torch.Tensor

    @classmethod
    def of(cls, parts: list[tuple[int, int, int, torch.Tensor]]) -> "Sequences":
        """From (first row, rows, start, block table) each."""
        width = max((len(table) for *_, table in parts), default=1)
        tables_SP = torch.zeros(len(parts), width, dtype=torch.int64)
        for row, (*_, table) in enumerate(parts):
            tables_SP[row, : len(table)] = table
        columns = torch.tensor([part[:3] for part in parts], dtype=torch.int64).reshape(len(parts), 3)
        first_rows_S, num_rows_S, starts_S = (column.contiguous() for column in columns.unbind(1))
        return cls(first_rows_S, num_rows_S, starts_S, tables_SP)

    def each(self, block_size: int) -> Iterator[tuple[int, int, int, torch.Tensor]]:
        """(first row, rows, start, block table) of each, the table as long as its tokens need."""
        columns = (self.first_rows_S, self.num_rows_S, self.starts_S)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for index, (first_row, num_rows, start) in enumerate(rows):
            num_blocks = -(-(start + num_rows) // block_size)
            yield first_row, num_rows, start, self.tables_SP[index, :num_blocks]

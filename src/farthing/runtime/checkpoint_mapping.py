"""Tensors in a file, read by mapping only the pages that are asked for.

A tensor is a matrix underneath: all dimensions but the last are rows (of a vector, each element is a row). Knows no
names, headers or models: runtime/checkpoint_safetensors.py and checkpoint_gguf.py say what stands where.
"""

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from farthing.errors import CheckpointError


class Matrix(Protocol):
    """R rows of C numbers, wherever they come from."""

    @property
    def stored_as(self) -> str:
        """How the file holds the numbers: "bf16", "fp32", "q4_k", ..."""

    @property
    def dtype(self) -> torch.dtype:
        """What `read` returns."""

    def read(self, rows: range, columns: range) -> torch.Tensor:
        """The part [len(rows), len(columns)]; both ranges have step 1, lie inside the matrix and are not empty."""


class MappedFile:
    """A file of which parts are mapped. A tensor keeps its own pages mapped, also after `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")

    def bytes(self, offset_bytes: int, num_bytes: int) -> torch.Tensor:
        """`num_bytes` > 0 bytes of the file as uint8, not copied. Writing to them changes memory, never the file."""
        before = offset_bytes % mmap.ALLOCATIONGRANULARITY
        try:
            # ACCESS_COPY because torch has no read-only tensors. One mapping for each read instead of one for the file,
            # because Linux counts private writable pages as memory and refuses a mapping larger than the machine's.
            pages = mmap.mmap(
                self._file.fileno(), before + num_bytes, access=mmap.ACCESS_COPY, offset=offset_bytes - before
            )
        except (OSError, ValueError) as error:  # ValueError: the file is shorter now than its header said
            raise CheckpointError(
                f"{self._path} can't be mapped: {error}", fix="leave the file alone while it loads"
            ) from None
        return torch.frombuffer(pages, dtype=torch.uint8, offset=before, count=num_bytes)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class PlainMatrix:
    """Numbers that torch knows, row after row from `offset_bytes` on; reading gives a view of the mapped file."""

    file: MappedFile
    offset_bytes: int
    num_columns: int
    dtype: torch.dtype
    stored_as: str

    def read(self, rows: range, columns: range) -> torch.Tensor:
        row_bytes = self.num_columns * self.dtype.itemsize
        values = self.file.bytes(self.offset_bytes + rows.start * row_bytes, len(rows) * row_bytes)
        if values.data_ptr() % self.dtype.itemsize:
            values = values.clone()  # nothing obliges a writer to align; kernels expect it
        return values.view(self.dtype).view(len(rows), self.num_columns)[:, columns.start : columns.stop]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of any number of dimensions over the matrix that holds it."""

    shape: tuple[int, ...]
    matrix: Matrix

    def read(self, rows: slice, columns: slice) -> torch.Tensor:
        """`rows` of the first dimension and `columns` of the last, as Python slices without a step."""
        outer = self.shape[:1] or (1,)
        inner, last = self.shape[1:-1], self.shape[1:][-1:]
        first = range(outer[0])[rows]
        second = range(last[0] if last else 1)[columns]
        assert first.step == 1 and second.step == 1, "only contiguous parts are read"
        wanted = (len(first), *inner, *([len(second)] if last else []))
        if not math.prod(wanted):
            return torch.empty(wanted, dtype=self.matrix.dtype)
        between = math.prod(inner)
        part = self.matrix.read(range(first.start * between, first.stop * between), second)
        return part.reshape(wanted) if self.shape else part.reshape(())

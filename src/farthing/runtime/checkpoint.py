"""A checkpoint of any kind as named tensors that are read when they are asked for, whole or in part.

Names and shapes are those of Hugging Face whatever the file. Knows no model: runtime/loader.py compares them with the
description. The kinds are checkpoint_safetensors.py and checkpoint_gguf.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from farthing.models.checkpoint_files import find_weights
from farthing.runtime.checkpoint_gguf import gguf_tensors
from farthing.runtime.checkpoint_mapping import MappedFile, StoredTensor
from farthing.runtime.checkpoint_safetensors import safetensors_tensors

_ALL = slice(None)


class Checkpoint:
    """Open files and the tensors in them. A context manager; tensors that were read outlive it."""

    def __init__(self, files: Sequence[MappedFile], tensors: Mapping[str, StoredTensor]) -> None:
        self._files = files
        self._tensors = tensors
        self.names = tuple(tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def stored_as(self, name: str) -> str:
        """How the file holds the numbers: "bf16", "fp32", "fp8_e4m3", "q4_k", ..."""
        return self._tensors[name].matrix.stored_as

    def read(self, name: str, *, rows: slice = _ALL, columns: slice = _ALL) -> torch.Tensor:
        """The tensor, or `rows` of its first and `columns` of its last dimension (slices without a step).

        Numbers that torch knows come as a view of the mapped file, in their own dtype: copy what has to stay. Blocks
        come as float32. KeyError for a name that is not there; CheckpointError if the file has changed meanwhile.
        """
        return self._tensors[name].read(rows, columns)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(path: Path) -> Checkpoint:
    """A folder, a .safetensors or a .gguf file, its headers read and checked, no data yet.

    ModelNotFoundError, CheckpointError, ConfigError and UnsupportedError say what is wrong with it.
    """
    weights = find_weights(path)
    if weights.is_gguf:
        return Checkpoint(*gguf_tensors(weights.files[0]))
    return Checkpoint(*safetensors_tensors(weights))

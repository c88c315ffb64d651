"""The tensors of a GGUF file under their Hugging Face names; block-quantised ones are dequantised piece by piece.

The numbers are those of the gguf package. Knows how GGUF stores rows; models/gguf_header.py has read where.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from farthing.errors import CheckpointError, UnsupportedError
from farthing.models.gguf_config import config_from_gguf
from farthing.models.gguf_header import BLOCK_TYPES, BlockType, GgufTensor, read_gguf_header
from farthing.models.gguf_names import hugging_face_name, interleaved_heads
from farthing.runtime.checkpoint_mapping import MappedFile, Matrix, PlainMatrix, StoredTensor

_PLAIN = {
    "F64": (torch.float64, "fp64"),
    "F32": (torch.float32, "fp32"),
    "F16": (torch.float16, "fp16"),
    "BF16": (torch.bfloat16, "bf16"),
    "I8": (torch.int8, "int8"),
    "I16": (torch.int16, "int16"),
    "I32": (torch.int32, "int32"),
    "I64": (torch.int64, "int64"),
}
_BLOCKS = {block.name: block for block in BLOCK_TYPES.values()}
_PIECE_ELEMENTS = 2**18  # dequantising takes some ten times the memory of its result: the result is made in pieces


def gguf_tensors(path: Path) -> tuple[list[MappedFile], dict[str, StoredTensor]]:
    """The file, opened, and every tensor in it by name; one without a Hugging Face name keeps its own.

    CheckpointError for a damaged file; ConfigError and UnsupportedError as config_from_gguf, and for block types that
    the gguf package does not dequantise.
    """
    header = read_gguf_header(path)
    config = config_from_gguf(header)
    for type_name in {tensor.type_name for tensor in header.tensors.values()} - _PLAIN.keys():
        _check_dequantises(path, _BLOCKS[type_name])
    file = MappedFile(path)
    tensors: dict[str, StoredTensor] = {}
    for tensor in header.tensors.values():
        name = hugging_face_name(tensor.name)
        if name in tensors:
            raise CheckpointError(f"{path} holds {name!r:.100} under two names", fix="convert the model again")
        matrix = _matrix(file, tensor)
        if heads := interleaved_heads(str(header.metadata["general.architecture"]), tensor.name):
            num_heads = config[heads]
            assert isinstance(num_heads, int)
            if tensor.shape[0] % (2 * num_heads):
                raise CheckpointError(
                    f"{path}: {tensor.name} has {tensor.shape[0]} rows, not {num_heads} heads of an even size",
                    fix="the file is damaged or was converted badly: convert or download it again",
                )
            matrix = InterleavedHeads(matrix, head_rows=tensor.shape[0] // num_heads)
        tensors[name] = StoredTensor(tensor.shape, matrix)
    return [file], tensors


def _matrix(file: MappedFile, tensor: GgufTensor) -> Matrix:
    num_columns = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    if tensor.type_name in _PLAIN:
        return PlainMatrix(file, tensor.offset_bytes, num_columns, *_PLAIN[tensor.type_name])
    if len(tensor.shape) == 1:
        raise UnsupportedError(
            f"GGUF vector {tensor.name!r:.100} in blocks of {tensor.type_name}", fix="convert it as F32"
        )
    return BlockMatrix(file, tensor.offset_bytes, num_columns, _BLOCKS[tensor.type_name])


def _check_dequantises(path: Path, block: BlockType) -> None:
    """Now, by a block of zeros, and not in the middle of loading."""
    try:
        dequantize(np.zeros((1, block.num_bytes), np.uint8), GGMLQuantizationType[block.name])
    except (KeyError, NotImplementedError):
        raise UnsupportedError(
            f"{path} holds {block.name} blocks, which the installed gguf package does not dequantise",
            fix="update it (pip install -U gguf), or use a file with other types",
        ) from None


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """Rows of whole blocks; reading gives float32, the very numbers of gguf.quants.dequantize."""

    file: MappedFile
    offset_bytes: int
    num_columns: int
    block: BlockType

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def stored_as(self) -> str:
        return self.block.name.lower()

    def read(self, rows: range, columns: range) -> torch.Tensor:
        block_type = GGMLQuantizationType[self.block.name]
        row_bytes = self.num_columns // self.block.elements * self.block.num_bytes
        stored = self.file.bytes(self.offset_bytes + rows.start * row_bytes, len(rows) * row_bytes)
        first_block, end_block = columns.start // self.block.elements, -(-columns.stop // self.block.elements)
        skipped = columns.start - first_block * self.block.elements
        blocks = stored.view(len(rows), -1, self.block.num_bytes)[:, first_block:end_block].numpy()
        read_columns = (end_block - first_block) * self.block.elements
        piece_rows = max(1, _PIECE_ELEMENTS // read_columns)
        result = torch.empty(len(rows), len(columns))
        for start in range(0, len(rows), piece_rows):
            piece = blocks[start : start + piece_rows]
            with np.errstate(all="ignore"):  # damaged scales give infinities and NaN, which the loader reports
                values = dequantize(np.ascontiguousarray(piece).reshape(1, -1), block_type)
            values = values.reshape(len(piece), read_columns)[:, skipped : skipped + len(columns)]
            result[start : start + piece_rows] = torch.from_numpy(values)
        return result


@dataclass(frozen=True, slots=True)
class InterleavedHeads:
    """Another matrix with the two rotary halves of each head of `head_rows` rows put back one after the other."""

    matrix: Matrix
    head_rows: int

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    @property
    def stored_as(self) -> str:
        return self.matrix.stored_as

    def read(self, rows: range, columns: range) -> torch.Tensor:
        heads = range(rows.start // self.head_rows, -(-rows.stop // self.head_rows))  # whole heads around the rows
        first = heads.start * self.head_rows
        stored = self.matrix.read(range(first, heads.stop * self.head_rows), columns)
        halves = stored.view(len(heads), self.head_rows // 2, 2, -1).transpose(1, 2)
        return halves.reshape(stored.shape)[rows.start - first : rows.stop - first]

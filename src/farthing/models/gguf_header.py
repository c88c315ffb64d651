"""The header of a GGUF file, read as untrusted bytes: its metadata, and which tensors it holds and where.

Every count, length, dimension, type and offset is checked against the bytes that are left before anything is allocated,
and the header as a whole is limited, so that a hostile file costs little time and memory. Knows no model and no torch:
models/gguf_config.py gives the metadata its meaning, runtime/checkpoint_gguf.py reads the data.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

import math
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from farthing.errors import CheckpointError, UnsupportedError

GgufValue = bool | int | float | str | list[Any]
"""A metadata value; the items of a list are GgufValues of one kind."""


class BlockType(NamedTuple):
    """How ggml stores a row: blocks of `elements` values in `num_bytes` bytes; plain numbers are blocks of one."""

    name: str
    elements: int
    num_bytes: int


BLOCK_TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    9: BlockType("Q8_1", 32, 40),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    15: BlockType("Q8_K", 256, 292),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: BlockType("IQ4_NL", 32, 18),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: BlockType("IQ4_XS", 256, 136),
    24: BlockType("I8", 1, 1),
    25: BlockType("I16", 1, 2),
    26: BlockType("I32", 1, 4),
    27: BlockType("I64", 1, 8),
    28: BlockType("F64", 1, 8),
    29: BlockType("IQ1_M", 256, 56),
    30: BlockType("BF16", 1, 2),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
}
"""ggml type id -> block type; the ids between were retired. A test holds it equal to the table of the gguf package."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}  # type id -> array code
_BOOL, _STRING, _ARRAY = 7, 8, 9
_UINT32, _UINT64 = struct.Struct("<I"), struct.Struct("<Q")

_MAX_HEADER_BYTES = 64 * 2**20  # the largest vocabularies, with a tokenizer.json beside them, take half of it
_MAX_NAME_CHARACTERS = 65535
_MAX_DIMENSIONS = 4
_MAX_ELEMENTS = 2**63
_MAX_ARRAY_DEPTH = 4
_MIN_PAIR_BYTES, _MIN_TENSOR_BYTES, _MIN_STRING_BYTES, _MIN_ARRAY_BYTES = 13, 32, 8, 12
_DAMAGED = "the file is damaged or hostile: download it again"


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` outermost first (as torch counts), `offset_bytes` from the start of the file."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset_bytes: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What stands before the data. Tensors are in the order of the file; each lies inside it and overlaps no other."""

    version: int
    alignment: int
    metadata: dict[str, GgufValue]
    tensors: dict[str, GgufTensor]


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of one GGUF file.

    CheckpointError if it is damaged; UnsupportedError for version 1, big endian and files split into parts.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file", fix="give a .gguf file")
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            magic = file.read(4)
            if magic != b"GGUF":
                raise CheckpointError(f"{path} is not a GGUF file: it begins with {magic!r}", fix="give a .gguf file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Cursor(data, position=4, end=min(file_bytes, _MAX_HEADER_BYTES)), file_bytes)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}", fix="check the path and permissions") from None
    except _Unsupported as error:
        raise UnsupportedError(f"{path}: {error}", fix=error.fix) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}", fix=_DAMAGED) from None


class _Unsupported(Exception):
    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class _Cursor:
    """Reads forward through the header. ValueError for what is not there; allocates only what it has checked."""

    def __init__(self, data: mmap.mmap, position: int, end: int) -> None:
        self._data, self.position, self._end = data, position, end

    def skip(self, num_bytes: int) -> int:
        """The position of the next `num_bytes` bytes, which lie inside the header; goes on behind them."""
        start = self.position
        if num_bytes > self._end - start:
            limit = "the limit of a header" if self._end == _MAX_HEADER_BYTES else "the end of the file"
            raise ValueError(f"{num_bytes} bytes at byte {start} reach beyond {limit}")
        self.position = start + num_bytes
        return start

    def count(self, what: str, min_bytes: int) -> int:
        """A uint64 that announces so many things of at least `min_bytes` bytes each."""
        count = self.uint64()
        if count * min_bytes > self._end - self.position:
            raise ValueError(f"{count} {what} can't lie in the {self._end - self.position} bytes that are left")
        return count

    def uint32(self) -> int:
        return int(_UINT32.unpack_from(self._data, self.skip(4))[0])

    def uint64(self) -> int:
        return int(_UINT64.unpack_from(self._data, self.skip(8))[0])

    def text(self) -> str:
        start = self.skip(self.uint64())
        try:
            return str(self._data[start : self.position], "utf-8")
        except UnicodeDecodeError:
            raise ValueError("a text that is not UTF-8") from None

    def name(self) -> str:
        name = self.text()
        if len(name) > _MAX_NAME_CHARACTERS:
            raise ValueError(f"a name of {len(name)} characters, beginning {name[:40]!r}")
        return name

    def value(self, value_type: int, depth: int = 0) -> GgufValue:
        """One metadata value; `depth` counts the arrays around it."""
        if value_type == _STRING:
            return self.text()
        if value_type != _ARRAY:
            return self._plain(value_type, 1)[0]
        if depth == _MAX_ARRAY_DEPTH:
            raise ValueError(f"arrays in arrays, more than {_MAX_ARRAY_DEPTH} deep")
        item_type = self.uint32()
        if item_type == _STRING:
            return [self.text() for _ in range(self.count("strings", _MIN_STRING_BYTES))]
        if item_type == _ARRAY:
            return [self.value(_ARRAY, depth + 1) for _ in range(self.count("arrays", _MIN_ARRAY_BYTES))]
        return self._plain(item_type, self.uint64())

    def _plain(self, value_type: int, count: int) -> list[GgufValue]:
        """Numbers or booleans, in bulk: a vocabulary has hundreds of thousands of them."""
        code = "B" if value_type == _BOOL else _NUMBERS.get(value_type)
        if code is None:
            raise ValueError(f"unknown metadata type {value_type}")
        values: array[Any] = array(code)
        start = self.skip(count * values.itemsize)
        values.frombytes(self._data[start : self.position])
        if sys.byteorder == "big":
            values.byteswap()
        if value_type != _BOOL:
            return [*values]
        if count and max(values) > 1:
            raise ValueError("a boolean that is neither 0 nor 1")
        return [value == 1 for value in values]


def _parse(cursor: _Cursor, file_bytes: int) -> GgufHeader:
    version = cursor.uint32()
    if version and version & 0xFFFF == 0:
        raise _Unsupported("it is big-endian GGUF", fix="convert it: gguf-convert-endian MODEL little")
    if version not in (2, 3):
        raise _Unsupported(f"it is GGUF version {version}", fix="convert the model again: versions 2 and 3 are read")
    num_tensors = cursor.count("tensors", _MIN_TENSOR_BYTES)
    metadata = _metadata(cursor)
    if metadata.get("split.count", 1) not in (0, 1):
        raise _Unsupported(
            "it is one part of a split GGUF", fix="join them: llama-gguf-split --merge FIRST_PART OUTPUT"
        )
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError("general.alignment is not a power of two")
    tensors = [_tensor(cursor, alignment) for _ in range(num_tensors)]
    data_start = -(-cursor.position // alignment) * alignment
    tensors = [replace(tensor, offset_bytes=data_start + tensor.offset_bytes) for tensor in tensors]
    _check_layout(tensors, file_bytes)
    return GgufHeader(version, alignment, metadata, {tensor.name: tensor for tensor in tensors})


def _metadata(cursor: _Cursor) -> dict[str, GgufValue]:
    metadata: dict[str, GgufValue] = {}
    for _ in range(cursor.count("metadata pairs", _MIN_PAIR_BYTES)):
        key = cursor.name()
        if key in metadata:
            raise ValueError(f"the metadata key {key[:100]!r} stands twice")
        try:
            metadata[key] = cursor.value(cursor.uint32())
        except ValueError as error:
            raise ValueError(f"metadata {key[:100]!r}: {error}") from None
    return metadata


def _tensor(cursor: _Cursor, alignment: int) -> GgufTensor:
    """One tensor, its offset still counted from the start of the data."""
    name = cursor.name()
    shown = f"tensor {name[:100]!r}"
    num_dimensions = cursor.uint32()
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(f"{shown} has {num_dimensions} dimensions; 1 to {_MAX_DIMENSIONS} are possible")
    innermost_first = [cursor.uint64() for _ in range(num_dimensions)]
    type_id, offset = cursor.uint32(), cursor.uint64()
    block = BLOCK_TYPES.get(type_id)
    if block is None:
        raise ValueError(f"{shown} has the unknown or retired type {type_id}")
    num_elements = math.prod(innermost_first)
    if not 0 < num_elements < _MAX_ELEMENTS or innermost_first[0] % block.elements:
        raise ValueError(f"{shown} has dimensions {innermost_first} that {block.name} can't have")
    if offset % alignment:
        raise ValueError(f"{shown} begins at {offset}, which is not a multiple of the alignment {alignment}")
    num_bytes = num_elements // block.elements * block.num_bytes
    return GgufTensor(name, block.name, tuple(reversed(innermost_first)), offset, num_bytes)


def _check_layout(tensors: Sequence[GgufTensor], file_bytes: int) -> None:
    """Every name once, every tensor inside the file, no byte in two of them (gaps are padding)."""
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ValueError("a tensor name stands twice")
    end, before = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset_bytes):
        if tensor.offset_bytes < end:
            raise ValueError(f"tensor {tensor.name[:100]!r} overlaps {before[:100]!r}")
        end, before = tensor.offset_bytes + tensor.num_bytes, tensor.name
        if end > file_bytes:
            raise ValueError(f"tensor {before[:100]!r} ends at byte {end}, beyond the end of the file at {file_bytes}")

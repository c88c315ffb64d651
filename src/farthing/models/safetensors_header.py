"""The header of a safetensors file, read as untrusted bytes: which tensors it holds and where.

The file is an 8-byte little-endian length N, N bytes of JSON, then the data. Every number is checked against the bytes
that are there before anything is taken, and an entry is parsed by itself, so that no nesting and no huge array is
ever built. Knows no tensors and no model: runtime/checkpoint.py maps the data, models/auto.py says which names belong.
Source: https://github.com/huggingface/safetensors (README, "Format").
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from farthing.errors import CheckpointError

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes per element of each dtype that a file may hold; the sub-byte ones (F4, F6) have no torch dtype to become."""

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
_MAX_ELEMENTS = 2**63
_DAMAGED = "the file is damaged or hostile: download it again"
_CONVERT = "Farthing never opens pickles; convert the checkpoint to safetensors"

_STRING = r'"(?:[^"\\]|\\.)*+"'
_STRINGS = rf"\{{\s*+(?:{_STRING}\s*+:\s*+{_STRING}\s*+,?+\s*+)*+\}}"
_METADATA = re.compile(rf'\s*+"__metadata__"\s*+:\s*+{_STRINGS}\s*+([,}}])', re.DOTALL)
_ENTRY = re.compile(rf"\s*+({_STRING})\s*+:\s*+(\{{[^{{}}]{{0,2000}}+\}})\s*+([,}}])", re.DOTALL)
_JSON = json.JSONDecoder(object_pairs_hook=tuple)  # pairs, so that no key hides another of the same name
_KEYS = {"dtype", "shape", "data_offsets"}

_DISGUISES = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes (a pickle)", _CONVERT),
    (b"\x80", "a Python pickle", _CONVERT),
    (b"GGUF", "a GGUF file", "give it a name that ends in .gguf"),
    (b"version ", "a Git LFS pointer", "fetch the weights: git lfs pull"),
)
"""What other files begin with. Each reads as a length far above the limit, so that no true header is mistaken."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file: elements in row-major order, `offset_bytes` counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    num_bytes: int


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of the file by name, in the order of their bytes; they fill the data without overlap or hole.

    CheckpointError for whatever the format does not allow.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file", fix="give a .safetensors file")
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or header_bytes > min(file_bytes - 8, _MAX_HEADER_BYTES):
                raise _not_safetensors(path, prefix, header_bytes, file_bytes)
            text = file.read(header_bytes).decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: the header is not UTF-8", fix=_DAMAGED) from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}", fix="check the path and permissions") from None
    try:
        entries = list(_entries(text, data_start=8 + header_bytes))
        _check_layout(entries, data_start=8 + header_bytes, file_bytes=file_bytes)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}", fix=_DAMAGED) from None
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.offset_bytes)}


def _not_safetensors(path: Path, prefix: bytes, header_bytes: int, file_bytes: int) -> CheckpointError:
    for magic, what, fix in _DISGUISES:
        if header_bytes > _MAX_HEADER_BYTES and prefix.startswith(magic):
            return CheckpointError(f"{path} is not a safetensors file but {what}", fix=fix)
    return CheckpointError(
        f"{path}: a header of {header_bytes} bytes can't be in a file of {file_bytes} (limit {_MAX_HEADER_BYTES})",
        fix=f"{_DAMAGED}, or, if it is another kind of file, convert it to safetensors",
    )


def _entries(text: str, data_start: int) -> Iterator[TensorEntry]:
    """The entries of the JSON object, one by one. ValueError says what is wrong with one."""
    if re.fullmatch(r"\{\s*+\}\s*+", text):
        return
    if not text.startswith("{"):
        raise ValueError("the header is not a JSON object")
    names: set[str] = set()
    position, separator = 1, ","
    while separator == ",":
        if metadata := _METADATA.match(text, position):
            name, separator, position = "__metadata__", metadata[1], metadata.end()
        elif match := _ENTRY.match(text, position):
            name, separator, position = str(_parse(match[1])), match[3], match.end()
            yield _entry(name, _parse(match[2]), data_start)
        else:
            raise ValueError(f"the header is not JSON of flat tensor entries at {text[position : position + 40]!r}")
        if name in names:
            raise ValueError(f"{name[:100]!r} stands twice in the header")
        names.add(name)
    if text[position:].strip():
        raise ValueError(f"the header goes on after its end with {text[position : position + 40]!r}")


def _parse(text: str) -> object:
    """A name, or a small object as its (key, value) pairs."""
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        raise ValueError(f"the header is not JSON at {text[:40]!r}") from None


def _entry(name: str, pairs: object, data_start: int) -> TensorEntry:
    assert isinstance(pairs, tuple), "the pattern of an entry matches objects only"
    shown = repr(name[:100])
    fields = dict(pairs)
    if len(pairs) != 3 or fields.keys() != _KEYS:
        raise ValueError(f"tensor {shown} needs dtype, shape and data_offsets, once each and nothing else")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ValueError(f"tensor {shown} has the unknown dtype {dtype!r:.40}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {shown} needs a shape and two data_offsets, all whole numbers from 0 up")
    if math.prod(size or 1 for size in shape) >= _MAX_ELEMENTS:  # 0 as 1: torch multiplies in 64 bits, in any order
        raise ValueError(f"tensor {shown} has an impossible shape")
    num_bytes = math.prod(shape) * DTYPE_BYTES[dtype]
    if num_bytes != offsets[1] - offsets[0]:
        raise ValueError(
            f"tensor {shown}: shape and dtype do not make the {offsets[1] - offsets[0]} bytes of its offsets"
        )
    return TensorEntry(name, dtype, tuple(shape), data_start + offsets[0], num_bytes)


def _are_counts(values: object) -> TypeGuard[list[int]]:
    # type() and not isinstance(): True and False are ints to Python, and not to this format
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(entries: Sequence[TensorEntry], data_start: int, file_bytes: int) -> None:
    """Tensors follow each other from the first byte of the data to the last of the file."""
    end = data_start
    for entry in sorted(entries, key=lambda entry: (entry.offset_bytes, entry.num_bytes)):
        if entry.offset_bytes != end:
            kind = "overlaps" if entry.offset_bytes < end else "leaves a hole before"
            raise ValueError(f"tensor {entry.name[:100]!r} {kind} byte {end}, where it should begin")
        end += entry.num_bytes
    if end != file_bytes:
        raise ValueError(f"the tensors end at byte {end}, the file at byte {file_bytes}")

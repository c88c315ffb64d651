"""The tensors of safetensors files, to be read when they are asked for.

Knows the dtypes of the format; models/checkpoint_files.py has found the files and checked their headers.
"""

import torch

from farthing.models.checkpoint_files import WeightFiles, read_entries
from farthing.runtime.checkpoint_mapping import MappedFile, PlainMatrix, StoredTensor

DTYPES = {
    "BOOL": (torch.bool, "bool"),
    "U8": (torch.uint8, "uint8"),
    "I8": (torch.int8, "int8"),
    "F8_E4M3": (torch.float8_e4m3fn, "fp8_e4m3"),
    "F8_E5M2": (torch.float8_e5m2, "fp8_e5m2"),
    "F8_E8M0": (torch.float8_e8m0fnu, "fp8_e8m0"),
    "U16": (torch.uint16, "uint16"),
    "I16": (torch.int16, "int16"),
    "F16": (torch.float16, "fp16"),
    "BF16": (torch.bfloat16, "bf16"),
    "U32": (torch.uint32, "uint32"),
    "I32": (torch.int32, "int32"),
    "F32": (torch.float32, "fp32"),
    "U64": (torch.uint64, "uint64"),
    "I64": (torch.int64, "int64"),
    "F64": (torch.float64, "fp64"),
}
"""Each dtype of the format: what torch calls it, and what Farthing calls it."""


def safetensors_tensors(weights: WeightFiles) -> tuple[list[MappedFile], dict[str, StoredTensor]]:
    """The files, opened, and every tensor in them by name. CheckpointError if a header or the index is wrong."""
    entries = read_entries(weights)
    files = {path: MappedFile(path) for path in weights.files}
    tensors: dict[str, StoredTensor] = {}
    for name, (path, entry) in entries.items():
        num_columns = entry.shape[-1] if len(entry.shape) > 1 else 1
        matrix = PlainMatrix(files[path], entry.offset_bytes, num_columns, *DTYPES[entry.dtype])
        tensors[name] = StoredTensor(entry.shape, matrix)
    return list(files.values()), tensors

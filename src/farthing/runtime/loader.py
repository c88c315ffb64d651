"""Weights into memory: every tensor that the description names, checked before memory is taken, then read one by one.

From a checkpoint (safetensors, GGUF), or random for a model without files. Knows shapes and formats; the file kinds are
runtime/checkpoint.py's.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch

from farthing.errors import CheckpointError
from farthing.kernels.weight import TORCH_DTYPES, quantize
from farthing.models.spec import ModelSpec, Op
from farthing.ops.elementwise import RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.runtime.checkpoint import Checkpoint, open_checkpoint
from farthing.runtime.device import Memory

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Read = Callable[[str, Op, slice], torch.Tensor]  # some rows of a tensor, by its full name
_OTHER_CONFIG = "use the matching config.json"
_INTEGERS = ("int", "uint", "bool", "i8", "i16", "i32", "i64", "fp8")
_PIECE_VALUES = 2**24  # values that are read and rounded at a time


def load_weights(
    spec: ModelSpec, path: Path, memory: Memory, progress: Progress
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All stored tensors of the description by full name, and the rotary frequencies [head_dim / 2].

    CheckpointError names what is missing, mis-shaped, no floating point or not finite.
    """
    with closing(open_checkpoint(path)) as checkpoint:
        _check(spec, checkpoint, path)
        dtype = spec.precision.activation_dtype
        largest = torch.finfo(TORCH_DTYPES[dtype]).max

        def read(full_name: str, op: Op, rows: slice) -> torch.Tensor:
            value = checkpoint.read(full_name, rows=rows)
            least, most = map(float, value.aminmax())
            if not -largest <= least <= most <= largest:  # nor is NaN, which aminmax passes on
                what = f"{path.name}: {full_name} holds NaN, infinity or numbers beyond {dtype}"
                raise CheckpointError(what, fix="download the file again, or use --format bf16")
            return value

        return _fill(spec, memory, read, progress), _frequencies(spec, checkpoint, memory)


def random_weights(spec: ModelSpec, seed: int, memory: Memory) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The same tensors drawn from (seed, name): norms 1, matrices of a scale that keeps activations near 1."""

    def draw(full_name: str, op: Op, rows: slice) -> torch.Tensor:
        num_rows = rows.stop - rows.start
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{full_name}:{rows.start}".encode()))
        match op:
            case RMSNorm():
                return torch.ones(num_rows)
            case Linear() if full_name.endswith(".weight"):
                return torch.randn(num_rows, op.in_features, generator=generator) * op.in_features**-0.5
            case Embedding():
                return torch.randn(num_rows, op.embedding_dim, generator=generator) * 0.1
            case _:
                return torch.randn(num_rows, generator=generator) * 0.1

    return _fill(spec, memory, draw, lambda done, total: None), _frequencies(spec, None, memory)


def _fill(spec: ModelSpec, memory: Memory, read: Read, progress: Progress) -> dict[str, torch.Tensor]:
    """Allocate every tensor in its format and fill it piece by piece, so that no whole matrix is held twice."""
    tensors: dict[str, torch.Tensor] = {}
    done = 0
    for name, op in spec.named_ops():
        for stored in op.stored():
            tensors[f"{name}.{stored.suffix}"] = memory.empty("weights", stored.shape, stored.dtype)
        for stored in op.stored():
            if stored.suffix != "weight_scale":  # comes with its weight
                full_name = f"{name}.{stored.suffix}"
                for rows in _pieces(stored.shape):
                    _place(tensors, full_name, op, rows, read(full_name, op, rows))
            done += stored.num_bytes
            progress(done, spec.weight_bytes)
    return tensors


def _pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    rows_at_once = max(1, _PIECE_VALUES // (shape[1] if len(shape) > 1 else 1))
    for start in range(0, shape[0], rows_at_once):
        yield slice(start, min(start + rows_at_once, shape[0]))


def _place(tensors: dict[str, torch.Tensor], full_name: str, op: Op, rows: slice, value: torch.Tensor) -> None:
    """Copy some rows into memory of the op's format."""
    if isinstance(op, Linear) and full_name.endswith(".weight") and op.format.quantized:
        packed = quantize(value, op.format)
        assert packed.scale_NG is not None
        tensors[full_name][rows].copy_(packed.codes)
        tensors[f"{full_name}_scale"][rows].copy_(packed.scale_NG)
    else:
        tensors[full_name][rows].copy_(value)


def _check(spec: ModelSpec, checkpoint: Checkpoint, path: Path) -> None:
    """Names and shapes of the file against the description, before any memory is taken."""
    names, described = set(checkpoint.names), set[str]()
    for name, op in spec.named_ops():
        for stored in op.stored():
            full_name = f"{name}.{stored.suffix}"
            shape = stored.shape
            if isinstance(op, Linear) and stored.suffix == "weight":
                shape = (op.out_features, op.in_features)
            if stored.suffix == "weight_scale":
                continue
            described.add(full_name)
            if full_name not in names:
                raise CheckpointError(
                    f"{path.name} has no tensor {full_name}, which config.json asks for",
                    fix=_OTHER_CONFIG,
                )
            if checkpoint.shape(full_name) != shape:
                raise CheckpointError(
                    f"{path.name}: {full_name} has shape {list(checkpoint.shape(full_name))}, "
                    f"config.json says {list(shape)}",
                    fix=_OTHER_CONFIG,
                )
            kind = checkpoint.stored_as(full_name)
            if kind.startswith(_INTEGERS):
                raise CheckpointError(
                    f"{path.name}: {full_name} is stored as {kind}, quantized in a form that is not supported",
                    fix="use the unquantized checkpoint with --format int8 or int4, or a GGUF file",
                )
    factors = spec.rope.scaling.factors_tensor
    if factors is not None and factors not in names:
        raise CheckpointError(
            f"{path.name} has no tensor {factors!r:.80}, which rope scaling asks for", fix=_OTHER_CONFIG
        )
    extra = sorted(name for name in names if name not in described and not _ignorable(name, spec))
    if extra:
        raise CheckpointError(
            f"{path.name} holds {len(extra)} tensors that the description does not have, such as {extra[0]}",
            fix="use the matching config.json, or a checkpoint of a supported architecture",
        )


def _ignorable(name: str, spec: ModelSpec) -> bool:
    """Buffers that some files carry although they follow from config.json, and the second copy of a tied head."""
    tied = spec.head is not None and spec.head.tied is not None
    return (
        name.endswith("rotary_emb.inv_freq")
        or name == spec.rope.scaling.factors_tensor
        or (tied and name == "lm_head.weight")
    )


def _frequencies(spec: ModelSpec, checkpoint: Checkpoint | None, memory: Memory) -> torch.Tensor:
    frequencies = torch.tensor(spec.rope.frequencies(), dtype=torch.float64)
    factors_tensor = spec.rope.scaling.factors_tensor
    if factors_tensor is not None and checkpoint is not None:
        factors = checkpoint.read(factors_tensor).double()
        if factors.shape != frequencies.shape or not bool((factors > 0).all()):
            raise CheckpointError(f"{factors_tensor} must hold {frequencies.numel()} positive factors")
        frequencies = frequencies / factors
    return frequencies.float().to(memory.device)

"""Weights into memory: every tensor that the description names, checked before memory is taken, then read one by one.

From a checkpoint (safetensors, GGUF), or random for a model without files. Knows shapes and formats; the file kinds are
runtime/checkpoint.py's.
"""

import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from farthing.errors import CheckpointError
from farthing.kernels.weight import Weight, quantize
from farthing.models.spec import ModelSpec, Op
from farthing.ops.elementwise import RMSNorm
from farthing.ops.linear import Linear
from farthing.runtime.checkpoint import Checkpoint, open_checkpoint
from farthing.runtime.device import Memory

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def load_weights(
    spec: ModelSpec, path: Path, memory: Memory, progress: Progress
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All stored tensors of the description by full name, and the rotary frequencies [head_dim / 2].

    CheckpointError names what is missing, mis-shaped or not finite.
    """
    with closing(open_checkpoint(path)) as checkpoint:
        _check(spec, checkpoint, path)
        tensors: dict[str, torch.Tensor] = {}
        done = 0
        for name, op in spec.named_ops():
            for stored in op.stored():
                if stored.suffix == "weight_scale":
                    continue  # comes with its weight
                full_name = f"{name}.{stored.suffix}"
                placed = _place(name, op, full_name, checkpoint.read(full_name), memory)
                if not all(_is_finite(tensor) for tensor in placed.values()):
                    raise CheckpointError(
                        f"{path.name}: {full_name} holds NaN, infinity or numbers too large for {stored.dtype}",
                        fix="download the file again, or use --format bf16",
                    )
                tensors |= placed
                done += sum(tensor.nbytes for tensor in placed.values())
                progress(done, spec.weight_bytes)
        return tensors, _frequencies(spec, checkpoint, memory)


def random_weights(spec: ModelSpec, seed: int, memory: Memory) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The same tensors drawn from (seed, name): norms 1, matrices of a scale that keeps activations near 1."""
    tensors: dict[str, torch.Tensor] = {}
    for name, op in spec.named_ops():
        for stored in op.stored():
            full_name = f"{name}.{stored.suffix}"
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {full_name}".encode()))
            match op:
                case Linear() if stored.suffix == "weight":
                    shape = (op.out_features, op.in_features)
                    value = torch.randn(shape, generator=generator) * op.in_features**-0.5
                case Linear() if stored.suffix == "weight_scale":
                    continue
                case RMSNorm():
                    value = torch.ones(stored.shape)
                case _:
                    value = torch.randn(stored.shape, generator=generator) * 0.1
            tensors |= _place(name, op, full_name, value, memory)
    return tensors, _frequencies(spec, None, memory)


def _place(name: str, op: Op, full_name: str, value: torch.Tensor, memory: Memory) -> dict[str, torch.Tensor]:
    """Copy `value` into memory of the op's format: one tensor, or codes and scales."""
    stored = {tensor.suffix: tensor for tensor in op.stored()}
    if isinstance(op, Linear) and full_name == f"{name}.weight" and op.format.quantized:
        packed: Weight = quantize(value, op.format)
        parts = {"weight": packed.codes, "weight_scale": packed.scale_NG}
    else:
        parts = {full_name.rsplit(".", 1)[1]: value}
    placed: dict[str, torch.Tensor] = {}
    for suffix, part in parts.items():
        assert part is not None
        tensor = memory.empty("weights", stored[suffix].shape, stored[suffix].dtype)
        tensor.copy_(part)
        placed[f"{name}.{suffix}"] = tensor
    return placed


def _is_finite(tensor: torch.Tensor) -> bool:
    """Of codes nothing is asked: where the weights were not finite, their scales are not."""
    return tensor.element_size() == 1 or bool(torch.isfinite(tensor.sum(dtype=torch.float64)))


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
                    fix="use the matching config.json",
                )
            if checkpoint.shape(full_name) != shape:
                raise CheckpointError(
                    f"{path.name}: {full_name} has shape {list(checkpoint.shape(full_name))}, "
                    f"config.json says {list(shape)}",
                    fix="use the matching config.json",
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

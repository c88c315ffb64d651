"""ModelSpec: a model as values - its ops in order, per layer, with names, shapes and formats.

The one description: the planner adds up its costs, the loader takes names and shapes from it, the runtime builds its
modules from it. Knows no tensors; parallel.py divides it, families/ compose it, memory.py sums it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

from farthing.models.rope import Rope
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.quantization.base import StoredTensor, WeightFormat

Op = Attention | Comm | Elementwise | Embedding | Linear | RMSNorm


@dataclass(frozen=True, slots=True)
class Precision:
    """`format` of the weight matrices in the layers; activations, norms, embedding and head in `activation_dtype`."""

    format: WeightFormat
    activation_dtype: str
    kv_dtype: str

    @classmethod
    def of(cls, weight_format: WeightFormat, activation_dtype: str | None = None) -> "Precision":
        dtype = activation_dtype or ("bf16" if weight_format.quantized else weight_format.math)
        return cls(weight_format, dtype, dtype)


@dataclass(frozen=True, slots=True)
class Layer:
    """One block, in order of computation. Names are relative to `model.layers.<i>`. Equal layers are equal values."""

    attention_norm: RMSNorm
    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    q_norm: RMSNorm | None
    k_norm: RMSNorm | None
    rope: Elementwise
    attention: Attention
    o_proj: Linear
    attention_reduce: Comm | None
    attention_add: Elementwise
    mlp_norm: RMSNorm
    gate_proj: Linear
    up_proj: Linear
    swiglu: Elementwise
    down_proj: Linear
    mlp_reduce: Comm | None
    mlp_add: Elementwise

    def ops(self) -> tuple[Op, ...]:
        every = (getattr(self, field.name) for field in fields(self))
        return tuple(op for op in every if op is not None)


@dataclass(frozen=True)
class ModelSpec:
    """A whole model, or one rank's part of it: `layers` start at `first_layer`; ends that lie elsewhere are None
    (without an embedding, the hidden states come from the stage before)."""

    family: str
    vocab_size: int
    hidden_size: int
    max_positions: int
    max_positions_reason: str  # why a longer context is refused
    rope: Rope
    precision: Precision
    layers: tuple[Layer, ...]
    first_layer: int = 0
    embedding: Embedding | None = None
    embedding_reduce: Comm | None = None
    norm: RMSNorm | None = None
    head: Linear | None = None
    head_gather: Comm | None = None
    send: Comm | None = None

    @cached_property
    def entry_ops(self) -> tuple[Op, ...]:
        return tuple(op for op in (self.embedding, self.embedding_reduce) if op is not None)

    @cached_property
    def exit_ops(self) -> tuple[Op, ...]:
        return tuple(op for op in (self.norm, self.head, self.head_gather, self.send) if op is not None)

    @cached_property
    def _distinct_layers(self) -> tuple[tuple[tuple[Op, ...], int], ...]:
        return tuple((layer.ops(), count) for layer, count in Counter(self.layers).items())

    def named_ops(self) -> Iterator[tuple[str, Op]]:
        """Every op with its full name, in order of computation."""
        yield from ((op.name, op) for op in self.entry_ops)
        for index, layer in enumerate(self.layers, start=self.first_layer):
            yield from ((f"model.layers.{index}.{op.name}", op) for op in layer.ops())
        yield from ((op.name, op) for op in self.exit_ops)

    def stored_tensors(self) -> dict[str, StoredTensor]:
        """Every tensor that the model keeps in memory, by full name ("model.layers.0.self_attn.q_proj.weight")."""
        return {f"{name}.{tensor.suffix}": tensor for name, op in self.named_ops() for tensor in op.stored()}

    def cost(self, batch: BatchShape) -> Cost:
        """Cost of one step. Equal layers are priced once and multiplied."""
        total = Cost()
        for op in (*self.entry_ops, *self.exit_ops):
            total = total + op.cost(batch)
        for ops, count in self._distinct_layers:
            layer = Cost()
            for op in ops:
                layer = layer + op.cost(batch)
            total = total + layer * count
        return total

    @property
    def num_ops(self) -> int:
        return len(self.entry_ops) + len(self.exit_ops) + sum(len(ops) * count for ops, count in self._distinct_layers)

    @cached_property
    def weight_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.stored_tensors().values())

    @cached_property
    def num_parameters(self) -> int:
        """Values of the model as published: codes count, scales do not, a tied head counts once."""
        total = 0
        for _, op in self.named_ops():
            match op:
                case Linear() if op.tied is None:
                    total += op.in_features * op.out_features + (op.out_features if op.bias else 0)
                case Embedding():
                    total += op.num_embeddings * op.embedding_dim
                case RMSNorm():
                    total += op.dim
        return total

    @cached_property
    def kv_bytes_per_token(self) -> int:
        return sum(layer.attention.kv_bytes_per_token for layer in self.layers)

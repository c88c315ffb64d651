"""ModelSpec: a model as values - its ops in order, per layer, with names, shapes and formats.

The one description: the planner adds up its costs, the loader takes names and shapes from it, the runtime builds its
modules from it. Knows no tensors; parallel.py divides it, families/ compose it, memory.py sums it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from farthing.errors import UnsupportedError
from farthing.models.rope import Rope
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.ops.moe import Experts
from farthing.quantization.base import StoredTensor, WeightFormat, resolve

Op = Attention | Comm | Elementwise | Embedding | Experts | Linear | RMSNorm
_KV_DTYPES = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16", "int8": "int8", "fp8": "fp8_e4m3"}


@dataclass(frozen=True, slots=True)
class Precision:
    """`format` of the weight matrices in the layers, `head_format` of the head (None: as the activations); activations,
    norms and embedding in `activation_dtype`."""

    format: WeightFormat
    activation_dtype: str
    kv_dtype: str
    head_format: WeightFormat | None = None

    @classmethod
    def of(cls, weight_format: WeightFormat, activation_dtype: str | None = None) -> "Precision":
        dtype = activation_dtype or ("bf16" if weight_format.quantized else weight_format.math)
        return cls(weight_format, dtype, dtype)

    def with_kv_format(self, spelling: str) -> "Precision":
        """The same with another KV cache: fp32, bf16, fp16, int8, fp8, or auto (as the activations)."""
        kv_dtype = self.activation_dtype if spelling == "auto" else _KV_DTYPES.get(spelling.lower())
        if kv_dtype is None:
            raise UnsupportedError(f"--kv-format {spelling!r} is not known", fix=f"use auto, {', '.join(_KV_DTYPES)}")
        return replace(self, kv_dtype=kv_dtype)

    def on_device(self, kind: str) -> "Precision":
        """As engines of a kind of device keep it. On a CPU the head of rounded layers has 8 bits: it is a good part of
        the bytes of a small model. On a GPU it stays as it is."""
        rounded = kind == "cpu" and self.format.quantized and self.format.activation_bits == 8
        return replace(self, head_format=resolve("int8", kind)) if rounded else self


@dataclass(frozen=True, slots=True)
class DenseMlp:
    """down(silu(gate(x)) * up(x)), the same for every token."""

    gate_proj: Linear
    up_proj: Linear
    swiglu: Elementwise
    down_proj: Linear
    reduce: Comm | None = None

    @property
    def intermediate_size(self) -> int:
        return self.down_proj.in_features

    def ops(self) -> tuple[Op, ...]:
        return _present(self.gate_proj, self.up_proj, self.swiglu, self.down_proj, self.reduce)


@dataclass(frozen=True, slots=True)
class MoeMlp:
    """A router chooses the experts of each token; theirs is the same SwiGLU."""

    router: Linear
    experts: Experts
    reduce: Comm | None = None

    @property
    def intermediate_size(self) -> int:
        return self.experts.intermediate_size

    def ops(self) -> tuple[Op, ...]:
        return _present(self.router, self.experts, self.reduce)


Mlp = DenseMlp | MoeMlp


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
    mlp: Mlp
    mlp_add: Elementwise

    def ops(self) -> tuple[Op, ...]:
        projections = (self.q_proj, self.k_proj, self.v_proj, self.q_norm, self.k_norm)
        attention = (self.rope, self.attention, self.o_proj, self.attention_reduce, self.attention_add)
        return _present(self.attention_norm, *projections, *attention, self.mlp_norm, *self.mlp.ops(), self.mlp_add)


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
        return _present(self.embedding, self.embedding_reduce)

    @cached_property
    def exit_ops(self) -> tuple[Op, ...]:
        return _present(self.norm, self.head, self.head_gather, self.send)

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each different layer, in order of appearance, with how many there are of it."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def _distinct_ops(self) -> tuple[tuple[tuple[Op, ...], int], ...]:
        layers = ((layer.ops(), count) for layer, count in self.distinct_layers)
        return (self.entry_ops, 1), *layers, (self.exit_ops, 1)

    @cached_property
    def experts(self) -> tuple[tuple[Experts, int], ...]:
        """Each different op of experts, with how many layers have it; empty for a dense model."""
        return tuple(
            (layer.mlp.experts, count) for layer, count in self.distinct_layers if isinstance(layer.mlp, MoeMlp)
        )

    @property
    def plan_only(self) -> bool:
        """Farthing describes and plans this model, but does not run it: its runtime has no experts."""
        return bool(self.experts)

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
        for ops, count in self._distinct_ops:
            part = Cost()
            for op in ops:
                part = part + op.cost(batch)
            total = total + part * count
        return total

    def named_readers(self) -> Iterator[dict[str, Linear]]:
        """Linear ops of a layer that read the same rows, by full name: q, k and v; gate and up."""
        for index, layer in enumerate(self.layers, start=self.first_layer):
            of_mlp = (layer.mlp.gate_proj, layer.mlp.up_proj) if isinstance(layer.mlp, DenseMlp) else ()
            for ops in ((layer.q_proj, layer.k_proj, layer.v_proj), of_mlp):
                yield {f"model.layers.{index}.{op.name}": op for op in ops}

    @property
    def num_ops(self) -> int:
        return sum(len(ops) * count for ops, count in self._distinct_ops)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all stored tensors."""
        return sum(
            count * sum(tensor.num_bytes for op in ops for tensor in op.stored()) for ops, count in self._distinct_ops
        )

    @cached_property
    def active_weight_bytes(self) -> int:
        """Those of a token: without the experts that it is not routed to. Equal to weight_bytes for a dense model."""
        return self.weight_bytes - sum(
            count * (experts.num_experts - experts.experts_per_token) * experts.bytes_per_expert
            for experts, count in self.experts
        )

    @cached_property
    def num_parameters(self) -> int:
        """Values of the model as published: codes count, scales do not, a tied head counts once."""
        return sum(count * sum(num_parameters(op) for op in ops) for ops, count in self._distinct_ops)

    @cached_property
    def num_active_parameters(self) -> int:
        """Those of a token: without the experts that it is not routed to."""
        return self.num_parameters - sum(
            count * (experts.num_experts - experts.experts_per_token) * experts.parameters_per_expert
            for experts, count in self.experts
        )

    @cached_property
    def kv_bytes_per_token(self) -> int:
        return sum(count * layer.attention.kv_bytes_per_token for layer, count in self.distinct_layers)


def num_parameters(op: Op) -> int:
    """Values that an op keeps, as published: codes count, scales do not; a tied head has none of its own."""
    match op:
        case Linear() if op.tied is None:
            return op.in_features * op.out_features + (op.out_features if op.bias else 0)
        case Experts():
            return op.num_experts * op.parameters_per_expert
        case Embedding():
            return op.num_embeddings * op.embedding_dim
        case RMSNorm():
            return op.dim
    return 0


def _present(*ops: Op | None) -> tuple[Op, ...]:
    return tuple(op for op in ops if op is not None)

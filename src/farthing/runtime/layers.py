"""The modules of a decoder, each built from its op and the loaded tensors: Linear, Readers, RMSNorm, Attention, MLP.

Tensors of the step in, tensors out. Knows kernels and ops. Knows no order of blocks: runtime/decoder.py has it.

Shapes: T tokens, K in, N out, H query heads, J KV heads, D head_dim, I intermediate size.
"""

from collections.abc import Mapping, Sequence

import torch

from farthing.kernels.activations import Activations
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import Weight, joined, together
from farthing.models.spec import DenseMlp, Layer
from farthing.ops import elementwise
from farthing.ops import linear as linear_ops
from farthing.runtime.inputs import StepInputs

Tensors = Mapping[str, torch.Tensor]
Angles = tuple[torch.Tensor, torch.Tensor]


class Linear:
    """y_TN = x_TK @ W^T + b; an op without a matrix of its own reads that of the op that it is tied to."""

    def __init__(self, op: linear_ops.Linear, name: str, tensors: Tensors, kernels: ReferenceKernels) -> None:
        owner = op.tied if op.tied is not None and op.shares_matrix else name
        stored, scales = tensors[f"{owner}.weight"], tensors.get(f"{owner}.weight_scale")
        zeros = tensors.get(f"{owner}.weight_zero")
        self.weight = kernels.prepare(Weight(op.format, op.in_features, stored, scales, zero_NG=zeros))
        self.bias = tensors[f"{name}.bias"] if op.bias else None
        self.kernels = kernels

    def __call__(self, x_TK: Activations) -> torch.Tensor:
        return self.kernels.linear(x_TK, self.weight, self.bias)


class Readers:
    """Linears that read the same rows: one product, where their matrices and biases lie one after the other."""

    def __init__(self, *linears: Linear) -> None:
        self.linears = linears
        self.sizes = [linear.weight.codes.shape[0] for linear in linears]
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self.weight = joined([linear.weight for linear in linears]) if linears[0].kernels.joins else None
        self.bias = together(biases) if len(biases) == len(linears) else None
        if biases and self.bias is None:
            self.weight = None

    def __call__(self, x_TK: Activations) -> Sequence[torch.Tensor]:
        """Of each. Rows of them may lie apart."""
        if self.weight is None:
            return [linear(x_TK) for linear in self.linears]
        return self.linears[0].kernels.linear(x_TK, self.weight, self.bias).split(self.sizes, -1)


class RMSNorm:
    """`read_by`: the matrix that multiplies what leaves it, if one does."""

    def __init__(
        self,
        op: elementwise.RMSNorm,
        name: str,
        tensors: Tensors,
        kernels: ReferenceKernels,
        read_by: linear_ops.Linear | None = None,
    ) -> None:
        self.weight, self.eps, self.kernels = tensors[f"{name}.weight"], op.eps, kernels
        self.reader = None if read_by is None else read_by.format

    def __call__(self, x_TK: torch.Tensor) -> torch.Tensor:
        return self.kernels.rms_norm(x_TK, self.weight, self.eps)

    def add(self, x_TK: torch.Tensor, added_TK: torch.Tensor | None) -> tuple[torch.Tensor, Activations]:
        """x + added, and the norm of it."""
        return self.kernels.add_norm(x_TK, added_TK, self.weight, self.eps, self.reader)


class Attention:
    """q, k, v; QK norm where the family has it; rotary positions; the cache; o."""

    def __init__(
        self,
        layer: Layer,
        prefix: str,
        tensors: Tensors,
        kernels: ReferenceKernels,
        cache: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        def linear(op: linear_ops.Linear) -> Linear:
            return Linear(op, f"{prefix}.{op.name}", tensors, kernels)

        def norm(op: elementwise.RMSNorm | None) -> RMSNorm | None:
            return op and RMSNorm(op, f"{prefix}.{op.name}", tensors, kernels)

        self.qkv_proj = Readers(linear(layer.q_proj), linear(layer.k_proj), linear(layer.v_proj))
        self.q_norm, self.k_norm = norm(layer.q_norm), norm(layer.k_norm)
        self.o_proj = linear(layer.o_proj)
        self.head_dim, self.window = layer.attention.head_dim, layer.attention.window
        self.cache, self.kernels = cache, kernels

    def __call__(self, x_TK: Activations, angles: Angles, inputs: StepInputs) -> torch.Tensor:
        q_THD, k_TJD, v_TJD = (y_TN.unflatten(-1, (-1, self.head_dim)) for y_TN in self.qkv_proj(x_TK))
        if self.q_norm is not None and self.k_norm is not None:
            q_THD, k_TJD = self.q_norm(q_THD), self.k_norm(k_TJD)
        q_THD = self.kernels.rope_and_store(q_THD, k_TJD, v_TJD, angles, self.cache, inputs.slots_T)
        out_THD = self.kernels.attention(q_THD, *self.cache, inputs.sequences, self.window)
        return self.o_proj(out_THD.flatten(1))


class MLP:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, mlp: DenseMlp, prefix: str, tensors: Tensors, kernels: ReferenceKernels) -> None:
        def linear(op: linear_ops.Linear) -> Linear:
            return Linear(op, f"{prefix}.{op.name}", tensors, kernels)

        self.gate_up_proj = Readers(linear(mlp.gate_proj), linear(mlp.up_proj))
        self.down_proj, self.kernels = linear(mlp.down_proj), kernels

    def __call__(self, x_TK: Activations) -> torch.Tensor:
        gate_TI, up_TI = self.gate_up_proj(x_TK)
        return self.down_proj(self.kernels.silu_mul(gate_TI, up_TI, self.down_proj.weight.format))

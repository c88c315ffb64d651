"""The modules of a decoder, each built from its op and the loaded tensors: Linear, RMSNorm, Attention, MLP.

Tensors of the step in, tensors out. Knows kernels and ops. Knows no order of blocks: runtime/decoder.py has it.

Shapes: T tokens, K in, N out, H query heads, J KV heads, D head_dim.
"""

from collections.abc import Mapping

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import Weight
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

    def __call__(self, x_TK: torch.Tensor) -> torch.Tensor:
        return self.kernels.linear(x_TK, self.weight, self.bias)


class RMSNorm:
    def __init__(self, op: elementwise.RMSNorm, name: str, tensors: Tensors, kernels: ReferenceKernels) -> None:
        self.weight, self.eps, self.kernels = tensors[f"{name}.weight"], op.eps, kernels

    def __call__(self, x_TK: torch.Tensor) -> torch.Tensor:
        return self.kernels.rms_norm(x_TK, self.weight, self.eps)


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

        self.q_proj, self.k_proj, self.v_proj = linear(layer.q_proj), linear(layer.k_proj), linear(layer.v_proj)
        self.q_norm, self.k_norm = norm(layer.q_norm), norm(layer.k_norm)
        self.o_proj = linear(layer.o_proj)
        self.head_dim, self.window = layer.attention.head_dim, layer.attention.window
        self.k_cache, self.v_cache = cache
        self.kernels = kernels

    def __call__(self, x_TK: torch.Tensor, angles: Angles, inputs: StepInputs) -> torch.Tensor:
        q_THD, k_TJD, v_TJD = (
            project(x_TK).unflatten(-1, (-1, self.head_dim)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q_THD, k_TJD = self.q_norm(q_THD), self.k_norm(k_TJD)
        q_THD, k_TJD = self.kernels.rope(q_THD, *angles), self.kernels.rope(k_TJD, *angles)
        self.kernels.store_kv(k_TJD, v_TJD, self.k_cache, self.v_cache, inputs.slots_T)
        out_THD = self.kernels.attention(q_THD, self.k_cache, self.v_cache, inputs.sequences, self.window)
        return self.o_proj(out_THD.flatten(1))


class MLP:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, mlp: DenseMlp, prefix: str, tensors: Tensors, kernels: ReferenceKernels) -> None:
        def linear(op: linear_ops.Linear) -> Linear:
            return Linear(op, f"{prefix}.{op.name}", tensors, kernels)

        self.gate_proj, self.up_proj, self.down_proj = map(linear, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.kernels = kernels

    def __call__(self, x_TK: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.kernels.silu_mul(self.gate_proj(x_TK), self.up_proj(x_TK)))

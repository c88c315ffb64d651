"""The decoder of one rank: embedding, blocks of two residual lines, final norm, head. Reads like the paper.

Built from the description (ModelSpec) and the loaded tensors. Knows neither files nor requests.

Shapes: T tokens, H hidden_size, R rows that yield logits, V vocabulary.
"""

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.models.spec import DenseMlp, Layer, ModelSpec
from farthing.ops import elementwise
from farthing.ops import linear as linear_ops
from farthing.runtime.inputs import StepInputs
from farthing.runtime.kv_cache import KVCache
from farthing.runtime.layers import MLP, Angles, Attention, Linear, RMSNorm, Tensors


class Block:
    """Pre-norm transformer block."""

    def __init__(
        self,
        layer: Layer,
        prefix: str,
        tensors: Tensors,
        kernels: ReferenceKernels,
        cache: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        assert isinstance(layer.mlp, DenseMlp), "a model with experts is planned only"

        def norm(op: elementwise.RMSNorm, read_by: linear_ops.Linear) -> RMSNorm:
            return RMSNorm(op, f"{prefix}.{op.name}", tensors, kernels, read_by)

        self.attention_norm = norm(layer.attention_norm, layer.q_proj)
        self.attention = Attention(layer, prefix, tensors, kernels, cache)
        self.mlp_norm = norm(layer.mlp_norm, layer.mlp.gate_proj)
        self.mlp = MLP(layer.mlp, prefix, tensors, kernels)

    def __call__(
        self, x_TH: torch.Tensor, added_TH: torch.Tensor | None, angles: Angles, inputs: StepInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual stream, and what the next norm adds to it first; so of the block before."""
        x_TH, normed_TH = self.attention_norm.add(x_TH, added_TH)
        x_TH, normed_TH = self.mlp_norm.add(x_TH, self.attention(normed_TH, angles, inputs))
        return x_TH, self.mlp(normed_TH)


class Decoder:
    """A whole model on one rank. `tensors` by full name, as ModelSpec.stored_tensors() lists them."""

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Tensors,
        kernels: ReferenceKernels,
        cache: KVCache,
        frequencies: torch.Tensor,
    ) -> None:
        assert spec.embedding is not None and spec.norm is not None and spec.head is not None, "one rank, whole model"
        self.embedding_VH = tensors[f"{spec.embedding.name}.weight"]
        self.blocks = [
            Block(layer, f"model.layers.{index}", tensors, kernels, (cache.keys[index], cache.values[index]))
            for index, layer in enumerate(spec.layers)
        ]
        self.norm = RMSNorm(spec.norm, spec.norm.name, tensors, kernels)
        self.head = Linear(spec.head, spec.head.name, tensors, kernels)
        self.frequencies, self.rope_factor = frequencies, spec.rope.scaling.attention_factor
        self.kernels = kernels

    def __call__(self, inputs: StepInputs) -> torch.Tensor:
        """logits_RV of all logit rows, in fp32."""
        return self.logits(self.hidden(inputs))

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
        """logits_RV of rows of `hidden`, in fp32."""
        return self.head(x_RH).float()

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        """The normed last hidden states x_RH of the logit rows."""
        x_TH = self.embedding_VH[inputs.token_ids_T]
        angles = self.kernels.rotary_angles(inputs.positions_T, self.frequencies, self.rope_factor)
        added_TH = None
        for block in self.blocks:
            x_TH, added_TH = block(x_TH, added_TH, angles, inputs)
        x_TH = x_TH if added_TH is None else x_TH + added_TH
        return self.norm(x_TH[inputs.logit_rows])

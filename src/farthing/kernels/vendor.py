"""The vendor's libraries: one BLAS call a product (oneDNN, MKL, cuBLAS), torch's fused attention for prefill.

Fast, and not batch-invariant: these libraries choose the order of a sum by the number of rows. Everything else is the
reference. Shapes as in reference.py.
"""

import torch

from farthing.kernels.activations import Activations
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import Weight
from farthing.quantization.base import WeightFormat


class VendorKernels(ReferenceKernels):
    name = "vendor"
    batch_invariant = False

    def linear(self, x_TK: Activations, weight: Weight, bias_N: torch.Tensor | None = None) -> torch.Tensor:
        assert isinstance(x_TK, torch.Tensor), "only who rounds rows beforehand reads them so"
        operand_TK, w_NK = self._operands(x_TK, weight)
        if weight.format.quantized:
            y_TN = torch.nn.functional.linear(operand_TK, w_NK).to(x_TK.dtype)
            return y_TN if bias_N is None else y_TN + bias_N
        return torch.nn.functional.linear(operand_TK, w_NK, bias_N)

    def silu_mul(
        self, gate_TK: torch.Tensor, up_TK: torch.Tensor, weight_format: WeightFormat | None = None
    ) -> torch.Tensor:
        return torch.nn.functional.silu(gate_TK) * up_TK

    def _attend_sequence(
        self, q_RHD: torch.Tensor, k_LJD: torch.Tensor, v_LJD: torch.Tensor, start: int, window: int | None
    ) -> torch.Tensor:
        num_rows, length = q_RHD.shape[0], k_LJD.shape[0]
        if num_rows == 1:
            return super()._attend_sequence(q_RHD, k_LJD, v_LJD, start, window)
        query_R1 = torch.arange(start, length, device=q_RHD.device)[:, None]
        key_1L = torch.arange(length, device=q_RHD.device)[None]
        visible_RL = key_1L <= query_R1
        if window is not None:
            visible_RL &= key_1L > query_R1 - window
        q_1HRD, k_1JLD, v_1JLD = (x.to(q_RHD.dtype).transpose(0, 1)[None] for x in (q_RHD, k_LJD, v_LJD))
        out_1HRD = torch.nn.functional.scaled_dot_product_attention(
            q_1HRD, k_1JLD, v_1JLD, attn_mask=visible_RL, enable_gqa=True
        )
        return out_1HRD[0].transpose(0, 1)

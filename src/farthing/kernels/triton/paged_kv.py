"""The paged KV cache of a layer as kernels address it: pointers and strides, for values and for int8 codes alike.

A value stands at block * block_stride + (slot * J + head) * D + d. int8 blocks hold all their codes first, then an fp32
scale for each slot and head; `scales` begins at those of block 0, whose stride is block_stride / 4.
Shapes: B blocks, S slots of a block, J KV heads, D head_dim, R elements of a row: D, or D + 4 with a scale.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PagedKV:
    k_BSJR: torch.Tensor
    v_BSJR: torch.Tensor
    k_scales: torch.Tensor | None
    v_scales: torch.Tensor | None
    head_dim: int

    @classmethod
    def of(cls, k_BSJR: torch.Tensor, v_BSJR: torch.Tensor, head_dim: int) -> "PagedKV":
        assert k_BSJR.is_contiguous() and v_BSJR.is_contiguous(), "blocks lie one after the other"
        if k_BSJR.dtype != torch.int8:
            return cls(k_BSJR, v_BSJR, None, None, head_dim)
        num_codes = k_BSJR.shape[1] * k_BSJR.shape[2] * head_dim
        assert k_BSJR.shape[3] == head_dim + 4, "rows of codes and a scale"
        assert num_codes % 4 == 0, "scales stand at whole words"
        k_scales, v_scales = (x.view(-1).view(torch.float32)[num_codes // 4 :] for x in (k_BSJR, v_BSJR))
        return cls(k_BSJR, v_BSJR, k_scales, v_scales, head_dim)

    @property
    def block_size(self) -> int:
        return self.k_BSJR.shape[1]

    @property
    def num_kv_heads(self) -> int:
        return self.k_BSJR.shape[2]

    @property
    def num_positions(self) -> int:
        """Of all blocks."""
        return self.k_BSJR.shape[0] * self.block_size

    @property
    def block_stride(self) -> int:
        return self.k_BSJR.stride(0)

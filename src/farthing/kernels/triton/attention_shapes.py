"""The configurations of attention: chosen by head_dim, query heads a KV head, dtypes and chip, never by a timing.

Shapes: T rows of the step, H query heads, J KV heads, D head_dim, S sequences.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton

from farthing.kernels.reference import CHUNK
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.launch import Chip, meta
from farthing.kernels.triton.paged_kv import PagedKV

_ROOMY = 160 * 1024
"""Shared memory of a block on a data-centre chip; the others have 99 KiB."""
_EXACT_ROWS = 32
"""Tiles of fewer than 64 rows are multiplied by the same instructions on every chip."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`value_bytes`: of an activation."""

    group: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    num_sequences: int
    value_bytes: int

    @classmethod
    def of(cls, q_THD: torch.Tensor, cache: PagedKV, num_sequences: int) -> "Shape":
        assert q_THD.is_contiguous(), "heads of a row side by side"
        group, num_kv_heads = q_THD.shape[1] // cache.num_kv_heads, cache.num_kv_heads
        return cls(group, num_kv_heads, cache.head_dim, cache.block_size, num_sequences, q_THD.element_size())

    @property
    def width(self) -> int:
        """Of a head in a tile."""
        return max(16, triton.next_power_of_2(self.head_dim))

    @property
    def scale(self) -> float:
        """Of scores, for powers of 2."""
        return self.head_dim**-0.5 / math.log(2)

    @property
    def step(self) -> int:
        """Positions read at once: 16 KiB of K, of 16-bit values; one number for decode and prefill."""
        return min(64, max(16, 2**14 // (self.width * self.value_bytes)))

    def stages(self, chip: Chip) -> int:
        """One of them goes to the block table, which says where K and V are."""
        return 4 if chip.shared_bytes >= _ROOMY else 3

    def tile(self, chip: Chip, exact: bool) -> tuple[int, int]:
        """Rows and warps of a tile of prefill."""
        rows = _EXACT_ROWS if exact else 128 if chip.shared_bytes >= _ROOMY else 64
        rows = max(rows, triton.next_power_of_2(self.group))
        return rows, 8 if rows * self.width >= 128 * 128 else 4

    def constants(self, rows: int) -> dict[str, int]:
        return {
            "GROUP": self.group, "KV_HEADS": self.num_kv_heads, "HEAD_DIM": self.head_dim,
            "BLOCK_SIZE": self.block_size, "CHUNK": CHUNK, "STEP": self.step, "ROWS": rows, "WIDTH": self.width,
            "SEQUENCES": triton.next_power_of_2(max(1, self.num_sequences)),
        }  # fmt: skip


def example_attention(chip: Chip) -> Iterator[tuple[torch.Tensor, PagedKV, Sequences]]:
    """The head_dims of LLaMA, Qwen and Gemma; each activation dtype, each KV dtype beside it."""
    dtypes = [(torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.int8), (torch.float16, torch.float16)]
    dtypes += [(torch.bfloat16, torch.float8_e4m3fn)] * chip.has_fp8
    cases = [(128, 4, *pair) for pair in dtypes]
    cases += [(64, 8, torch.bfloat16, torch.bfloat16), (256, 2, torch.bfloat16, torch.bfloat16)]
    cases += [(128, 4, torch.float32, torch.float32)]
    for head_dim, group, dtype, kv_dtype in cases:
        row = head_dim + 4 if kv_dtype == torch.int8 else head_dim
        k_BSJR, v_BSJR = (meta(64, 16, 8, row, dtype=kv_dtype) for _ in range(2))
        columns = (meta(64, dtype=torch.int64) for _ in range(3))
        sequences = Sequences(*columns, meta(64, 256, dtype=torch.int64))
        yield meta(64, 8 * group, head_dim, dtype=dtype), PagedKV.of(k_BSJR, v_BSJR, head_dim), sequences

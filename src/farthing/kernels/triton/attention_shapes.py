"""The configurations of attention: chosen by head_dim, query heads a KV head, dtypes and chip, never by a timing.

Shapes: T rows of the step, H query heads, J KV heads, D head_dim, S sequences.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import triton

from farthing.kernels.reference import CHUNK
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.launch import Chip, meta
from farthing.kernels.triton.paged_kv import PagedKV

VARYING = ["num_sequences", "capacity", "most_rows"]
"""Arguments that differ from step to step: kernels are not compiled anew for those that are 1 or that 16 divides."""
FEW_ROWS = 8
"""New rows of a sequence (drafts, the end of a prompt) up to which each is computed as in decode, its context shared by
all blocks; more are worth a tile of their own, which one block takes over their whole context."""
CHUNKS_AT_ONCE = 4
"""That a block adds up, at most, while as many more are on their way: one after the other, each waits for memory."""
_ROOMY = 160 * 1024
"""Shared memory of a block on a data-centre chip; the others have 99 KiB."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` of query heads beside `step` positions. Stages: one goes to the block table, which says where K and V are;
    of the others, each two past the first hold K and V of one more step."""

    rows: int
    step: int
    num_warps: int
    num_stages: int


# By width of a head, up to 64, 128 and 256; beside a KV cache of 16-bit values none of them spills registers.
_WARP_GROUPS = {64: Tile(128, 64, 4, 4), 128: Tile(128, 64, 8, 4), 256: Tile(128, 32, 8, 4)}  # Hopper's products
_WARPS = {64: Tile(128, 64, 8, 3), 128: Tile(128, 32, 8, 3), 256: Tile(64, 32, 8, 3)}
_FP32 = {64: Tile(64, 32, 8, 3), 128: Tile(64, 32, 8, 3), 256: Tile(32, 16, 8, 3)}  # no matrix units


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
    def most_sequences(self) -> int:
        """That a kernel has room for: of two sizes in most engines, for each is compiled when it is first met."""
        return 32 if self.num_sequences <= 32 else triton.next_power_of_2(max(256, self.num_sequences))

    @property
    def scale(self) -> float:
        """Of scores, for powers of 2."""
        return self.head_dim**-0.5 / math.log(2)

    def row_tile(self, chip: Chip) -> Tile:
        """One row, as in decode; 16 KiB of K a step."""
        rows = max(16, triton.next_power_of_2(self.group))
        step = min(64, max(16, 2**14 // (self.width * self.value_bytes)))
        return Tile(rows, step, 4, 5 if chip.shared_bytes >= _ROOMY else 3)

    def tile(self, chip: Chip) -> Tile:
        """As many rows as the registers hold."""
        tiles = _FP32 if self.value_bytes == 4 else _WARP_GROUPS if chip.capability == 90 else _WARPS
        tile = tiles[max(64, self.width)]
        return replace(tile, rows=max(tile.rows, triton.next_power_of_2(self.group)))

    def options(self, tile: Tile) -> dict[str, int]:
        """Of a launch."""
        return {
            "num_warps": tile.num_warps, "num_stages": tile.num_stages, "GROUP": self.group,
            "KV_HEADS": self.num_kv_heads, "HEAD_DIM": self.head_dim, "BLOCK_SIZE": self.block_size, "CHUNK": CHUNK,
            "STEP": tile.step, "ROWS": tile.rows, "WIDTH": self.width,
            "SEQUENCES": self.most_sequences,
        }  # fmt: skip

    def fold_options(self) -> dict[str, int]:
        """Of a launch that adds up chunks: where 8 warps are enough, a thread has four numbers of each."""
        rows = triton.next_power_of_2(self.group)
        numbers = rows * self.width
        return {
            "num_warps": max(1, min(8, numbers // (32 * 4))), "GROUP": self.group, "KV_HEADS": self.num_kv_heads,
            "HEAD_DIM": self.head_dim, "CHUNK": CHUNK, "ROWS": rows, "WIDTH": self.width,
            "SEQUENCES": self.most_sequences, "AT_ONCE": max(1, min(CHUNKS_AT_ONCE, 2**12 // numbers)),
            "STAGES": 3 if numbers <= 2**13 else 1,
        }  # fmt: skip


Example = tuple[torch.Tensor, PagedKV, Sequences, int | None]


def example_attention(chip: Chip) -> Iterator[Example]:
    """Queries, cache, sequences, window: head_dims of LLaMA, Qwen and Gemma, each activation dtype, each KV dtype."""
    bf16 = torch.bfloat16
    yield _example(128, 4, bf16, bf16)
    yield _example(128, 4, bf16, bf16, window=4096)
    yield _example(128, 4, bf16, bf16, num_sequences=1)
    yield _example(128, 4, bf16, torch.int8)
    if chip.has_fp8:
        yield _example(128, 4, bf16, torch.float8_e4m3fn)
    yield _example(128, 4, torch.float16, torch.float16)
    yield _example(64, 8, bf16, bf16)
    yield _example(256, 2, bf16, bf16)
    yield _example(128, 4, torch.float32, torch.float32)


def _example(
    head_dim: int,
    group: int,
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
    *,
    window: int | None = None,
    num_sequences: int = 64,
) -> Example:
    row = head_dim + 4 if kv_dtype == torch.int8 else head_dim
    cache = PagedKV.of(*(meta(64, 16, 8, row, dtype=kv_dtype) for _ in range(2)), head_dim)
    columns = (meta(num_sequences, dtype=torch.int64) for _ in range(3))
    sequences = Sequences(*columns, meta(num_sequences, 256, dtype=torch.int64))
    return meta(num_sequences, 8 * group, head_dim, dtype=dtype), cache, sequences, window

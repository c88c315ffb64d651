"""Sequences in a paged KV cache for tests of attention: written by the kernels under test, other slots NaN.

Shapes: L positions of a sequence, H query heads, J KV heads, D head_dim, B blocks, S slots of a block.
"""

import math
from dataclasses import dataclass

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.sequences import Sequences

Part = tuple[int, int, int]  # sequence, first position, end position


@dataclass(frozen=True)
class Cached:
    """Sequences of the given lengths in one cache whose other slots are NaN, their blocks in no order."""

    queries: list[torch.Tensor]  # [L, H, D] each
    keys: list[torch.Tensor]  # [L, J, D] each
    values: list[torch.Tensor]
    tables: list[torch.Tensor]
    k_cache_BSJD: torch.Tensor
    v_cache_BSJD: torch.Tensor

    def attend(self, kernels: ReferenceKernels, parts: list[Part], window: int | None) -> list[torch.Tensor]:
        """One step that computes the new rows of each part; rows by part."""
        q_THD = torch.cat([self.queries[seq][first:end] for seq, first, end in parts])
        items, row = [], 0
        for seq, first, end in parts:
            items.append((row, end - first, first, self.tables[seq]))
            row += end - first
        out_THD = kernels.attention(q_THD, self.k_cache_BSJD, self.v_cache_BSJD, Sequences.of(items), window)
        return list(out_THD.split([end - first for _, first, end in parts]))

    def alone(self, kernels: ReferenceKernels, window: int | None) -> list[torch.Tensor]:
        """Every sequence in one prefill of its own."""
        return [self.attend(kernels, [(seq, 0, len(query))], window)[0] for seq, query in enumerate(self.queries)]


def slots_of(table: torch.Tensor, positions: torch.Tensor, block_size: int) -> torch.Tensor:
    return table[positions // block_size] * block_size + positions % block_size


def unwritten_cache(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """NaN everywhere; of int8, the scales are."""
    if dtype == torch.int8:
        return torch.full((*shape[:-1], shape[-1] + 4), -1, dtype=dtype)
    return torch.full(shape, math.nan, dtype=dtype)


def make(
    kernels: ReferenceKernels,
    lengths: tuple[int, ...],
    heads: tuple[int, int, int],
    dtype: torch.dtype = torch.float32,
    *,
    block_size: int = 16,
    kv_dtype: torch.dtype | None = None,
) -> Cached:
    """Queries, keys and values are the same whatever the kernels, the size of a block and the dtype of the cache."""
    num_heads, num_kv_heads, head_dim = heads
    generator = torch.Generator().manual_seed(sum(lengths) + head_dim)

    def normal(length: int, count: int) -> torch.Tensor:
        return torch.randn(length, count, head_dim, generator=generator).to(dtype)

    keys, values = ([normal(length, num_kv_heads) for length in lengths] for _ in range(2))
    queries = [normal(length, num_heads) for length in lengths]
    counts = [-(-length // block_size) for length in lengths]
    order = torch.randperm(sum(counts) + 3, generator=generator)
    tables = list(order[: sum(counts)].split(counts))
    k_cache, v_cache = (
        unwritten_cache((len(order), block_size, num_kv_heads, head_dim), kv_dtype or dtype) for _ in range(2)
    )
    for table, key, value in zip(tables, keys, values, strict=True):
        kernels.store_kv(key, value, k_cache, v_cache, slots_of(table, torch.arange(len(key)), block_size))
    return Cached(queries, keys, values, tables, k_cache, v_cache)

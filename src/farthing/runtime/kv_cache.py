"""The paged KV cache of one rank: per layer two tensors [blocks, block_size, KV heads, row].

A row is head_dim values, or of int8 as many codes and a scale; kernels/kv_rows.py says where they lie in a block.
Knows no sequences: which block belongs to whom is scheduler/block_pool.py's.
Source: Kwon et al. 2023 (arXiv 2309.06180).
"""

import torch

from farthing.models.spec import ModelSpec
from farthing.runtime.device import Memory


class KVCache:
    """`keys[i]` and `values[i]` belong to the i-th layer of this rank."""

    def __init__(self, spec: ModelSpec, *, num_blocks: int, block_size: int, memory: Memory) -> None:
        self.block_size = block_size
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        for layer in spec.layers:
            attention = layer.attention
            shape = (num_blocks, block_size, attention.num_kv_heads, attention.kv_row)
            self.keys.append(memory.zeros("kv", shape, attention.kv_dtype))
            self.values.append(memory.zeros("kv", shape, attention.kv_dtype))

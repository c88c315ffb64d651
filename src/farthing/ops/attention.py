"""Causal grouped-query attention over a paged KV cache, with an optional sliding window.

Counts causal pairs, n*c + n(n+1)/2, not the rectangle that a kernel may compute. Knows no cache layout.
Sources: Vaswani et al. 2017 (arXiv 1706.03762), GQA Ainslie et al. 2023 (arXiv 2305.13245).
"""

from dataclasses import dataclass

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import DTYPE_BYTES, StoredTensor


@dataclass(frozen=True, slots=True)
class Attention:
    """o_THD = softmax(q_THD k^T / sqrt(D)) v, two matrix products of 2 * D FLOPs per head and (query, key) pair.

    `num_kv_heads` of K and V are written once per new token and read once per attended position.
    """

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    activation_dtype: str
    kv_dtype: str
    window: int | None = None

    def stored(self) -> tuple[StoredTensor, ...]:
        return ()

    @property
    def kv_row(self) -> int:
        """Elements that the cache keeps of K, and of V, for one token and head: an int8 row has a scale in fp32."""
        return self.head_dim + (4 if self.kv_dtype == "int8" else 0)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of K and V that this layer keeps for one token."""
        return 2 * self.num_kv_heads * self.kv_row * DTYPE_BYTES[self.kv_dtype]

    def cost(self, batch: BatchShape) -> Cost:
        pairs = batch.attended_pairs(self.window)
        query_bytes = batch.num_tokens * self.num_heads * self.head_dim * DTYPE_BYTES[self.activation_dtype]
        return Cost(
            {self.activation_dtype: 4 * pairs * self.num_heads * self.head_dim},
            read_bytes=query_bytes + batch.attended_tokens(self.window) * self.kv_bytes_per_token,
            write_bytes=query_bytes + batch.num_tokens * self.kv_bytes_per_token,
        )

"""The ops between the matrix products: RMSNorm, rotary positions, SwiGLU, residual add. Bytes, no FLOPs (law 1).

Knows shapes only. Sources: RMSNorm Zhang & Sennrich 2019 (arXiv 1910.07467), RoPE Su et al. 2021 (arXiv 2104.09864),
SwiGLU Shazeer 2020 (arXiv 2002.05202).
"""

from dataclasses import dataclass

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import DTYPE_BYTES, StoredTensor


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """y = x / sqrt(mean(x^2) + eps) * w over `dim` values; `num_groups` of them a token (heads, in QK norm)."""

    name: str
    dim: int
    eps: float
    dtype: str
    num_groups: int = 1

    def stored(self) -> tuple[StoredTensor, ...]:
        return (StoredTensor("weight", self.dtype, (self.dim,)),)

    def cost(self, batch: BatchShape) -> Cost:
        width = DTYPE_BYTES[self.dtype]
        moved = batch.num_tokens * self.num_groups * self.dim * width
        return Cost(read_bytes=moved + self.dim * width, write_bytes=moved)


@dataclass(frozen=True, slots=True)
class Elementwise:
    """`inputs` vectors of `dim` read and one written per token: rope (1 in), SwiGLU and residual add (2 in)."""

    name: str
    dim: int
    inputs: int
    dtype: str

    def stored(self) -> tuple[StoredTensor, ...]:
        return ()

    def cost(self, batch: BatchShape) -> Cost:
        vector = batch.num_tokens * self.dim * DTYPE_BYTES[self.dtype]
        return Cost(read_bytes=self.inputs * vector, write_bytes=vector)

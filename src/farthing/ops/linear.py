"""Linear and Embedding: the ops that own weight matrices.

Knows formats and shapes. Knows no tensors; how a rank gets its part is `Shard`, applied by models/parallel.py.
"""

from dataclasses import dataclass
from enum import Enum

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import DTYPE_BYTES, StoredTensor, WeightFormat


class Shard(Enum):
    """Which dimension of W[out, in] is divided over tensor-parallel ranks."""

    REPLICATED = "replicated"
    COLUMN = "column"  # by out_features: each rank computes some outputs
    ROW = "row"  # by in_features: each rank computes a partial sum, an AllReduce follows


@dataclass(frozen=True, slots=True)
class Linear:
    """y_TN = x_TK @ W_NK^T (+ b_N). Weights are read once per batch, whatever its size.

    `on_logits` marks the head, which only the rows that yield a token pass. `tied` is the name of the op whose
    matrix this one is: in the same format it stores nothing itself, but reads that matrix; rounded, it has its copy.
    """

    name: str  # checkpoint prefix, profiler range, row of the plan
    in_features: int
    out_features: int
    format: WeightFormat
    activation_dtype: str
    bias: bool = False
    shard: Shard = Shard.REPLICATED
    tied: str | None = None

    @property
    def on_logits(self) -> bool:
        return self.name == "lm_head"

    @property
    def shares_matrix(self) -> bool:
        return self.tied is not None and not self.format.quantized

    def stored(self) -> tuple[StoredTensor, ...]:
        if self.shares_matrix:
            return ()
        bias = (StoredTensor("bias", self.activation_dtype, (self.out_features,)),) if self.bias else ()
        return self.format.stored(self.out_features, self.in_features) + bias

    def num_rows(self, batch: BatchShape) -> int:
        return batch.num_logits if self.on_logits else batch.num_tokens

    def cost(self, batch: BatchShape) -> Cost:
        rows, width = self.num_rows(batch), DTYPE_BYTES[self.activation_dtype]
        out_width = 4 if self.on_logits else width  # logits leave the head in fp32
        weight_bytes = self.format.nbytes(self.out_features, self.in_features)
        bias_bytes = self.out_features * width if self.bias else 0
        return Cost(
            {self.format.math: 2 * rows * self.in_features * self.out_features},
            read_bytes=weight_bytes + bias_bytes + rows * self.in_features * width,
            write_bytes=rows * self.out_features * out_width,
        )


@dataclass(frozen=True, slots=True)
class Embedding:
    """x_TH = E_VH[token ids]. Reads only the rows of the batch; a gather, no FLOPs."""

    name: str
    num_embeddings: int
    embedding_dim: int
    dtype: str
    shard: Shard = Shard.REPLICATED

    def stored(self) -> tuple[StoredTensor, ...]:
        return (StoredTensor("weight", self.dtype, (self.num_embeddings, self.embedding_dim)),)

    def cost(self, batch: BatchShape) -> Cost:
        moved = batch.num_tokens * self.embedding_dim * DTYPE_BYTES[self.dtype]
        return Cost(read_bytes=moved, write_bytes=moved)

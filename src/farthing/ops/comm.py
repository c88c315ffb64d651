"""What ranks say to each other. `comm_bytes` is the payload handed to the collective, not what crosses the wire.

The factor from payload to wire (2(n-1)/n for a ring all-reduce, ...) belongs to hardware/. Knows no transport.
"""

from dataclasses import dataclass

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import DTYPE_BYTES, StoredTensor


@dataclass(frozen=True, slots=True)
class Comm:
    """`dim` values per row go into the collective `kind`: "all_reduce", "all_gather" (dim: the rank's part) or "send".

    `on_logits`: the rows are those that leave through the head.
    """

    name: str
    kind: str
    dim: int
    dtype: str
    num_ranks: int
    on_logits: bool = False

    def stored(self) -> tuple[StoredTensor, ...]:
        return ()

    def cost(self, batch: BatchShape) -> Cost:
        rows = batch.num_logits if self.on_logits else batch.num_tokens
        return Cost(comm_bytes=rows * self.dim * DTYPE_BYTES[self.dtype])

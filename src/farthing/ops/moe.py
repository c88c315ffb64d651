"""Experts: the routed SwiGLU matrices of a mixture-of-experts layer, as one op. The router before them is a Linear.

Knows sizes and formats. Knows no routing: which experts a batch touches is an expectation (`num_touched`), what each
token computes is exact. Sources: Shazeer et al. 2017 (arXiv 1701.06538), Mixtral (arXiv 2401.04088).
"""

from dataclasses import dataclass

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import DTYPE_BYTES, StoredTensor, WeightFormat


@dataclass(frozen=True, slots=True)
class Experts:
    """y_TH = sum over the k experts e of a token of p_e * down_e(silu(gate_e(x)) * up_e(x)), k = `experts_per_token`.

    `matrices`: what the family's checkpoints call gate, up and down of an expert, below `name`.<expert>.
    """

    name: str
    matrices: tuple[str, str, str]
    num_experts: int
    experts_per_token: int
    hidden_size: int
    intermediate_size: int
    format: WeightFormat
    activation_dtype: str

    @property
    def _shapes(self) -> tuple[tuple[int, int], ...]:
        """[out, in] of gate, up and down."""
        wide, narrow = self.intermediate_size, self.hidden_size
        return (wide, narrow), (wide, narrow), (narrow, wide)

    @property
    def parameters_per_expert(self) -> int:
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def bytes_per_expert(self) -> int:
        """Stored bytes of the three matrices of one expert, scales included."""
        return sum(self.format.nbytes(*shape) for shape in self._shapes)

    def stored(self) -> tuple[StoredTensor, ...]:
        return tuple(
            StoredTensor(f"{expert}.{matrix}.{tensor.suffix}", tensor.dtype, tensor.shape)
            for expert in range(self.num_experts)
            for matrix, shape in zip(self.matrices, self._shapes, strict=True)
            for tensor in self.format.stored(*shape)
        )

    def num_touched(self, num_tokens: int) -> float:
        """Distinct experts that so many tokens are expected to touch: E (1 - (1 - k/E)^T).

        Assumes that each token picks its k experts uniformly and independently of the others: exact for one token (k).
        A trained router favours some experts, and the tokens of one text resemble each other, so it touches fewer.
        """
        untouched = 1 - self.experts_per_token / self.num_experts
        return self.num_experts * (1 - untouched**num_tokens)

    def touched_bytes(self, batch: BatchShape) -> int:
        """Weights that the batch is expected to read."""
        return round(self.num_touched(batch.num_tokens) * self.bytes_per_expert)

    def cost(self, batch: BatchShape) -> Cost:
        """Each touched expert is read once; activations move as in a dense MLP, for each of the k experts of a token,
        and the weighted sum over them reads k vectors and writes one."""
        rows, width = batch.num_tokens * self.experts_per_token, DTYPE_BYTES[self.activation_dtype]
        hidden, intermediate = self.hidden_size, self.intermediate_size
        read = rows * (2 * hidden + 2 * intermediate + intermediate + hidden)  # gate and up, product, down, sum
        written = rows * (2 * intermediate + intermediate + hidden) + batch.num_tokens * hidden
        return Cost(
            {self.format.math: 2 * rows * self.parameters_per_expert},
            read_bytes=self.touched_bytes(batch) + read * width,
            write_bytes=written * width,
        )

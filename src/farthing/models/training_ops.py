"""What an operation holds while it is trained, in 16 bits: its parameters, and what it keeps for the backward pass.

The kept tensors are those of plain PyTorch operators with a fused RMSNorm, one by one:
  RMSNorm              its input, and 1/rms in fp32
  linears              their input: one tensor for q, k and v, one for gate and up; o_proj shares attention's output
  attention            q, k, v, output and the fp32 log-sum-exp of each row: flash attention keeps no s^2 matrix
  SwiGLU               gate, silu(gate) and up; the product is the input of down_proj
  experts              of each of a token's experts what an MLP keeps, with its input gathered and its output weighted
  rotary, add          nothing: their backward needs no input
With b*s tokens that is b*s*h * (16 + 8 * i/h) bytes for full attention heads and an MLP of i, and 4-byte statistics;
Korthikanti et al. 2022 (arXiv 2205.05198) count 34 b*s*h + 5 a*b*s^2 for GPT, where a 4h GELU is 16 as an i of 2h is
here, 2 are dropout masks, which LLaMA has none of, and the s^2 is what flash attention does not keep.
Knows no ranks: models/training.py sums a rank's part.
"""

from collections.abc import Sequence

from farthing.models.spec import Op, num_parameters
from farthing.ops.attention import Attention
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.ops.moe import Experts
from farthing.quantization.base import WeightFormat

WIDTH_BYTES = 2
_FP32_BYTES = 4
_TOKEN_ID_BYTES = 8

Matrix = tuple[int, int]  # out_features, in_features


def adapted_matrices(op: Op) -> tuple[Matrix, ...]:
    """The matrices that LoRA puts an adapter beside and QLoRA quantizes: all of the layers, not the head."""
    match op:
        case Linear() if not op.on_logits:
            return ((op.out_features, op.in_features),)
        case Experts():
            wide, narrow = op.intermediate_size, op.hidden_size
            return ((wide, narrow), (wide, narrow), (narrow, wide)) * op.num_experts
    return ()


def num_adapter_parameters(op: Op, rank: int) -> int:
    """A[rank, in] and B[out, rank] beside each matrix."""
    return sum(rank * (rows + columns) for rows, columns in adapted_matrices(op))


def frozen_bytes(op: Op, weight_format: WeightFormat) -> int:
    """Matrices of the layers in `weight_format`; embedding, head, norms and biases in 16 bits."""
    matrices = adapted_matrices(op)
    num_others = num_parameters(op) - sum(rows * columns for rows, columns in matrices)
    return sum(weight_format.nbytes(rows, columns) for rows, columns in matrices) + WIDTH_BYTES * num_others


def kept_bytes(ops: Sequence[Op], num_tokens: int, *, cheap: bool, adapter_rank: int) -> int:
    """Bytes that `ops`, in order of computation, keep of `num_tokens` tokens until their backward pass.

    `cheap`: with what norms, SwiGLU and the gathering of tokens for experts put out; without, that is computed again.
    """
    per_token, before = 0, None
    for op in ops:
        match op:
            case RMSNorm():
                per_token += op.num_groups * (op.dim * WIDTH_BYTES + _FP32_BYTES)
            case Linear():
                shared = isinstance(before, Linear | Attention)
                per_token += op.in_features * WIDTH_BYTES if cheap and not shared else 0
                per_token += adapter_rank * WIDTH_BYTES * len(adapted_matrices(op))
            case Attention():
                values = (2 * op.num_heads + 2 * op.num_kv_heads) * op.head_dim
                per_token += values * WIDTH_BYTES + op.num_heads * _FP32_BYTES
            case Elementwise() if op.name.endswith("swiglu"):
                per_token += op.dim * WIDTH_BYTES * (3 if cheap else 2)
            case Experts():
                values = 2 * op.intermediate_size + op.hidden_size + 3 * adapter_rank
                values += 2 * op.intermediate_size + op.hidden_size if cheap else 0
                per_token += op.experts_per_token * values * WIDTH_BYTES + op.num_experts * _FP32_BYTES
            case Embedding():
                per_token += _TOKEN_ID_BYTES
        before = op
    return num_tokens * per_token

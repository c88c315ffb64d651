"""The one memory plan: weights, KV pool, activations, graphs and reserve of one rank, forecast from the description.

The planner prints it, the runtime allocates from it and asserts it after load (law 3). Knows no tensors; the reserve
(interpreter, torch, CUDA context) is measured by runtime/probe.py and handed in, what graphs keep by graph_memory.py.
"""

from dataclasses import dataclass

from farthing.errors import DoesNotFitError
from farthing.models.spec import Mlp, ModelSpec, MoeMlp
from farthing.ops.batch import BatchShape
from farthing.quantization.base import DTYPE_BYTES
from farthing.units import format_bytes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of one rank. `num_blocks` KV blocks of `block_size` tokens each are allocated at start."""

    budget_bytes: int
    weights_bytes: int
    kv_bytes_per_token: int
    block_size: int
    num_blocks: int
    activation_bytes: int
    reserve_bytes: int
    graph_bytes: int = 0

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def kv_bytes(self) -> int:
        return self.kv_tokens * self.kv_bytes_per_token

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.graph_bytes + self.reserve_bytes


def plan_memory(
    spec: ModelSpec,
    *,
    budget_bytes: int,
    reserve_bytes: int,
    block_size: int,
    max_num_seqs: int,
    max_batch_tokens: int,
    max_model_len: int,
    widens: bool = True,
    graph_bytes: int = 0,
    partial_bytes: int | None = None,
) -> MemoryPlan:
    """As much KV room as `max_num_seqs` full contexts can use, or as the budget leaves. `graph_bytes`: kept by recorded
    steps on a GPU. `partial_bytes`: of attention's partial sums, where it reads the pool in place.

    DoesNotFitError, with the arithmetic, if one sequence of `max_model_len` tokens does not fit.
    """
    activation_bytes = activation_peak_bytes(
        spec, max_batch_tokens, max_num_seqs, max_model_len, widens=widens, partial_bytes=partial_bytes
    )
    blocks_per_sequence = -(-max_model_len // block_size)
    room = budget_bytes - spec.weight_bytes - activation_bytes - graph_bytes - reserve_bytes
    block_bytes = spec.kv_bytes_per_token * block_size
    num_blocks = min(max(room, 0) // block_bytes, blocks_per_sequence * max_num_seqs)
    if num_blocks < blocks_per_sequence:
        graphs = f"graphs {format_bytes(graph_bytes)} + " if graph_bytes else ""
        raise DoesNotFitError(
            f"weights {format_bytes(spec.weight_bytes)} + KV of one sequence of {max_model_len:,} tokens "
            f"{format_bytes(blocks_per_sequence * block_bytes)} + activations {format_bytes(activation_bytes)} + "
            f"{graphs}reserve {format_bytes(reserve_bytes)} > {format_bytes(budget_bytes)} usable",
            fix="use a smaller format (--format int8), a shorter --context, or more memory",
        )
    return MemoryPlan(
        budget_bytes,
        spec.weight_bytes,
        spec.kv_bytes_per_token,
        block_size,
        num_blocks,
        activation_bytes,
        reserve_bytes,
        graph_bytes,
    )


def activation_peak_bytes(
    spec: ModelSpec,
    max_batch_tokens: int,
    max_logits: int,
    max_context: int,
    *,
    widens: bool = True,
    partial_bytes: int | None = None,
) -> int:
    """Largest sum of intermediates that live at once in one step of the eager decoder.

    Residual and normed stream (the norm in fp32), then either attention (q, k, v, output, and the gathered K and V of
    one sequence in fp32, or `partial_bytes` where they are read in place) or the widest MLP; plus fp32 logits with
    three working copies in the sampler; plus, where the engine `widens` (it has no kernel for a quantized format), the
    largest matrix in fp32, with two working copies.
    """
    width = DTYPE_BYTES[spec.precision.activation_dtype]
    layer, mlps = spec.layers[0], {layer.mlp for layer, _ in spec.distinct_layers}
    attention = layer.attention
    stream = max_batch_tokens * spec.hidden_size * (2 * width + 8)
    query_key_value = (2 * attention.num_heads + 2 * attention.num_kv_heads) * attention.head_dim
    beside = partial_bytes
    if beside is None:
        beside = 2 * max_context * attention.num_kv_heads * attention.head_dim * 4
    in_attention = max_batch_tokens * query_key_value * width + beside
    in_mlp = max(_mlp_values_per_token(mlp) for mlp in mlps) * max_batch_tokens * width
    logits = 4 * max_logits * (spec.vocab_size if spec.head else 0) * 4  # gathered: every rank samples
    if spec.head is not None and spec.head_gather is not None:
        logits += max_logits * spec.head.out_features * 4  # its own part, beside the gathered whole
    projections = (layer.q_proj.out_features, layer.o_proj.in_features)
    head_rows = spec.head.out_features if spec.head is not None and spec.head.format.quantized else 0
    largest = spec.hidden_size * max(*projections, *(mlp.intermediate_size for mlp in mlps), head_rows)
    widened = 3 * largest * 4 if widens and spec.precision.format.quantized else 0
    return stream + max(in_attention, in_mlp) + logits + widened


def _mlp_values_per_token(mlp: Mlp) -> int:
    """Gate, up and product. Where there are experts: the same and the output of each of a token's, and all scores."""
    if isinstance(mlp, MoeMlp):
        experts = mlp.experts
        routed = 3 * experts.intermediate_size + experts.hidden_size
        return experts.experts_per_token * routed + experts.num_experts
    return 3 * mlp.intermediate_size


def step_working_set_bytes(spec: ModelSpec, batch: BatchShape) -> int:
    """Bytes that one step touches at least once: the weights (the embedding only by its rows, of the experts those that
    the batch is expected to touch) and the attended KV."""
    shared = spec.head is not None and spec.head.shares_matrix
    rows = spec.embedding.stored()[0].num_bytes if spec.embedding and not shared else 0
    untouched = sum(
        count * (experts.num_experts * experts.bytes_per_expert - experts.touched_bytes(batch))
        for experts, count in spec.experts
    )
    kv_bytes = sum(
        count * batch.attended_tokens(layer.attention.window) * layer.attention.kv_bytes_per_token
        for layer, count in spec.distinct_layers
    )
    return spec.weight_bytes - rows - untouched + kv_bytes

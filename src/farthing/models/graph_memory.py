"""What the kernels of a GPU keep beside weights, KV pool and activations: the graphs of recorded decodes, with the
memory that they compute in, attention's partial sums, and what sequences have said, for penalties.

Lines of the memory plan: graphs stand beside activations, which come and go with a step that runs call by call; partial
sums count in both, for graphs share no memory with what is called. Knows no tensors; runtime/graph.py captures what is
planned here.
"""

from farthing.models.memory import activation_peak_bytes
from farthing.models.spec import ModelSpec
from farthing.quantization.base import DTYPE_BYTES

_CHUNK = 256  # positions whose attention one block of threads computes, before all of a sequence are combined
_FEW_ROWS = 8  # new rows of a sequence up to which a step with prompts computes it by chunks
_CALLS_PER_LAYER, _CALLS_AROUND = 10, 8
_BYTES_PER_CALL = 64 * 2**10
"""Of the device, kept by the driver for each call of a graph: 500 more calls took 33 MB, 1,000 more 63 MB (driver
470, forums.developer.nvidia.com/t/244901). Newer drivers are said to take less."""
_WORKSPACE_BYTES = 2 * 32 * 2**20
"""Workspaces of products, of the stream that computes and of that which captures; on Hopper, the most that torch gives
them (its notes on CUDA semantics)."""
_MOST_HISTORIES = 64  # at 152,000 tokens 87 MB


def bucket_sizes(most: int) -> list[int]:
    """Numbers of sequences that have a graph of their own: 1, 2, 4, then every 8 up to 64, then every 32."""
    sizes = {1, 2, 4, *range(8, 65, 8), *range(96, most, 32)}
    return [*sorted(size for size in sizes if size < most), most]


def graph_bytes(spec: ModelSpec, *, max_num_seqs: int, max_model_len: int, pool_tokens: int, widens: bool) -> int:
    """All graphs share the memory of the largest: its intermediates, with its results (hidden states, logits and the
    largest of them) and the partial sums of attention; each has its calls. `pool_tokens`: the most that the KV pool may
    hold."""
    width = DTYPE_BYTES[spec.precision.activation_dtype]
    intermediates = activation_peak_bytes(spec, max_num_seqs, max_num_seqs, 0, widens=widens)
    partials = _partial_bytes(spec, max_num_seqs, max_model_len, pool_tokens)
    results = max_num_seqs * (spec.hidden_size * width + 4 + 8)
    num_calls = len(spec.layers) * _CALLS_PER_LAYER + _CALLS_AROUND
    calls = len(bucket_sizes(max_num_seqs)) * num_calls * _BYTES_PER_CALL
    return intermediates + partials + results + calls + _WORKSPACE_BYTES


def kernel_memory(
    spec: ModelSpec,
    *,
    max_num_seqs: int,
    max_batch_tokens: int,
    max_model_len: int,
    budget_bytes: int,
    widens: bool,
) -> tuple[int, int]:
    """What is kept, graphs and histories; and attention's partial sums in a step with prompts. `budget_bytes`: of all
    memory, more than the KV pool can have."""
    pool_tokens = budget_bytes // spec.kv_bytes_per_token
    limits = {"max_num_seqs": max_num_seqs, "max_model_len": max_model_len, "pool_tokens": pool_tokens}
    kept = graph_bytes(spec, **limits, widens=widens) + history_bytes(spec.vocab_size, max_num_seqs)
    return kept, prompt_partial_bytes(spec, **limits, max_batch_tokens=max_batch_tokens)


def prompt_partial_bytes(
    spec: ModelSpec, *, max_num_seqs: int, max_batch_tokens: int, max_model_len: int, pool_tokens: int
) -> int:
    """Partial sums of a step with prompts, of its sequences with few new rows; the others need none."""
    num_rows = min(max_batch_tokens, _FEW_ROWS * max_num_seqs)
    return _partial_bytes(spec, num_rows, max_model_len, pool_tokens)


def _partial_bytes(spec: ModelSpec, num_rows: int, max_model_len: int, pool_tokens: int) -> int:
    """Of one layer, in fp32: maximum, sum and output of each row and chunk of what it attends to, but no more than the
    pool has chunks, and one for each row that begins its own."""
    attention = spec.layers[0].attention
    num_parts = min(num_rows * -(-max_model_len // _CHUNK), pool_tokens // _CHUNK + num_rows)
    return num_parts * attention.num_heads * (attention.head_dim + 2) * 4


def num_histories(max_num_seqs: int) -> int:
    """Sequences whose penalties, bias and masks a GPU keeps and applies; the host draws the tokens of more."""
    return min(max_num_seqs, _MOST_HISTORIES)


def history_bytes(vocab_size: int, max_num_seqs: int) -> int:
    """Of each such sequence its three penalties; of each token whether the prompt has it, how often the output has it,
    and its bias: kernels/histories.py."""
    return num_histories(max_num_seqs) * (3 * 4 + vocab_size * (1 + 4 + 4))

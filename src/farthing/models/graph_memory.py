"""What recorded decodes keep on a GPU: CUDA graphs, a number of sequences each, and the memory that they compute in;
and what sequences have said, for penalties.

The line of the memory plan beside activations: those of a step that runs call by call come and go. Knows no tensors;
runtime/graph.py captures what is planned here.
"""

from farthing.models.memory import activation_peak_bytes
from farthing.models.spec import ModelSpec
from farthing.quantization.base import DTYPE_BYTES

_CHUNK = 256  # positions whose attention one block of threads computes, before all of a sequence are combined
_CALLS_PER_LAYER, _CALLS_AROUND = 14, 8
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


def graph_bytes(spec: ModelSpec, *, max_num_seqs: int, max_model_len: int, widens: bool) -> int:
    """All graphs share the memory of the largest: its intermediates, with its results (hidden states, logits and the
    largest of them) and the partial sums of attention; each has its calls."""
    attention, width = spec.layers[0].attention, DTYPE_BYTES[spec.precision.activation_dtype]
    intermediates = activation_peak_bytes(spec, max_num_seqs, max_num_seqs, 0, widens=widens)
    partials = -(-max_model_len // _CHUNK) * attention.num_heads * (attention.head_dim + 2) * 4
    results = spec.hidden_size * width + 4 + 8
    num_calls = len(spec.layers) * _CALLS_PER_LAYER + _CALLS_AROUND
    calls = len(bucket_sizes(max_num_seqs)) * num_calls * _BYTES_PER_CALL
    return intermediates + max_num_seqs * (partials + results) + calls + _WORKSPACE_BYTES


def num_histories(max_num_seqs: int) -> int:
    """Sequences whose penalties, bias and masks a GPU keeps and applies; the host draws the tokens of more."""
    return min(max_num_seqs, _MOST_HISTORIES)


def history_bytes(vocab_size: int, max_num_seqs: int) -> int:
    """Of each such sequence its three penalties; of each token whether the prompt has it, how often the output has it,
    and its bias: kernels/histories.py."""
    return num_histories(max_num_seqs) * (3 * 4 + vocab_size * (1 + 4 + 4))

"""How much is measured: the whole of it on a large GPU, or a tiny model in a few seconds, to see that all runs."""

import json
from dataclasses import dataclass
from pathlib import Path

MAX_KV_BYTES = 105e9


@dataclass(frozen=True, slots=True)
class Sizes:
    """`decodes`: (batch, context), the most telling first. `mixed`: requests, and the range of their lengths."""

    model: str
    context: int
    max_num_seqs: int
    max_batch_tokens: int
    decodes: tuple[tuple[int, int], ...]
    prefills: tuple[int, ...]
    mixed: tuple[int, int, int]
    peers: tuple[tuple[int, int], ...]
    greedy_tokens: int
    seconds_of_case: float
    is_quick: bool = False


FULL = Sizes(
    model="llama-3.1-8b",
    context=32_768 + 256,
    max_num_seqs=256,
    max_batch_tokens=8192,
    decodes=(
        *((1, 512), (64, 1024), (8, 512), (64, 512), (256, 512)),
        *((1, 4096), (8, 4096), (64, 4096), (1, 32_768), (8, 32_768)),
    ),
    prefills=(2048, 8192, 512),
    mixed=(256, 100, 1024),
    peers=((1, 512), (64, 1024)),
    greedy_tokens=48,
    seconds_of_case=0.3,
)

_TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def quick(folder: Path) -> Sizes:
    """Its model is written there."""
    model = folder / "tiny-described"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text(json.dumps(_TINY, indent=1), encoding="utf-8")
    return Sizes(
        model=str(model),
        context=256,
        max_num_seqs=8,
        max_batch_tokens=64,
        decodes=((1, 32), (4, 64)),
        prefills=(32, 96),
        mixed=(6, 5, 24),
        peers=((1, 32), (4, 32)),
        greedy_tokens=6,
        seconds_of_case=0.02,
        is_quick=True,
    )


def fits(batch: int, context: int, kv_bytes_per_token: int) -> bool:
    return batch * context * kv_bytes_per_token < MAX_KV_BYTES

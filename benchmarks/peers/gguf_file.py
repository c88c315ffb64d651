"""A LLaMA checkpoint folder as a bf16 GGUF with a vocabulary of placeholders, so that peers can time it.

The vocabulary is of the kind that llama.cpp and OpenVINO GenAI both read: byte-level BPE, which must have a merge.
"""

from pathlib import Path

import gguf
import torch

from farthing.models.auto import describe, read_config
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve
from farthing.runtime.checkpoint import open_checkpoint

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(checkpoint_dir: Path, out: Path) -> None:
    spec = describe(read_config(checkpoint_dir), Precision.of(resolve("bf16", "cpu")))
    writer = gguf.GGUFWriter(out, "llama")
    _write_metadata(writer, spec)
    checkpoint = open_checkpoint(checkpoint_dir)
    for full_name in spec.stored_tensors():
        name, suffix = full_name.rsplit(".", 1)
        values = checkpoint.read(full_name)
        if name.endswith(("q_proj", "k_proj")):
            values = _interleaved(values, spec.rope.head_dim)
        gguf_name = f"{_gguf_name(name)}.{suffix}"
        if values.ndim == 1:
            writer.add_tensor(gguf_name, values.float().numpy())
        else:
            as_bytes = values.bfloat16().contiguous().view(torch.uint8).numpy()
            writer.add_tensor(gguf_name, as_bytes, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_metadata(writer: gguf.GGUFWriter, spec: ModelSpec) -> None:
    layer = spec.layers[0]
    writer.add_context_length(spec.max_positions)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(len(spec.layers))
    writer.add_feed_forward_length(layer.mlp.intermediate_size)
    writer.add_head_count(layer.attention.num_heads)
    writer.add_head_count_kv(layer.attention.num_kv_heads)
    writer.add_layer_norm_rms_eps(layer.attention_norm.eps)
    writer.add_rope_freq_base(spec.rope.theta)
    writer.add_rope_dimension_count(spec.rope.head_dim)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    special = ["<unk>", "<s>", "</s>"]
    words = [f"word{index}" for index in range(len(special), spec.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*special, *words])
    writer.add_token_types([gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * len(words))
    writer.add_token_merges(["w o"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _interleaved(w_NK: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of a head from halves to neighbouring pairs, the rotary layout of GGUF's llama architecture."""
    return w_NK.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _gguf_name(name: str) -> str:
    if name in _ENDS:
        return _ENDS[name]
    _, _, index, rest = name.split(".", 3)
    return f"blk.{index}.{_NAMES[rest]}"

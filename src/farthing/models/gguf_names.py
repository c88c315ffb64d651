"""GGUF tensor names as Hugging Face names, for dense models of the LLaMA kind, and whose rows stand in another order.

Knows no files and no tensors: runtime/checkpoint_gguf.py applies both.
Source: gguf-py/gguf/constants.py and `LlamaModel.permute` in convert_hf_to_gguf.py of llama.cpp.
"""

import re

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_PER_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:blk\.([0-9]+)\.)?(\w+)\.(weight|bias)")

_INTERLEAVED_ARCHITECTURES = {"llama", "mistral3"}
_HEADS = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


def hugging_face_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; a name without counterpart stays as it is."""
    if match := _NAME.fullmatch(name):
        block, part, kind = match.groups()
        if block is None and part in _TOP:
            return f"{_TOP[part]}.{kind}"
        if block is not None and part in _PER_BLOCK:
            return f"model.layers.{block}.{_PER_BLOCK[part]}.{kind}"
    return name


def interleaved_heads(architecture: str, name: str) -> str | None:
    """The config.json key that counts the heads whose rows the GGUF tensor `name` holds interleaved; None: it does not.

    The rotary halves of a head, rows 0..d/2-1 and d/2..d-1 to Hugging Face, alternate there: 0, d/2, 1, d/2+1, ...
    """
    match = _NAME.fullmatch(name)
    if match is None or match[1] is None or architecture not in _INTERLEAVED_ARCHITECTURES:
        return None
    return _HEADS.get(match[2])

"""GGUF metadata as the config.json that the model had, so that one set of families reads both kinds of checkpoint.

What the metadata says beyond what those families compute is refused by name, never ignored. Knows no families and no
tensors' data; models/auto.py passes the dict on.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; convert_hf_to_gguf.py of llama.cpp.
"""

import math

from farthing.errors import ConfigError, UnsupportedError
from farthing.models.gguf_header import GgufHeader, GgufValue

_FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral3": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
}
_NEUTRAL: dict[str, tuple[GgufValue, ...]] = {  # metadata that changes the logits -> the values that change nothing
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_gating_func": (0, 1),  # not said, softmax
    "expert_group_count": (0, 1),
    "expert_shared_count": (0,),
    "expert_shared_feed_forward_length": (0,),
    "expert_weights_scale": (0, 1),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
    "use_parallel_residual": (False,),
}
_MAX_LAYERS, _MAX_HEADS, _MAX_EXPERTS = 10_000, 2**16, 2**16
_MAX_WIDTH, _MAX_CONTEXT = 2**24, 2**40
_NO_TOKEN = 2**32 - 1
_ROPE_FREQS = "rope_freqs.weight"
_YARN = {
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_DAMAGED = "the file is damaged or was converted badly: convert or download it again"
_NOT_COMPUTED = "Farthing does not compute this; use another model"


def config_from_gguf(header: GgufHeader) -> dict[str, object]:
    """What config.json would say: the keys of transformers' LlamaConfig, MistralConfig, Qwen2Config, ...

    Llama 3.1 and later keep their rope scaling as a tensor of divisors; `rope_scaling` is {"rope_type": "factors",
    "factors": the tensor's name} then. ConfigError names the key that is missing or absurd, UnsupportedError the
    architecture or feature that Farthing does not compute.
    """
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ConfigError("GGUF metadata general.architecture is missing or not a text", fix=_DAMAGED)
    if architecture not in _FAMILIES:
        raise UnsupportedError(f"GGUF architecture {architecture[:40]!r}", fix=f"Farthing reads {', '.join(_FAMILIES)}")
    metadata = _Metadata(header, architecture)
    metadata.refuse_other_math()
    num_experts = _num_experts(metadata, architecture)
    window = metadata.integer("attention.sliding_window", _MAX_CONTEXT, default=0, smallest=0)
    model_type, class_name = _family(architecture, num_experts, window)
    hidden_size = metadata.integer("embedding_length", _MAX_WIDTH)
    num_heads = metadata.integer("attention.head_count", _MAX_HEADS)
    head_dim = metadata.integer("attention.key_length", _MAX_WIDTH, default=hidden_size // num_heads)
    metadata.require("attention.value_length", head_dim)
    metadata.require("rope.dimension_count", head_dim)
    context = metadata.integer("context_length", _MAX_CONTEXT)
    vocab_size = _vocab_size(header)
    config: dict[str, object] = {
        "model_type": model_type,
        "architectures": [class_name],
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": metadata.integer("feed_forward_length", _MAX_WIDTH),
        "num_hidden_layers": metadata.integer("block_count", _MAX_LAYERS),
        "num_attention_heads": num_heads,
        "num_key_value_heads": metadata.integer("attention.head_count_kv", _MAX_HEADS, default=num_heads),
        "head_dim": head_dim,
        "rms_norm_eps": metadata.positive("attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.positive("rope.freq_base", default=10000.0),
        "rope_scaling": _rope_scaling(metadata, header, head_dim, context),
        "max_position_embeddings": context,
        "vocab_size": vocab_size,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "bos_token_id": _token_id(header, "bos", vocab_size),
        "eos_token_id": _end_tokens(header, vocab_size),
    }
    if architecture != "qwen2":  # it has q, k and v biases always, and no key that says so
        config["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
    if model_type == "llama":
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in header.tensors
    if model_type in ("mistral", "mixtral"):
        config["sliding_window"] = window or None
    if num_experts:
        config["num_local_experts"] = num_experts
        config["num_experts_per_tok"] = metadata.integer("expert_used_count", num_experts)
    if model_type == "qwen3_moe":
        config["moe_intermediate_size"] = metadata.integer("expert_feed_forward_length", _MAX_WIDTH)
    return config


class _Metadata:
    """The keys under the architecture's name, each checked; the errors name the one that is wrong."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self._metadata, self._architecture = header.metadata, architecture

    def full(self, key: str) -> str:
        return f"{self._architecture}.{key}"

    def get(self, key: str) -> GgufValue | None:
        """The value, or None. A list has one value for each layer: they must all be the same."""
        value = self._metadata.get(self.full(key))
        if not isinstance(value, list):
            return value
        if not value or any(item != value[0] for item in value):
            raise UnsupportedError(f"{self.full(key)} differs from layer to layer", fix=_NOT_COMPUTED)
        first: GgufValue = value[0]
        return first

    def integer(self, key: str, largest: int, *, default: int | None = None, smallest: int = 1) -> int:
        value = self.get(key)
        value = default if value is None else value
        if type(value) is not int or not smallest <= value <= largest:
            raise ConfigError(f"{self.full(key)} {_shown(value)}, not from {smallest} to {largest}", fix=_DAMAGED)
        return value

    def positive(self, key: str, *, default: float | None = None) -> float:
        value = self.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(f"{self.full(key)} {_shown(value)}, not a positive number", fix=_DAMAGED)
        return float(value)

    def require(self, key: str, expected: int) -> None:
        """Where the key is given, it has the one value that Farthing computes."""
        if (value := self.get(key)) is not None and value != expected:
            raise UnsupportedError(f"{self.full(key)} {_shown(value)}, not {expected}", fix=_NOT_COMPUTED)

    def refuse_other_math(self) -> None:
        for key, neutral in _NEUTRAL.items():
            if (value := self.get(key)) is not None and value not in neutral:
                raise UnsupportedError(f"{self.full(key)} {_shown(value)}", fix=_NOT_COMPUTED)


def _shown(value: object) -> str:
    return "is missing" if value is None else f"is {value!r:.40}"


def _num_experts(metadata: _Metadata, architecture: str) -> int:
    """0 for a dense model, which no architecture with experts in its name is."""
    if architecture == "qwen3moe":
        return metadata.integer("expert_count", _MAX_EXPERTS)
    return metadata.integer("expert_count", _MAX_EXPERTS, default=0, smallest=0)


def _family(architecture: str, num_experts: int, window: int) -> tuple[str, str]:
    """Converters write Mistral and Mixtral models as `llama`."""
    if architecture == "llama" and num_experts:
        return "mixtral", "MixtralForCausalLM"
    if architecture == "llama" and window:
        return "mistral", "MistralForCausalLM"
    for feature, is_given, known_in in (("experts", num_experts, "qwen3moe"), ("a sliding window", window, "mistral3")):
        if is_given and architecture != known_in:
            raise UnsupportedError(f"GGUF architecture {architecture} with {feature}", fix=_NOT_COMPUTED)
    return _FAMILIES[architecture]


def _rope_scaling(metadata: _Metadata, header: GgufHeader, head_dim: int, context: int) -> dict[str, object] | None:
    kind = metadata.get("rope.scaling.type")
    factor = metadata.positive(
        "rope.scale_linear" if metadata.get("rope.scaling.factor") is None else "rope.scaling.factor", default=1.0
    )
    divisors = header.tensors.get(_ROPE_FREQS)
    if kind not in (None, "none", "linear", "yarn") or "rope_factors_long.weight" in header.tensors:
        raise UnsupportedError(f"rope scaling {kind!r:.40} of this GGUF", fix=_NOT_COMPUTED)
    if divisors is not None:
        if kind in ("linear", "yarn") and factor != 1:
            raise UnsupportedError(f"{_ROPE_FREQS} together with rope scaling {kind}", fix=_NOT_COMPUTED)
        if divisors.shape != (head_dim // 2,):
            raise ConfigError(f"{_ROPE_FREQS} has the shape {divisors.shape}, not ({head_dim // 2},)", fix=_DAMAGED)
        return {"rope_type": "factors", "factors": _ROPE_FREQS}
    if kind == "none" or factor == 1:
        return None
    if kind != "yarn":
        return {"rope_type": "linear", "factor": factor}
    scaling: dict[str, object] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": metadata.integer(
            "rope.scaling.original_context_length", _MAX_CONTEXT, default=context
        ),
    }
    for theirs, ours in _YARN.items():
        if metadata.get(theirs) is not None:
            scaling[ours] = metadata.positive(theirs)
    return scaling


def _vocab_size(header: GgufHeader) -> int:
    """The rows of the embeddings; the tokenizer may have fewer tokens than that, never more."""
    embeddings = header.tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise ConfigError("the GGUF has no matrix token_embd.weight: it is no language model", fix=_DAMAGED)
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) > embeddings.shape[0]:
        raise ConfigError(
            f"tokenizer.ggml.tokens has {len(tokens)} tokens for {embeddings.shape[0]} embeddings", fix=_DAMAGED
        )
    return embeddings.shape[0]


def _end_tokens(header: GgufHeader, vocab_size: int) -> int | list[int] | None:
    """End of text, of turn and of message: one id where they are one, as in config.json."""
    found = [_token_id(header, kind, vocab_size) for kind in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(token for token in found if token is not None))
    return ends if len(ends) > 1 else next(iter(ends), None)


def _token_id(header: GgufHeader, kind: str, vocab_size: int) -> int | None:
    key = f"tokenizer.ggml.{kind}_token_id"
    value = header.metadata.get(key, _NO_TOKEN)
    if value == _NO_TOKEN:
        return None
    if type(value) is not int or not 0 <= value < vocab_size:
        raise ConfigError(f"{key} {_shown(value)}, outside the vocabulary of {vocab_size}", fix=_DAMAGED)
    return value

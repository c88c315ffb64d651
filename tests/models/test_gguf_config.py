"""GGUF metadata as config.json, GGUF names as Hugging Face names; absurd metadata is refused by name (class S31)."""

from pathlib import Path

import pytest

from farthing.errors import ConfigError, FarthingError, UnsupportedError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.gguf_config import config_from_gguf
from farthing.models.gguf_header import GgufHeader, GgufTensor, GgufValue, read_gguf_header
from farthing.models.gguf_names import hugging_face_name, interleaved_heads
from farthing.models.spec import Precision
from farthing.quantization.base import resolve

LLAMA: dict[str, GgufValue] = {
    "general.architecture": "llama",
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 160,
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.tokens": ["a"] * 100,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def header_of(metadata: dict[str, GgufValue], **shapes: tuple[int, ...]) -> GgufHeader:
    shapes = {"token_embd_weight": (100, 64), "output_weight": (100, 64)} | shapes
    tensors = {
        name: GgufTensor(name, "F32", shape, 0, 4)
        for name, shape in ((key.replace("_weight", ".weight"), shape) for key, shape in shapes.items())
        if shape
    }
    return GgufHeader(3, 32, metadata, tensors)


def renamed(architecture: str, **more: GgufValue) -> dict[str, GgufValue]:
    metadata = {key.replace("llama.", f"{architecture}."): value for key, value in LLAMA.items()}
    return metadata | {"general.architecture": architecture} | more


def test_a_llama_header_says_what_its_config_json_said() -> None:
    assert config_from_gguf(header_of(LLAMA | {"llama.rope.freq_base": 500000.0})) == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "max_position_embeddings": 4096,
        "vocab_size": 100,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attention_bias": False,
        "mlp_bias": False,
    }


def test_the_real_checkpoint_has_the_sizes_that_it_was_trained_with(shared: Path) -> None:
    config = config_from_gguf(read_gguf_header(shared / "fixtures/checkpoints/stories260K.gguf"))
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    assert [config[size] for size in sizes] == [64, 172, 5, 8, 4]
    assert (config["vocab_size"], config["tie_word_embeddings"], config["rope_theta"]) == (512, False, 10000.0)


def test_a_header_without_output_weight_ties_the_embeddings() -> None:
    assert config_from_gguf(header_of(LLAMA, output_weight=()))["tie_word_embeddings"] is True


def test_key_length_is_the_head_dimension_where_it_is_given() -> None:
    config = config_from_gguf(
        header_of(renamed("qwen3", **{"qwen3.attention.key_length": 16, "qwen3.attention.value_length": 16}))
    )
    assert (config["model_type"], config["head_dim"]) == ("qwen3", 16)


def test_qwen2_has_biases_by_definition_and_llama_by_its_tensors() -> None:
    assert "attention_bias" not in config_from_gguf(header_of(renamed("qwen2")))
    tensors = header_of(LLAMA).tensors | {"blk.0.attn_q.bias": GgufTensor("blk.0.attn_q.bias", "F32", (64,), 0, 4)}
    assert config_from_gguf(GgufHeader(3, 32, LLAMA, tensors))["attention_bias"] is True


def test_a_value_for_each_layer_counts_where_all_layers_agree() -> None:
    config = config_from_gguf(header_of(LLAMA | {"llama.feed_forward_length": [160, 160]}))
    assert config["intermediate_size"] == 160
    with pytest.raises(UnsupportedError, match=r"llama.attention.head_count_kv differs from layer to layer"):
        config_from_gguf(header_of(LLAMA | {"llama.attention.head_count_kv": [4, 2]}))


def test_several_ends_are_a_list_and_all_ones_means_no_token() -> None:
    ends = {
        "tokenizer.ggml.eot_token_id": 7,
        "tokenizer.ggml.eom_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2**32 - 1,
    }
    config = config_from_gguf(header_of(LLAMA | ends))
    assert (config["eos_token_id"], config["bos_token_id"]) == ([2, 7], None)


ROPE = {
    "none": ({"rope.scaling.type": "none", "rope.scaling.factor": 8.0}, None),
    "linear": ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "linear, as it was once written": ({"rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
    "linear by 1": ({"rope.scaling.type": "linear", "rope.scaling.factor": 1.0}, None),
    "yarn": (
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 1024},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    ),
    "yarn with all its parameters": (
        {
            "rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_attn_factor": 1.5,
            "rope.scaling.yarn_beta_fast": 16.0, "rope.scaling.yarn_beta_slow": 2.0,
        },
        {
            "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096, "attention_factor": 1.5,
            "beta_fast": 16.0, "beta_slow": 2.0,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("metadata", "scaling"), ROPE.values(), ids=ROPE)
def test_rope_scaling_is_what_config_json_called_it(metadata: dict[str, GgufValue], scaling: object) -> None:
    full = {f"llama.{key}": value for key, value in metadata.items()}
    assert config_from_gguf(header_of(LLAMA | full))["rope_scaling"] == scaling


def test_the_divisors_of_llama_3_are_named_and_must_have_one_for_each_pair() -> None:
    config = config_from_gguf(header_of(LLAMA, rope_freqs_weight=(4,)))
    assert config["rope_scaling"] == {"rope_type": "factors", "factors": "rope_freqs.weight"}
    with pytest.raises(ConfigError, match=r"rope_freqs.weight has the shape \(5,\)"):
        config_from_gguf(header_of(LLAMA, rope_freqs_weight=(5,)))


def test_mistral_and_mixtral_models_are_known_under_the_name_llama() -> None:
    mistral = config_from_gguf(header_of(LLAMA | {"llama.attention.sliding_window": 512}))
    assert (mistral["model_type"], mistral["sliding_window"]) == ("mistral", 512)
    assert config_from_gguf(header_of(renamed("mistral3")))["sliding_window"] is None
    mixtral = config_from_gguf(header_of(LLAMA | {"llama.expert_count": 8, "llama.expert_used_count": 2}))
    assert (mixtral["architectures"], mixtral["num_local_experts"], mixtral["num_experts_per_tok"]) == (
        ["MixtralForCausalLM"], 8, 2,
    )  # fmt: skip


QWEN3_MOE = renamed(
    "qwen3moe",
    **{
        "qwen3moe.expert_count": 16,
        "qwen3moe.expert_used_count": 4,
        "qwen3moe.expert_feed_forward_length": 24,
        "qwen3moe.attention.key_length": 16,
        "qwen3moe.attention.value_length": 16,
    },
)


def test_experts_are_described_with_their_own_size() -> None:
    config = config_from_gguf(header_of(QWEN3_MOE))
    assert (config["architectures"], config["moe_intermediate_size"]) == (["Qwen3MoeForCausalLM"], 24)
    spec = describe(ConfigReader(config, "a.gguf"), Precision.of(resolve("bf16", "cpu")))
    assert [(op.num_experts, op.experts_per_token, op.intermediate_size, n) for op, n in spec.experts] == [
        (16, 4, 24, 2)
    ]
    mixtral = config_from_gguf(header_of(LLAMA | {"llama.expert_count": 8, "llama.expert_used_count": 2}))
    spec = describe(ConfigReader(mixtral, "a.gguf"), Precision.of(resolve("bf16", "cpu")))
    assert [(op.num_experts, op.experts_per_token, op.intermediate_size, n) for op, n in spec.experts] == [
        (8, 2, 160, 2)
    ]


@pytest.mark.parametrize("key", ["expert_count", "expert_used_count", "expert_feed_forward_length"])
def test_a_model_with_experts_in_its_name_is_never_taken_for_a_dense_one(key: str) -> None:
    with pytest.raises(ConfigError, match=f"qwen3moe.{key} is missing"):
        config_from_gguf(header_of({name: value for name, value in QWEN3_MOE.items() if name != f"qwen3moe.{key}"}))


@pytest.mark.parametrize(
    "key", [key for key in LLAMA if key.startswith("llama.") and key != "llama.attention.head_count_kv"]
)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        config_from_gguf(header_of({name: value for name, value in LLAMA.items() if name != key}))


ABSURD = [
    (key, value)
    for key in ("embedding_length", "block_count", "attention.head_count", "attention.head_count_kv", "context_length")
    for value in (0, -1, 2**63, True, 1.5, "8", [], [[1]])
] + [
    ("attention.layer_norm_rms_epsilon", 0.0), ("attention.layer_norm_rms_epsilon", float("nan")),
    ("attention.layer_norm_rms_epsilon", float("inf")), ("rope.freq_base", -1.0), ("rope.freq_base", "10000"),
    ("rope.scaling.factor", 0.0), ("attention.key_length", 0), ("attention.head_count", 65), ("expert_count", -1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), ABSURD, ids=str)
def test_an_absurd_value_is_refused_by_the_name_of_its_key(key: str, value: GgufValue) -> None:
    with pytest.raises(FarthingError, match=r"llama\.") as caught:
        config_from_gguf(header_of(LLAMA | {f"llama.{key}": value}))
    assert key in str(caught.value) or (key == "attention.head_count" and "key_length" in str(caught.value))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_vocabulary_larger_than_the_embeddings_and_ids_outside_it_are_refused() -> None:
    with pytest.raises(ConfigError, match="101 tokens for 100 embeddings"):
        config_from_gguf(header_of(LLAMA | {"tokenizer.ggml.tokens": ["a"] * 101}))
    with pytest.raises(ConfigError, match=r"tokenizer.ggml.eos_token_id is 100"):
        config_from_gguf(header_of(LLAMA | {"tokenizer.ggml.eos_token_id": 100}))
    with pytest.raises(ConfigError, match=r"token_embd.weight"):
        config_from_gguf(header_of(LLAMA, token_embd_weight=()))


UNSUPPORTED: dict[str, dict[str, GgufValue]] = {
    "gpt2": renamed("gpt2"),
    "qwen2 with experts": renamed("qwen2", **{"qwen2.expert_count": 4}),
    "GGUF architecture 'qwen2moe'": renamed("qwen2moe", **{"qwen2moe.expert_count": 4}),
    "qwen3moe with a sliding window": QWEN3_MOE | {"qwen3moe.attention.sliding_window": 4},
    "llama.expert_shared_count is 1": LLAMA | {"llama.expert_shared_count": 1},
    "qwen3moe.leading_dense_block_count is 1": QWEN3_MOE | {"qwen3moe.leading_dense_block_count": 1},
    "qwen3moe.expert_gating_func is 2": QWEN3_MOE | {"qwen3moe.expert_gating_func": 2},
    "qwen3 with a sliding window": renamed("qwen3", **{"qwen3.attention.sliding_window": 4}),
    "llama.rope.dimension_count is 4": LLAMA | {"llama.rope.dimension_count": 4},
    "llama.attention.value_length is 16": LLAMA | {"llama.attention.value_length": 16},
    "rope scaling 'longrope'": LLAMA | {"llama.rope.scaling.type": "longrope"},
    "llama.logit_scale is 0.5": LLAMA | {"llama.logit_scale": 0.5},
    "llama.attention.causal is False": LLAMA | {"llama.attention.causal": False},
    "llama.attention.scale is nan": LLAMA | {"llama.attention.scale": float("nan")},
    "mistral3.attention.temperature_scale is 0.1": renamed("mistral3", **{"mistral3.attention.temperature_scale": 0.1}),
}


@pytest.mark.parametrize(("named", "metadata"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_what_is_not_computed_is_refused_by_name(named: str, metadata: dict[str, GgufValue]) -> None:
    with pytest.raises(UnsupportedError, match=named):
        config_from_gguf(header_of(metadata))


def test_a_missing_architecture_is_a_config_error() -> None:
    for metadata in ({}, {"general.architecture": 7}):
        with pytest.raises(ConfigError, match=r"general.architecture"):
            config_from_gguf(header_of(metadata))


NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
    "blk.3.attn_q.weight": "model.layers.3.self_attn.q_proj.weight",
    "blk.11.attn_v.bias": "model.layers.11.self_attn.v_proj.bias",
    "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
    "blk.0.attn_k_norm.weight": "model.layers.0.self_attn.k_norm.weight",
    "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
    "rope_freqs.weight": "rope_freqs.weight",
    "attn_q.weight": "attn_q.weight",
    "blk.0.output.weight": "blk.0.output.weight",
    "blk.0.ffn_gate_exps.weight": "blk.0.ffn_gate_exps.weight",
    "blk.0.attn_q.scale": "blk.0.attn_q.scale",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items(), ids=NAMES)
def test_a_gguf_name_becomes_the_hugging_face_name_or_stays(name: str, expected: str) -> None:
    assert hugging_face_name(name) == expected


def test_only_queries_and_keys_of_llama_are_interleaved() -> None:
    assert interleaved_heads("llama", "blk.0.attn_q.weight") == "num_attention_heads"
    assert interleaved_heads("llama", "blk.0.attn_k.bias") == "num_key_value_heads"
    for architecture, name in (
        ("llama", "blk.0.attn_v.weight"),
        ("llama", "output.weight"),
        ("qwen2", "blk.0.attn_q.weight"),
    ):
        assert interleaved_heads(architecture, name) is None

"""The families against published models, against transformers, and against configs that no one should have written."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CASES, Case, make_reference

from farthing.engine.config import EngineConfig, resolve_context
from farthing.errors import ConfigError, FarthingError, UnsupportedError, UsageError
from farthing.models.auto import describe, read_config
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

BF16 = Precision.of(resolve("bf16", "cpu"))

PUBLISHED = {  # config -> number of parameters: the safetensors totals and papers of the models' authors
    "meta-llama--Llama-2-7b-hf_config": 6_738_415_616,
    "meta-llama--Llama-2-13b-hf_config": 13_015_864_320,
    "meta-llama--Llama-2-70b-hf_config": 68_976_648_192,
    "meta-llama--Meta-Llama-3.1-8B_config": 8_030_261_248,
    "meta-llama--Meta-Llama-3.1-70B_config": 70_553_706_496,
    "meta-llama--Meta-Llama-3.1-405B_config": 405_853_388_800,
    "mistralai--Mistral-7B-Instruct-v0.3_config": 7_248_023_552,
    "Qwen--Qwen2.5-1.5B_config": 1_543_714_304,
    "Qwen--Qwen2.5-7B_config": 7_615_616_512,
    "Qwen--Qwen2.5-72B_config": 72_706_203_648,
    "Qwen--Qwen3-8B_config": 8_190_735_360,
    "Qwen--Qwen3-30B-A3B_config": 30_532_122_624,
    "Qwen--Qwen3-235B-A22B_config": 235_093_634_560,
    "mistralai--Mixtral-8x7B-v0.1_config": 46_702_792_704,
    "mlc--tinyllama_1b_chat_v1.0": 1_100_048_384,
    "mlc--smollm2_135m": 134_515_008,
    "mlc--codellama_7b": 6_738_546_688,
}
KV_BYTES = {  # of a token, in 16 bits: 2 * layers * KV heads * head_dim * 2
    "meta-llama--Llama-2-7b-hf_config": 524_288,
    "meta-llama--Meta-Llama-3.1-8B_config": 131_072,
    "Qwen--Qwen2.5-7B_config": 57_344,
    "Qwen--Qwen3-0.6B_config": 114_688,  # 8 heads of 128, although 1024 / 16 = 64
}
REFUSED = {
    "KoboldAI--OPT-6.7B-Erebus_config": "'OPTForCausalLM'",
    "Qwen--Qwen3-32B-FP8_config": "'fp8'",
    "TheBloke--Wizard-Vicuna-30B-GPTQ_config": "'gptq'",
    "deepseek-ai--DeepSeek-V3_config": "auto_map",
    "meta-llama--Llama-3.2-1B-finetune_config": "'bitsandbytes'",
    "microsoft--phi-1.5-mixformer_config": "auto_map",
    "mlc--gemma2_9b": "'Gemma2ForCausalLM'",
    "mlc--gpt2": "'GPT2LMHeadModel'",
    "openai--gpt-oss-20b_config": "mxfp4",
}
OTHERS = {
    "Qwen--Qwen3-0.6B_config",
    "Qwen--Qwen3-32B_config",
    "deepseek-ai--DeepSeek-R1-Distill-Qwen-32B_config",
    "mlc--codellama_34b",  # with 16 tokens more than the published one
    "nvidia--Llama-3.1-70B-Instruct-FP8_config",  # what makes it FP8 stands in the file beside it
}
LLAMA: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
EXPERTS: dict[str, object] = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def described(**changes: object) -> ModelSpec:
    values = {key: value for key, value in {**LLAMA, **changes}.items() if value != "absent"}
    return describe(ConfigReader(values, "config.json"), BF16)


def fixture(shared: Path, name: str) -> ModelSpec:
    return describe(read_config(shared / "fixtures/configs" / f"{name}.json"), BF16)


# --- published models


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_number_of_parameters(name: str, shared: Path) -> None:
    assert fixture(shared, name).num_parameters == PUBLISHED[name]


@pytest.mark.parametrize("name", KV_BYTES)
def test_a_token_takes_the_kv_bytes_of_its_heads(name: str, shared: Path) -> None:
    assert fixture(shared, name).kv_bytes_per_token == KV_BYTES[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_published_model_that_is_not_supported_is_refused_by_name(name: str, shared: Path) -> None:
    with pytest.raises(UnsupportedError, match=REFUSED[name]) as refused:
        fixture(shared, name)
    assert len(str(refused.value).splitlines()) == 1


def test_every_config_of_the_fixtures_is_described_or_refused(shared: Path) -> None:
    there = {path.stem for path in (shared / "fixtures/configs").glob("*.json")}
    assert there - {name for name in there if name.endswith("quantize_config") or "hf_quant" in name} == {
        *PUBLISHED, *REFUSED, *OTHERS,
    }  # fmt: skip
    assert all(fixture(shared, name).num_parameters > 0 for name in OTHERS)


def test_names_and_bytes_are_those_of_a_published_weight_index(shared: Path) -> None:
    file = shared / "fixtures/weight-index/Mistral-7B-Instruct-v0.3.model.safetensors.index.json"
    index = json.loads(file.read_text())
    spec = fixture(shared, "mistralai--Mistral-7B-Instruct-v0.3_config")
    assert set(spec.stored_tensors()) == set(index["weight_map"])
    assert spec.weight_bytes == index["metadata"]["total_size"]


# --- transformers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_names_shapes_and_parameters_are_those_of_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_reference(case)
    reference.config.save_pretrained(tmp_path)
    spec = describe(read_config(tmp_path), BF16)
    theirs = {name: tuple(parameter.shape) for name, parameter in reference.named_parameters()}
    assert {name: tensor.shape for name, tensor in spec.stored_tensors().items()} == theirs
    assert spec.num_parameters == sum(parameter.numel() for parameter in reference.parameters())


# --- what a config may say


def test_windows_are_those_of_the_layers() -> None:
    def windows(**changes: object) -> list[int | None]:
        return [layer.attention.window for layer in described(**changes).layers]

    mistral = {"architectures": ["MistralForCausalLM"]}
    assert windows(**mistral) == [4096] * 3
    assert windows(**mistral, sliding_window=None) == [None] * 3
    assert windows(**mistral, sliding_window=16) == [16] * 3
    qwen = {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 8}
    assert windows(**qwen, use_sliding_window=False, max_window_layers=0) == [None] * 3
    assert windows(**qwen, use_sliding_window=True, max_window_layers=2) == [None, None, 8]
    assert windows(**qwen, use_sliding_window=True, max_window_layers=0) == [8, 8, 8]
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert windows(**qwen, use_sliding_window=True, layer_types=kinds) == [8, None, 8]


def test_keys_that_are_absent_mean_what_they_mean_to_their_family() -> None:
    def heads(architecture: str) -> tuple[int, int]:
        absent = {"num_key_value_heads": "absent", "head_dim": "absent", "num_attention_heads": 16}
        attention = described(architectures=[architecture], **absent).layers[0].attention
        return attention.num_kv_heads, attention.head_dim

    assert heads("LlamaForCausalLM") == (16, 4)
    assert heads("MistralForCausalLM") == (8, 4)
    assert heads("Qwen3ForCausalLM") == (16, 128)


def test_equal_layers_are_one_value() -> None:
    assert len(set(described().layers)) == 1
    assert (
        len(set(described(architectures=["Qwen2ForCausalLM"], use_sliding_window=True, max_window_layers=1).layers))
        == 2
    )


def test_a_tied_head_counts_once_in_parameters_and_bytes() -> None:
    untied, tied = described(), described(tie_word_embeddings=True)
    assert untied.num_parameters - tied.num_parameters == 64 * 100
    assert untied.weight_bytes - tied.weight_bytes == 64 * 100 * 2
    batch = BatchShape.decode(10)
    assert untied.cost(batch) == tied.cost(batch)


def test_quantized_layers_leave_norms_embedding_and_head_as_they_were() -> None:
    plain = described()
    spec = describe(ConfigReader(LLAMA, "config.json"), Precision.of(resolve("w8a16", "cpu")))
    assert spec.num_parameters == plain.num_parameters
    formats = {name.split(".")[-2] + "." + name.split(".")[-1]: t.dtype for name, t in spec.stored_tensors().items()}
    assert formats["q_proj.weight"] == formats["down_proj.weight"] == "int8"
    assert formats["q_proj.weight_scale"] == "fp32"
    assert formats["lm_head.weight"] == formats["embed_tokens.weight"] == formats["norm.weight"] == "bf16"


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"hidden_act": "gelu"}, UnsupportedError, "'gelu'"),
        ({"hidden_act": "relu"}, UnsupportedError, "'relu'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, UnsupportedError, "'longrope'"),
        ({"partial_rotary_factor": 0.5}, UnsupportedError, "partial_rotary_factor"),
        ({"rope_interleaved": True}, UnsupportedError, "rope_interleaved"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "layer_types": ["linear_attention"] * 3},
         UnsupportedError, "'linear_attention'"),
        ({"hidden_size": "absent"}, ConfigError, "hidden_size is missing"),
        ({"intermediate_size": None}, ConfigError, "intermediate_size"),
        ({"vocab_size": 0}, ConfigError, "vocab_size"),
        ({"num_hidden_layers": 5000}, ConfigError, "num_hidden_layers"),
        ({"num_attention_heads": 2**17}, ConfigError, "num_attention_heads"),
        ({"num_key_value_heads": 3}, ConfigError, "num_key_value_heads is 3.*divisor"),
        ({"num_key_value_heads": 8}, ConfigError, "num_key_value_heads is 8"),
        ({"hidden_size": 65}, ConfigError, "hidden_size is 65.*multiple"),
        ({"head_dim": 15}, ConfigError, "head_dim is 15.*even"),
        ({"hidden_size": 60}, ConfigError, "head_dim.*even"),
        ({"rms_norm_eps": -1e-5}, ConfigError, "rms_norm_eps"),
        ({"max_position_embeddings": -1}, ConfigError, "max_position_embeddings"),
        ({"attention_bias": "yes"}, ConfigError, "attention_bias"),
        ({"tie_word_embeddings": 1}, ConfigError, "tie_word_embeddings"),
        ({"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "layer_types": ["full_attention"]},
         ConfigError, "layer_types"),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_computed_is_refused_by_the_name_of_its_key(
    changes: dict[str, object], error: type[FarthingError], named: str
) -> None:
    with pytest.raises(error, match=named) as refused:
        described(**changes)
    assert len(str(refused.value).splitlines()) == 1


def test_a_context_beyond_the_model_is_refused_with_the_reason() -> None:
    dynamic = described(rope_scaling={"rope_type": "dynamic", "factor": 4.0})
    assert resolve_context(EngineConfig(context=512), dynamic) == 512
    with pytest.raises(UsageError, match=r"--context 513 is above 512.*'dynamic'.*longest sequence of the batch"):
        resolve_context(EngineConfig(context=513), dynamic)
    with pytest.raises(UsageError, match="max_position_embeddings"):
        resolve_context(EngineConfig(context=513), described())
    assert resolve_context(EngineConfig(), described()) == 512
    assert resolve_context(EngineConfig(), described(max_position_embeddings=10**6)) == 4096


# --- fuzz

NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 64, 128, 2**24, 2**31, 2**64, 10**400, -0.0, 0.5, 1.0, 1e-320, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=4
)
SCALING = st.dictionaries(
    st.sampled_from([
        "type", "rope_type", "factor", "rope_theta", "original_max_position_embeddings", "low_freq_factor",
        "high_freq_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate",
        "partial_rotary_factor", "factors",
    ]),
    st.sampled_from(["linear", "llama3", "yarn", "dynamic", "factors", "longrope"]) | SCALARS,
)  # fmt: skip
KEYS = st.sampled_from([
    *LLAMA, "model_type", "head_dim", "attention_bias", "mlp_bias", "sliding_window", "use_sliding_window",
    "max_window_layers", "layer_types", "auto_map", "quantization_config", "original_max_position_embeddings",
    *EXPERTS, "num_experts", "mlp_only_layers", "decoder_sparse_step",
])  # fmt: skip
FAMILIES = st.sampled_from([
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "MixtralForCausalLM",
    "Qwen3MoeForCausalLM",
])  # fmt: skip


@settings(max_examples=500)
@given(
    FAMILIES,
    st.dictionaries(KEYS, ANYTHING, max_size=3),
    st.dictionaries(st.sampled_from(["rope_scaling", "rope_parameters"]), SCALING, max_size=1),
)
def test_any_config_is_described_or_refused_in_one_line(
    family: str, changes: dict[str, object], scaling: dict[str, object]
) -> None:
    config = {**LLAMA, **EXPERTS, "architectures": [family], **changes, **scaling}
    before = copy.deepcopy(config)
    try:
        spec = describe(ConfigReader(config, "config.json"), BF16)
    except FarthingError as refused:
        assert len(str(refused).splitlines()) == 1 and len(str(refused)) < 600
        return
    finally:
        assert repr(config) == repr(before)
    assert spec.cost(BatchShape.prefill(3)).total_flops > 0 and spec.kv_bytes_per_token > 0
    if spec.rope.head_dim <= 4096:
        frequencies = spec.rope.frequencies()
        assert len(frequencies) == spec.rope.head_dim // 2 and all(0 < f < 1e20 for f in frequencies)
        assert 0 < spec.rope.scaling.attention_factor < 1e16


@settings(max_examples=200)
@given(FAMILIES, st.dictionaries(st.sampled_from(["factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"]),
       st.floats(1e-15, 1e15)), st.sampled_from(["linear", "yarn"]), st.floats(1.0, 1e15))  # fmt: skip
def test_every_scaling_of_numbers_in_range_has_finite_frequencies(
    family: str, numbers: dict[str, float], kind: str, theta: float
) -> None:
    scaling = {"factor": 2.0, **numbers, "rope_type": kind}
    try:
        spec = described(**EXPERTS, architectures=[family], rope_scaling=scaling, rope_theta=theta)
    except FarthingError:
        assert theta == 1.0
        return
    assert all(0 <= frequency < 1e20 for frequency in spec.rope.frequencies())

"""Mixtral and Qwen 3 with experts: names, shapes and counts against transformers, what is active, what is refused."""

from pathlib import Path

import pytest
from safetensors import safe_open
from tiny_models import MOE_CASES, Case, make_reference, save_reference

from farthing.errors import ConfigError
from farthing.models.auto import describe, read_config
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.spec import DenseMlp, ModelSpec, MoeMlp, Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

SIZES: dict[str, object] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
MIXTRAL = {**SIZES, "architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN = {
    **SIZES,
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 24,
}
ACTIVE = {  # the authors say 12.9, 3.3 and 22 billion
    "mistralai--Mixtral-8x7B-v0.1_config": 12_879_925_248,
    "Qwen--Qwen3-30B-A3B_config": 3_353_032_704,
    "Qwen--Qwen3-235B-A22B_config": 22_190_763_520,
}


def described(config: dict[str, object], weight_format: str = "bf16", **changes: object) -> ModelSpec:
    values = {key: value for key, value in {**config, **changes}.items() if value != "absent"}
    return describe(ConfigReader(values, "config.json"), Precision.of(resolve(weight_format, "cpu")))


# --- transformers


@pytest.mark.parametrize("case", MOE_CASES, ids=lambda case: case.name)
def test_names_shapes_and_parameters_are_those_that_transformers_writes(case: Case, tmp_path: Path) -> None:
    reference = make_reference(case)
    save_reference(reference, tmp_path)
    spec = describe(read_config(tmp_path), Precision.of(resolve("fp32", "cpu")))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        written = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert {name: tensor.shape for name, tensor in spec.stored_tensors().items()} == written
    assert spec.num_parameters == sum(parameter.numel() for parameter in reference.parameters())
    assert spec.weight_bytes == 4 * spec.num_parameters


@pytest.mark.parametrize("case", MOE_CASES, ids=lambda case: case.name)
def test_windows_and_sparse_layers_are_those_of_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_reference(case)
    reference.config.save_pretrained(tmp_path)
    layers = describe(read_config(tmp_path), Precision.of(resolve("fp32", "cpu"))).layers
    assert {layer.attention.window for layer in layers} == {reference.config.sliding_window}
    routed = [hasattr(layer.mlp, "experts") for layer in reference.model.layers]
    assert [isinstance(layer.mlp, MoeMlp) for layer in layers] == routed


# --- active and stored apart


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_those_that_the_authors_give(name: str, shared: Path) -> None:
    config = read_config(shared / "fixtures/configs" / f"{name}.json")
    spec = describe(config, Precision.of(resolve("bf16", "cpu")))
    assert spec.num_active_parameters == ACTIVE[name]
    assert (spec.weight_bytes, spec.active_weight_bytes) == (2 * spec.num_parameters, 2 * spec.num_active_parameters)


@pytest.mark.parametrize("config", [MIXTRAL, QWEN], ids=["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("weight_format", ["bf16", "w8a16", "w4a8"])
def test_what_a_token_does_not_touch_is_not_active(config: dict[str, object], weight_format: str) -> None:
    spec = described(config, weight_format)
    idle = [
        (name, tensor)
        for name, tensor in spec.stored_tensors().items()
        if ".experts." in name and int(name.split(".experts.")[1].split(".")[0]) >= config["num_experts_per_tok"]
    ]
    assert spec.weight_bytes - spec.active_weight_bytes == sum(tensor.num_bytes for _, tensor in idle)
    assert spec.num_parameters == described(config).num_parameters
    assert sum(tensor.num_bytes for tensor in spec.stored_tensors().values()) == spec.weight_bytes


def test_routers_keep_the_activation_dtype_and_experts_take_the_format() -> None:
    for config, router in ((MIXTRAL, "block_sparse_moe.gate"), (QWEN, "mlp.gate")):
        spec = described(config, "w8a16")
        stored = spec.stored_tensors()
        assert stored[f"model.layers.1.{router}.weight"].dtype == "bf16"
        experts = [tensor.dtype for name, tensor in stored.items() if ".experts." in name and name.endswith("weight")]
        assert set(experts) == {"int8"}


def test_a_dense_model_is_all_active_and_no_part_of_a_model_with_experts_is_run() -> None:
    llama = described({**SIZES, "architectures": ["LlamaForCausalLM"]})
    assert (llama.num_active_parameters, llama.active_weight_bytes) == (llama.num_parameters, llama.weight_bytes)
    assert not llama.plan_only and llama.experts == ()
    assert described(MIXTRAL).plan_only and described(QWEN, mlp_only_layers=[0, 1, 2]).plan_only
    assert all(rank.plan_only for rank in parallelize(described(MIXTRAL), tp=2, pp=2))


def test_equal_layers_are_one_value_and_are_priced_as_their_number() -> None:
    spec = described(QWEN, mlp_only_layers=[1])
    assert [count for _, count in spec.distinct_layers] == [3, 1]
    assert [(op.num_experts, count) for op, count in spec.experts] == [(16, 3)]
    batch = BatchShape.of([(1, 30), (5, 2)])
    costs = [op.cost(batch) for _, op in spec.named_ops()]
    whole = spec.cost(batch)
    assert whole.total_flops == sum(cost.total_flops for cost in costs)
    assert whole.moved_bytes == sum(cost.moved_bytes for cost in costs)
    assert spec.num_ops == len(costs)


# --- what a config may say


def test_the_sparse_step_counts_from_one_and_dense_layers_have_their_own_size() -> None:
    def sizes(**changes: object) -> list[int]:
        return [layer.mlp.intermediate_size for layer in described(QWEN, **changes).layers]

    assert sizes() == [24] * 4
    assert sizes(intermediate_size="absent") == [24] * 4
    assert sizes(decoder_sparse_step=2) == [96, 24, 96, 24]
    assert sizes(decoder_sparse_step=2, mlp_only_layers=[3]) == [96, 24, 96, 96]
    dense = described(QWEN, decoder_sparse_step=5)
    assert all(isinstance(layer.mlp, DenseMlp) for layer in dense.layers) and not dense.plan_only


def test_windows_of_models_with_experts_are_off_unless_asked_for() -> None:
    def windows(config: dict[str, object], **changes: object) -> set[int | None]:
        return {layer.attention.window for layer in described(config, **changes).layers}

    assert windows(MIXTRAL) == windows(MIXTRAL, sliding_window=None) == {None}
    assert windows(MIXTRAL, sliding_window=7) == {7}
    assert windows(QWEN, sliding_window=7) == windows(QWEN, use_sliding_window=True, sliding_window=None) == {None}
    assert windows(QWEN, use_sliding_window=True) == {4096}
    assert windows(QWEN, use_sliding_window=True, sliding_window=7, max_window_layers=2) == {7}


def test_the_number_of_experts_has_two_names_in_qwen3_moe() -> None:
    renamed = described(QWEN, num_experts="absent", num_local_experts=16)
    assert renamed == described(QWEN)


@pytest.mark.parametrize(
    ("config", "changes", "named"),
    [
        (MIXTRAL, {"num_experts_per_tok": 9}, "num_experts_per_tok is 9.*at most num_local_experts 8"),
        (MIXTRAL, {"num_experts_per_tok": 0}, "num_experts_per_tok is 0"),
        (MIXTRAL, {"num_local_experts": 0}, "num_local_experts is 0"),
        (MIXTRAL, {"num_local_experts": "absent"}, "num_local_experts is missing"),
        (MIXTRAL, {"num_experts_per_tok": "absent"}, "num_experts_per_tok is missing"),
        (MIXTRAL, {"num_local_experts": 10**6}, "num_local_experts is 1000000"),
        (MIXTRAL, {"sliding_window": 0}, "sliding_window is 0"),
        (QWEN, {"num_experts": 0}, "num_experts is 0"),
        (QWEN, {"num_experts": "absent"}, "num_experts is missing"),
        (QWEN, {"num_experts_per_tok": 17}, "num_experts_per_tok is 17.*at most num_experts 16"),
        (QWEN, {"moe_intermediate_size": "absent"}, "moe_intermediate_size is missing"),
        (QWEN, {"moe_intermediate_size": -1}, "moe_intermediate_size is -1"),
        (QWEN, {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        (QWEN, {"mlp_only_layers": [4]}, r"mlp_only_layers is \[4\].*from 0 to 3"),
        (QWEN, {"mlp_only_layers": [-1]}, "mlp_only_layers"),
        (QWEN, {"mlp_only_layers": [True]}, "mlp_only_layers"),
        (QWEN, {"mlp_only_layers": 1}, "mlp_only_layers is 1"),
        (QWEN, {"mlp_only_layers": [1], "intermediate_size": "absent"}, "intermediate_size is missing"),
    ],
    ids=str,
)
def test_impossible_experts_are_refused_by_the_name_of_their_key(
    config: dict[str, object], changes: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        described(config, **changes)
    assert len(str(refused.value).splitlines()) == 1

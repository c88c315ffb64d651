"""The table of published models: every entry is described with its published count, and found by the names in use."""

import re

import pytest

from farthing.models.auto import config_of, describe, stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import PublishedModel, find_published, published_models
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import DTYPE_BYTES, resolve

MODELS = tuple(published_models().values())
WEIGHTS = tuple(weights for model in MODELS for weights in (model, model.base) if weights is not None)
LICENCES = {
    "other", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "apache-2.0", "mit", "qwen", "qwen-research",
}  # fmt: skip
SERIES = {  # the names that people use, by series
    "llama-1": ("7b", "13b", "30b", "65b"),
    "llama-2": ("7b", "13b", "70b"),
    "codellama": ("7b", "13b", "34b", "70b"),
    "llama-3": ("8b", "70b"),
    "llama-3.1": ("8b", "70b", "405b"),
    "llama-3.2": ("1b", "3b"),
    "llama-3.3": ("70b",),
    "tinyllama": ("1.1b",),
    "mistral": ("7b", "7b-v0.1", "7b-v0.2", "7b-v0.3", "nemo-12b", "small-24b"),
    "mixtral": ("8x7b", "8x22b"),
    "qwen2.5": ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b", "coder-7b", "coder-14b", "coder-32b"),
    "qwq": ("32b",),
    "qwen3": ("0.6b", "1.7b", "4b", "8b", "14b", "32b", "30b-a3b", "235b-a22b"),
    "smollm2": ("135m", "360m", "1.7b"),
    "yi": ("6b", "9b", "34b", "1.5-6b", "1.5-9b", "1.5-34b"),
    "deepseek-r1-distill": ("llama-8b", "llama-70b", "qwen-1.5b", "qwen-7b", "qwen-14b", "qwen-32b"),
}


def described(weights: PublishedModel, weight_format: str | None = None) -> ModelSpec:
    config = ConfigReader(weights.config, weights.name)
    return describe(config, Precision.of(resolve(weight_format or stored_dtype(config), "cpu")))


def name_of(weights: PublishedModel) -> str:
    return weights.name


# --- dimensions and counts


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_an_entry_has_its_published_number_of_parameters_and_the_bytes_of_its_dtype(weights: PublishedModel) -> None:
    spec = described(weights)
    assert spec.num_parameters == weights.parameters
    assert spec.weight_bytes == weights.parameters * DTYPE_BYTES[spec.precision.format.name]


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3.1-8b", "qwen2.5-7b", "qwen3-30b-a3b", "mixtral-8x7b"])
def test_bf16_and_fp16_take_the_same_bytes(name: str) -> None:
    model = published_models()[name]
    assert described(model, "bf16").weight_bytes == described(model, "fp16").weight_bytes == 2 * model.parameters


@pytest.mark.parametrize(
    ("name", "counted_besides"),
    [
        ("qwen3-0.6b", 151_936 * 1024),  # the tied head, stored a second time
        ("qwen3-1.7b", 151_936 * 2048),
        ("llama-2-7b", 32 * 128 // 2),  # the rotary frequencies of each layer
        ("llama-2-13b", 40 * 128 // 2),
    ],
)
def test_a_note_names_what_the_hub_counts_besides(name: str, counted_besides: int) -> None:
    model = published_models()[name]
    match = re.search(r"the hub counts ([\d,]+):", model.parameters_note or "")
    assert match is not None
    assert int(match[1].replace(",", "")) - described(model).num_parameters == counted_besides


@pytest.mark.parametrize(
    ("name", "billions"),  # active for each token, as the papers round them
    [("mixtral-8x7b", 12.9), ("mixtral-8x22b", 39.2), ("qwen3-30b-a3b", 3.35), ("qwen3-235b-a22b", 22.2)],
)
def test_a_mixture_of_experts_is_planned_with_its_active_parameters(name: str, billions: float) -> None:
    spec = described(published_models()[name])
    assert spec.plan_only and spec.num_active_parameters == pytest.approx(billions * 1e9, rel=0.005)


def test_only_the_first_mistral_has_a_window() -> None:
    def windows(name: str) -> set[int | None]:
        return {layer.attention.window for layer in described(published_models()[name]).layers}

    assert windows("mistral-7b-v0.1") == {4096}
    assert windows("mistral-7b-v0.2") == windows("mistral-7b") == windows("mistral-nemo-12b") == {None}


def test_base_weights_may_differ_from_those_tuned_from_them() -> None:
    def positions(name: str) -> int:
        return describe(config_of(find_model(name)), Precision.of(resolve("bf16", "cpu"))).max_positions

    assert (positions("qwen2.5-7b"), positions("qwen2.5-7b-base")) == (32768, 131072)
    assert (positions("codellama-70b"), positions("codellama-70b-base")) == (4096, 16384)
    instruct, base = find_published("mixtral-8x22b"), find_published("mixtral-8x22b-base")
    assert instruct is not None and base is not None
    assert instruct.parameters - base.parameters == 2 * 768 * 6144  # 768 tokens more, in embedding and head


# --- the table


def test_the_table_holds_the_series_that_people_ask_for() -> None:
    missing = [f"{series}-{size}" for series, sizes in SERIES.items() for size in sizes
               if find_published(f"{series}-{size}") is None]  # fmt: skip
    assert not missing
    assert len(MODELS) >= 45


def test_hub_ids_are_well_formed_and_no_two_models_share_one() -> None:
    bases = [model.base_hub_id for model in MODELS if model.base_hub_id not in (None, model.hub_id)]
    hub_ids = [model.hub_id for model in MODELS] + [str(base) for base in bases]
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", hub_id) for hub_id in hub_ids)
    assert len(set(hub_ids)) == len(hub_ids)


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_an_entry_says_where_it_comes_from(weights: PublishedModel) -> None:
    assert weights.source == f"https://huggingface.co/{weights.hub_id}"
    assert re.fullmatch(r"202[3-5]-(0[1-9]|1[0-2])", weights.released)
    assert weights.licence in LICENCES
    assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", weights.name)


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_an_entry_writes_out_what_a_family_would_otherwise_guess(weights: PublishedModel) -> None:
    config = weights.config
    assert {"architectures", "vocab_size", "max_position_embeddings", "rms_norm_eps", "torch_dtype"} <= config.keys()
    assert {"tie_word_embeddings", "rope_theta"} <= config.keys() or weights.name.startswith(("llama-1-", "llama-2-"))
    assert "num_key_value_heads" in config or weights.name.startswith("llama-1-")
    assert "sliding_window" in config or not weights.hub_id.startswith("mistralai/")
    assert "null" not in config.values()


# --- names


@pytest.mark.parametrize(
    ("spelling", "hub_id"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("LLAMA_3.1_8B-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        (" llama3.1:8b ", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),  # the repository before it was renamed
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("llama-3.1-8b-base", "meta-llama/Llama-3.1-8B"),
        ("llama3:8b", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("llama2:7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
        ("Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("llama-7b", "huggyllama/llama-7b"),
        ("LLaMA 33B", "huggyllama/llama-30b"),
        ("llama-1-7b-base", "huggyllama/llama-7b"),
        ("codellama:34b", "codellama/CodeLlama-34b-Instruct-hf"),
        ("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        ("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("mistral-7b-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("mistral-7b-v0.3-base", "mistralai/Mistral-7B-v0.3"),
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("mistral-nemo", "mistralai/Mistral-Nemo-Instruct-2407"),
        ("mixtral:8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),  # an alias, although a repository of base weights is called so
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("qwen2.5-coder:32b", "Qwen/Qwen2.5-Coder-32B-Instruct"),
        ("qwq", "Qwen/QwQ-32B"),
        ("qwen3:0.6b", "Qwen/Qwen3-0.6B"),
        ("Qwen 3 30B A3B", "Qwen/Qwen3-30B-A3B"),
        ("smollm2:135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("yi:34b", "01-ai/Yi-34B-Chat"),
        ("Yi 1.5 6B", "01-ai/Yi-1.5-6B-Chat"),
        ("deepseek-r1:32b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"),
        ("DeepSeek-R1-Distill-Llama-8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    ],
)
def test_a_model_is_found_by_the_names_in_use(spelling: str, hub_id: str) -> None:
    found = find_published(spelling)
    assert found is not None and found.hub_id == hub_id


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_every_name_of_a_model_finds_its_own_weights(model: PublishedModel) -> None:
    for name in (model.name, *model.also, model.name.replace("-", " ").upper(), model.name.replace("-", ":")):
        assert find_published(name) is model
        assert find_published(f"{name}-base") is model.base
    for weights in (model, model.base or model):
        found = find_published(weights.hub_id)
        assert found is not None and found.hub_id == weights.hub_id


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "llama-3.1",  # three sizes
        "mistral",
        "mixtral",
        "deepseek-r1:8b",  # Ollama's name for a Llama, later for a Qwen3
        "deepseek-r1",
        "llama-38b",  # not 3-8b
        "llama-3-3b",  # not the 33B of LLaMA 1
        "llama318b",
        "yi-9b-chat",  # never published
        "llama-7b-instruct",
        "qwen3-32b-base",
        "llama3.1:8b-instruct-q4_K_M",  # other weights
        "unsloth/Llama-3.1-8B-Instruct",
        "meta-llama",
        "-base",
        "",
        "   ",
    ],
)
def test_a_name_that_could_mean_something_else_finds_nothing(name: str) -> None:
    assert find_published(name) is None

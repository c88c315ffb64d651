"""Each published config of the fixtures is planned with the counts that its dimensions give, or refused by name.

The counts stand here as figures, computed by hand from the dimensions (embedding, projections, biases, norms, head),
so that a description that silently reads a config in another way is noticed.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from farthing.errors import FarthingError, UnsupportedError
from farthing.models.auto import config_of, describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import PublishedModel, find_published
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve


@dataclass(frozen=True, slots=True)
class Planned:
    """`kv_bytes`: of a token, in 16 bits: 2 * 2 * layers * KV heads * head_dim."""

    family: str
    parameters: int
    kv_bytes: int


Refused = str  # what the refusal names

EXPECTED: dict[str, Planned | Refused] = {
    "KoboldAI--OPT-6.7B-Erebus_config.json": "architecture 'OPTForCausalLM'",
    "Qwen--Qwen2.5-1.5B_config.json": Planned("qwen2", 1_543_714_304, 28_672),
    "Qwen--Qwen2.5-72B_config.json": Planned("qwen2", 72_706_203_648, 327_680),
    "Qwen--Qwen2.5-7B_config.json": Planned("qwen2", 7_615_616_512, 57_344),
    "Qwen--Qwen3-0.6B_config.json": Planned("qwen3", 596_049_920, 114_688),
    "Qwen--Qwen3-235B-A22B_config.json": Planned("qwen3_moe", 235_093_634_560, 192_512),
    "Qwen--Qwen3-30B-A3B_config.json": Planned("qwen3_moe", 30_532_122_624, 98_304),
    "Qwen--Qwen3-32B-FP8_config.json": "quantization 'fp8'",
    "Qwen--Qwen3-32B_config.json": Planned("qwen3", 32_762_123_264, 262_144),
    "Qwen--Qwen3-8B_config.json": Planned("qwen3", 8_190_735_360, 147_456),
    "TheBloke--Wizard-Vicuna-30B-GPTQ_config.json": "quantization 'gptq'",
    "deepseek-ai--DeepSeek-R1-Distill-Qwen-32B_config.json": Planned("qwen2", 32_763_876_352, 262_144),
    "deepseek-ai--DeepSeek-V3_config.json": "auto_map",
    "meta-llama--Llama-2-13b-hf_config.json": Planned("llama", 13_015_864_320, 819_200),
    "meta-llama--Llama-2-70b-hf_config.json": Planned("llama", 68_976_648_192, 327_680),
    "meta-llama--Llama-2-7b-hf_config.json": Planned("llama", 6_738_415_616, 524_288),
    "meta-llama--Llama-3.2-1B-finetune_config.json": "quantization 'bitsandbytes'",
    "meta-llama--Meta-Llama-3.1-405B_config.json": Planned("llama", 405_853_388_800, 516_096),
    "meta-llama--Meta-Llama-3.1-70B_config.json": Planned("llama", 70_553_706_496, 327_680),
    "meta-llama--Meta-Llama-3.1-8B_config.json": Planned("llama", 8_030_261_248, 131_072),
    "microsoft--phi-1.5-mixformer_config.json": "auto_map",
    "mistralai--Mistral-7B-Instruct-v0.3_config.json": Planned("mistral", 7_248_023_552, 131_072),
    "mistralai--Mixtral-8x7B-v0.1_config.json": Planned("mixtral", 46_702_792_704, 131_072),
    "mlc--codellama_34b.json": Planned("llama", 33_744_232_448, 196_608),  # with 16 tokens more than the published one
    "mlc--codellama_7b.json": Planned("llama", 6_738_546_688, 524_288),
    "mlc--gemma2_9b.json": "architecture 'Gemma2ForCausalLM'",
    "mlc--gpt2.json": "architecture 'GPT2LMHeadModel'",
    "mlc--smollm2_135m.json": Planned("llama", 134_515_008, 23_040),
    "mlc--tinyllama_1b_chat_v1.0.json": Planned("llama", 1_100_048_384, 22_528),
    "nvidia--Llama-3.1-70B-Instruct-FP8_config.json": Planned("llama", 70_553_706_496, 327_680),  # alone; see BESIDE
    "openai--gpt-oss-20b_config.json": "quantization 'mxfp4'",
}
BESIDE = {  # a file that stands beside a config.json -> its name there
    "TheBloke--Wizard-Vicuna-30B-GPTQ_quantize_config.json": "quantize_config.json",
    "nvidia--Llama-3.1-70B-Instruct-FP8_hf_quant_config.json": "hf_quant_config.json",
}
ENTRIES = {  # config -> the name of the same weights in the table
    "Qwen--Qwen2.5-1.5B_config.json": "Qwen/Qwen2.5-1.5B",
    "Qwen--Qwen2.5-72B_config.json": "Qwen/Qwen2.5-72B",
    "Qwen--Qwen2.5-7B_config.json": "Qwen/Qwen2.5-7B",
    "Qwen--Qwen3-0.6B_config.json": "Qwen/Qwen3-0.6B",
    "Qwen--Qwen3-235B-A22B_config.json": "Qwen/Qwen3-235B-A22B",
    "Qwen--Qwen3-30B-A3B_config.json": "Qwen/Qwen3-30B-A3B",
    "Qwen--Qwen3-32B_config.json": "Qwen/Qwen3-32B",
    "Qwen--Qwen3-8B_config.json": "Qwen/Qwen3-8B",
    "deepseek-ai--DeepSeek-R1-Distill-Qwen-32B_config.json": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    "meta-llama--Llama-2-13b-hf_config.json": "meta-llama/Llama-2-13b-hf",
    "meta-llama--Llama-2-70b-hf_config.json": "meta-llama/Llama-2-70b-hf",
    "meta-llama--Llama-2-7b-hf_config.json": "meta-llama/Llama-2-7b-hf",
    "meta-llama--Meta-Llama-3.1-405B_config.json": "meta-llama/Meta-Llama-3.1-405B",
    "meta-llama--Meta-Llama-3.1-70B_config.json": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama--Meta-Llama-3.1-8B_config.json": "meta-llama/Meta-Llama-3.1-8B",
    "mistralai--Mistral-7B-Instruct-v0.3_config.json": "mistralai/Mistral-7B-Instruct-v0.3",
    "mistralai--Mixtral-8x7B-v0.1_config.json": "mistralai/Mixtral-8x7B-v0.1",
    "mlc--codellama_7b.json": "codellama/CodeLlama-7b-hf",
    "mlc--smollm2_135m.json": "HuggingFaceTB/SmolLM2-135M",
    "mlc--tinyllama_1b_chat_v1.0.json": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "nvidia--Llama-3.1-70B-Instruct-FP8_config.json": "meta-llama/Llama-3.1-70B-Instruct",
}
BF16 = Precision.of(resolve("bf16", "cpu"))


def planned(folder: Path) -> ModelSpec:
    """As a user names a folder."""
    return describe(config_of(find_model(str(folder))), BF16)


def published(name: str) -> PublishedModel:
    model = find_published(name)
    assert model is not None
    return model


@pytest.fixture
def configs(shared: Path) -> Path:
    return shared / "fixtures" / "configs"


def test_every_file_of_the_fixtures_has_an_expected_outcome(configs: Path) -> None:
    assert {file.name for file in configs.iterdir()} == EXPECTED.keys() | BESIDE.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_config_is_planned_or_refused_by_name(name: str, configs: Path, tmp_path: Path) -> None:
    shutil.copyfile(configs / name, tmp_path / "config.json")
    expected = EXPECTED[name]
    if isinstance(expected, Planned):
        spec = planned(tmp_path)
        assert Planned(spec.family, spec.num_parameters, spec.kv_bytes_per_token) == expected
        return
    with pytest.raises(UnsupportedError, match=expected) as refused:
        planned(tmp_path)
    assert len(str(refused.value).splitlines()) == 1 and refused.value.fix


@pytest.mark.parametrize("name", BESIDE)
def test_a_folder_whose_other_file_says_quantized_is_refused_by_its_name(
    name: str, configs: Path, tmp_path: Path
) -> None:
    repository = name.rpartition(f"_{BESIDE[name]}")[0]
    shutil.copyfile(configs / f"{repository}_config.json", tmp_path / "config.json")
    shutil.copyfile(configs / name, tmp_path / BESIDE[name])
    with pytest.raises(UnsupportedError, match=rf"{BESIDE[name]} beside config\.json .* quantized"):
        planned(tmp_path)


@pytest.mark.parametrize("name", BESIDE)
def test_such_a_file_alone_is_no_model(name: str, configs: Path, tmp_path: Path) -> None:
    shutil.copyfile(configs / name, tmp_path / "config.json")
    with pytest.raises(FarthingError, match="model_type is missing"):
        planned(tmp_path)


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if isinstance(expected, Planned)])
def test_a_config_that_names_no_kind_of_model_is_not_guessed(name: str, configs: Path) -> None:
    values = json.loads((configs / name).read_text())
    unnamed = {key: value for key, value in values.items() if key not in ("architectures", "model_type")}
    with pytest.raises(FarthingError, match="model_type is missing"):
        describe(ConfigReader(unnamed, name), BF16)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_table_says_what_the_published_config_says(name: str, configs: Path) -> None:
    file = json.loads((configs / name).read_text())
    table = published(ENTRIES[name]).config
    assert {key: file[key] for key in table} == dict(table)


def test_the_table_and_a_published_weight_index_agree_on_names_and_bytes(shared: Path) -> None:
    file = shared / "fixtures" / "weight-index" / "Mistral-7B-Instruct-v0.3.model.safetensors.index.json"
    index = json.loads(file.read_text())
    model = published("mistral-7b")
    spec = describe(ConfigReader(model.config, model.name), BF16)
    assert set(spec.stored_tensors()) == set(index["weight_map"])
    assert spec.weight_bytes == index["metadata"]["total_size"] == 2 * model.parameters

"""From files to a config and a description; everything that is wrong is one line that says what to do."""

import json
from pathlib import Path

import pytest

from farthing.errors import ConfigError, FarthingError, ModelNotFoundError, UnsupportedError
from farthing.models.auto import MAX_CONFIG_BYTES, describe, read_config, stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.quantization.base import resolve

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
FP32 = Precision.of(resolve("fp32", "cpu"))


def config_of(text: str | bytes, folder: Path) -> ConfigReader:
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(folder)


# --- config.json


def test_a_folder_without_config_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json does not exist"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        ('{"hidden_size": NaN}', "NaN"),
        ('{"rms_norm_eps": -Infinity}', "-Infinity"),
        ("[" * 100_000, "nests too deeply"),
        ('{"a":' * 100_000, "nests too deeply"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "not valid JSON"),
        (" " * (MAX_CONFIG_BYTES + 1), "larger than"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_object_is_one_line_that_says_why(text: str | bytes, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        config_of(text, tmp_path)
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel'"),
        ({"architectures": None, "model_type": "falcon"}, "falcon"),
        ({"architectures": None, "model_type": None}, "model_type"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"architectures": [1]}, "architectures"),
        ({"auto_map": {"AutoConfig": "evil.Config"}}, "auto_map.*never executes"),
        ({"quantization_config": {"quant_method": "awq"}}, "'awq'"),
        ({"quantization_config": {}}, "quantization"),
        ({"quantization_config": "int8"}, "quantization_config"),
    ],
    ids=str,
)
def test_a_model_that_farthing_does_not_run_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(FarthingError, match=named):
        describe(ConfigReader({**LLAMA, **change}, "config.json"), FP32)


def test_the_refusal_of_an_architecture_lists_those_there_are() -> None:
    every = "LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Qwen3Moe"
    with pytest.raises(UnsupportedError, match=every):
        describe(ConfigReader({**LLAMA, "architectures": ["MambaForCausalLM"]}, "config.json"), FP32)


def test_a_config_without_architectures_goes_by_its_model_type(tmp_path: Path) -> None:
    without = {key: value for key, value in LLAMA.items() if key != "architectures"}
    assert describe(config_of(json.dumps(without), tmp_path), FP32).family == "llama"


def test_the_first_architecture_that_there_is_counts() -> None:
    config = ConfigReader({**LLAMA, "architectures": ["MyLlamaForRanking", "LlamaForCausalLM"]}, "config.json")
    assert describe(config, FP32).family == "llama"


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
def test_a_file_that_says_the_weights_are_quantized_is_believed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedError, match=name):
        config_of(json.dumps(LLAMA), tmp_path)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "fp16"),
        ({"torch_dtype": "torch.bfloat16"}, "bf16"),
        ({"torch_dtype": "float32"}, "fp32"),
        ({"torch_dtype": "int8"}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_the_dtype_is_what_the_config_says(values: dict[str, object], dtype: str) -> None:
    assert stored_dtype(ConfigReader(values, "config.json")) == dtype

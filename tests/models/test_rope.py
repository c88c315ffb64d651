"""Rotary frequencies against those of transformers, for every scaling that Farthing computes."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from farthing.errors import FarthingError
from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import decoder_spec
from farthing.models.rope import Rope, RopeScaling, yarn_attention_factor
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve

SIZES = {
    "hidden_size": 512,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 16384,
}
LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
SCALINGS = {
    "llama 3.1": {**LLAMA3, "factor": 8.0, "rope_theta": 500000.0},
    "llama 3.2": {**LLAMA3, "factor": 32.0, "rope_theta": 500000.0},
    "llama3 narrow": {**LLAMA3, "factor": 3.5, "low_freq_factor": 2.0, "high_freq_factor": 2.5, "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0},
    "yarn": {**YARN, "rope_theta": 10000.0},
    "yarn qwen": {**YARN, "rope_theta": 1000000.0, "original_max_position_embeddings": 32768},
    "yarn betas": {**YARN, "rope_theta": 10000.0, "beta_fast": 16, "beta_slow": 2.0},
    "yarn equal betas": {**YARN, "rope_theta": 10000.0, "beta_fast": 8.0, "beta_slow": 8.0, "truncate": False},
    "yarn without truncation": {**YARN, "rope_theta": 150000.0, "truncate": False},
    "yarn mscale": {**YARN, "rope_theta": 10000.0, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0},
    "yarn mscale zero": {**YARN, "rope_theta": 10000.0, "mscale": 1.0, "mscale_all_dim": 0.0},
    "yarn attention factor": {**YARN, "rope_theta": 10000.0, "attention_factor": 1.37},
    "yarn below one": {**YARN, "rope_theta": 10000.0, "factor": 0.5},
}


def described(**config: object) -> ModelSpec:
    reader = ConfigReader({**SIZES, **config}, "config.json")
    return decoder_spec(reader, Precision.of(resolve("fp32", "cpu")), family="llama")


def theirs(parameters: dict[str, object]) -> tuple[list[float], float]:
    config = LlamaConfig(**SIZES, rope_parameters=parameters)
    frequencies, factor = ROPE_INIT_FUNCTIONS[str(parameters["rope_type"])](config, torch.device("cpu"))
    return frequencies.tolist(), factor


@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_and_attention_factor_are_those_of_transformers(name: str) -> None:
    expected, factor = theirs(SCALINGS[name])
    rope = described(rope_parameters=SCALINGS[name]).rope
    assert rope.frequencies() == pytest.approx(expected, rel=1e-6)
    assert rope.scaling.attention_factor == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("name", SCALINGS)
def test_the_older_spelling_means_the_same(name: str) -> None:
    scaling = dict(SCALINGS[name])
    theta = scaling.pop("rope_theta")
    expected = described(rope_parameters=SCALINGS[name]).rope
    assert described(rope_scaling=scaling, rope_theta=theta).rope == expected
    scaling["type"] = scaling.pop("rope_type")
    assert described(rope_scaling=scaling, rope_theta=theta).rope == expected


def test_without_scaling_each_pair_turns_slower_than_the_one_before() -> None:
    rope = described(rope_theta=10000.0).rope
    assert rope == Rope(128, 10000.0, RopeScaling())
    assert rope.frequencies() == pytest.approx([10000.0 ** (-pair / 64) for pair in range(64)], rel=1e-12)


def test_original_positions_may_stand_beside_the_scaling() -> None:
    inside = described(rope_scaling={**YARN, "original_max_position_embeddings": 2048})
    outside = {key: value for key, value in YARN.items() if key != "original_max_position_embeddings"}
    assert described(rope_scaling=outside, original_max_position_embeddings=2048).rope == inside.rope


def test_a_yarn_factor_that_is_missing_is_the_ratio_of_the_contexts() -> None:
    without = {key: value for key, value in YARN.items() if key != "factor"}
    assert described(rope_scaling=without).rope.scaling.factor == 16384 / 4096


def test_dynamic_is_plain_rope_with_the_reason_why_it_ends() -> None:
    spec = described(rope_scaling={"rope_type": "dynamic", "factor": 4.0})
    assert spec.rope == described().rope and spec.max_positions == 16384
    assert "longest sequence of the batch" in spec.max_positions_reason


def test_factors_are_the_name_of_a_tensor_in_the_checkpoint() -> None:
    rope = described(rope_scaling={"rope_type": "factors", "factors": "rope_freqs.weight"}).rope
    assert rope.scaling.factors_tensor == "rope_freqs.weight" and rope.frequencies() == described().rope.frequencies()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((4.0,), 0.1 * math.log(4) + 1),
        ((1.0,), 1.0),
        ((0.5,), 1.0),
        ((40.0, 0.707, 0.707), 1.0),
        ((40.0, 1.0, 0.5), (0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1)),
        ((40.0, 1.0, None), 0.1 * math.log(40) + 1),
        ((40.0, 0.0, 1.0), 0.1 * math.log(40) + 1),
    ],
)
def test_the_yarn_attention_factor_is_its_formula(arguments: tuple[float, ...], expected: float) -> None:
    assert yarn_attention_factor(*arguments) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rope_theta": 0.5}, "rope_theta"),
        ({"rope_theta": "10000"}, "rope_theta"),
        ({"rope_parameters": {"rope_theta": 1}}, "rope_parameters: rope_theta is 1"),
        ({"rope_scaling": []}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2.0}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e-300}}, "factor"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, "factor is missing"),
        ({"rope_scaling": {**LLAMA3}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
        ({"rope_scaling": {**LLAMA3, "factor": 8.0, "high_freq_factor": 1.0}}, "high_freq_factor"),
        ({"rope_scaling": {**YARN, "beta_fast": 1e-320}}, "beta_fast"),
        ({"rope_scaling": {**YARN, "beta_slow": float("inf")}}, "beta_slow"),
        ({"rope_scaling": {**YARN, "mscale": -30.0, "mscale_all_dim": 1.0}}, "mscale"),
        ({"rope_scaling": {**YARN, "attention_factor": 0}}, "attention_factor"),
        ({"rope_scaling": {**YARN, "truncate": 1}}, "truncate"),
        ({"rope_scaling": {"rope_type": 3}}, "rope_type"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "'longrope'"),
        ({"rope_scaling": {"rope_type": "mrope"}}, "'mrope'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"head_dim": 7}, "head_dim"),
    ],
    ids=str,
)
def test_positions_that_can_not_be_computed_are_refused_by_name(config: dict[str, object], named: str) -> None:
    with pytest.raises(FarthingError, match=named) as refused:
        described(**config)
    assert len(str(refused.value).splitlines()) == 1

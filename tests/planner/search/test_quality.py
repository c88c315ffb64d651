"""Scores of weight formats, and which engines run them: data with sources, unknown where there is none."""

import pytest

from farthing.errors import UsageError
from farthing.hardware.accelerator import load_accelerator
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.models.spec import Precision
from farthing.planner.search.quality import FULL, quality_of, scored
from farthing.planner.search.runs_with import abilities, check_engine, runs_with
from farthing.quantization.base import formats, resolve


def _precision(name, kv="auto"):
    return Precision.of(resolve(name, "cuda"), "bf16").with_kv_format(kv)


def _model(name, weight_format="bf16"):
    published = find_published(name)
    return describe(ConfigReader(published.config, published.name), _precision(weight_format))


def test_every_score_has_a_source_and_a_date():
    assert all(one.sources and one.date and set(one.formats) <= set(formats()) for one in scored())
    assert all(-0.2 < one.change < 0.01 for one in scored())


def test_sixteen_bits_lose_nothing():
    assert quality_of(_precision("bf16"), 7 * 10**9) is FULL


def test_a_model_lies_between_the_sizes_that_were_scored():
    seven, thirty, seventy = (quality_of(_precision("int4"), int(size * 1e9)) for size in (7.6, 32, 72.7))
    assert seven.worst == pytest.approx(64.1 / 66.9 - 1)
    assert seventy.worst == pytest.approx(80.4 / 81.3 - 1)
    assert (thirty.worst, thirty.best) == (seven.worst, seventy.worst)
    assert "Qwen2-7B-Instruct" in thirty.note and "qwen.readthedocs.io" in thirty.note


def test_what_nobody_scored_is_unknown_and_meets_no_floor():
    for unknown in (
        quality_of(_precision("int4"), 10**8),  # smaller than any
        quality_of(_precision("bf16", "fp8"), 7 * 10**9),
        quality_of(_precision("w4a8"), 7 * 10**9),
    ):
        assert unknown.text == "unknown" and not unknown.is_at_least(0.0)
    assert quality_of(_precision("fp8"), 8 * 10**9).is_at_least(0.99)


def test_engines_run_what_their_documents_say():
    part, dense, experts = load_accelerator("rtx-4090"), _model("llama-3.1-8b"), _model("qwen3-30b-a3b")
    assert runs_with(part, dense, 1, 1) == ("vllm", "sglang", "llama.cpp", "farthing")
    assert runs_with(part, dense, 2, 1) == ("vllm", "sglang")
    assert runs_with(part, dense, 1, 2) == ("vllm", "sglang", "llama.cpp")
    assert "farthing" not in runs_with(part, experts, 1, 1)
    assert "farthing" in runs_with(part, _model("llama-3.1-8b", "int4"), 1, 1)
    assert "farthing" not in runs_with(part, _model("llama-3.1-8b", "int4"), 2, 1)
    assert runs_with(load_accelerator("maia-100"), dense, 1, 1) == ()


def test_formats_of_engines_are_formats():
    assert all(one.formats <= set(formats()) for one in abilities())


def test_an_engine_that_is_not_known_is_refused():
    assert check_engine(" vLLM ") == "vllm"
    with pytest.raises(UsageError, match="tensorrt-llm"):
        check_engine("ollama")

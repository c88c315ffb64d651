"""What the plan line says of speed: a figure where there is a kernel, and that there is none where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.plan import EnginePlan, plan_engine
from farthing.engine.plan_line import plan_line, why_device
from farthing.hardware.calibration import BandwidthPoint, Calibration, GemmPoint

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


def plan_of(folder: Path, weight_format: str) -> EnginePlan:
    """On a machine of 1 MB/s, so slow that nothing else counts."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    plan = plan_engine(str(folder), EngineConfig(format=weight_format, weights="random", device="cpu", memory="90%"))
    calibration = Calibration(
        device=plan.key,
        date="2026-11-30T00:00:00Z",
        bandwidth=(BandwidthPoint(2**20, 1, "read", 1e6, 0.0),),
        gemm=(GemmPoint("fp32", 1, 64, 64, 1, 1e12, 0.0),),
        links=(),
        overhead_seconds_per_op=1e-9,
        process_bytes=2**20,
        device_context_bytes=0,
        records=True,
    )
    return replace(plan, calibration=calibration)


@pytest.mark.parametrize("weight_format", ["bf16", "int8", "int4"])
def test_a_format_with_kernels_has_a_figure_and_what_bounds_it(weight_format: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, weight_format)
    if plan.kernels.widens_quantized:
        pytest.skip("nothing can be compiled here")
    line = plan_line(plan)
    assert " tok/s (bandwidth-bound)" in line and "slow" not in line


def test_a_format_without_kernels_is_called_slow_and_keeps_room_for_the_widened_matrix(tmp_path: Path) -> None:
    wide, narrow = plan_of(tmp_path, "fp8"), plan_of(tmp_path, "fp32")
    assert "slow: no kernel for fp8 here" in plan_line(wide)
    assert wide.memory.activation_bytes > narrow.memory.activation_bytes


def test_a_format_with_kernels_keeps_no_room_for_a_widened_matrix(tmp_path: Path) -> None:
    packed, plain = plan_of(tmp_path, "int8"), plan_of(tmp_path, "fp32")
    if packed.kernels.widens_quantized:
        pytest.skip("nothing can be compiled here")
    assert packed.memory.activation_bytes == plain.memory.activation_bytes


def test_the_line_says_why_a_device_was_chosen() -> None:
    assert why_device("auto", "cuda", num_gpus=1, has_driver=True) == ", the GPU that is here"
    assert why_device("auto", "cuda", num_gpus=4, has_driver=True) == ", the freest of 4 GPUs"
    assert why_device("cuda:1", "cuda", num_gpus=4, has_driver=True) == ", as asked for"
    assert "torch reaches no GPU" in why_device("auto", "cpu", num_gpus=0, has_driver=True)
    assert why_device("cpu", "cpu", num_gpus=4, has_driver=True) == ""
    assert why_device("auto", "cpu", num_gpus=0, has_driver=False) == ""

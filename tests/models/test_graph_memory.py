"""What graphs of decodes and attention's partial sums keep on a GPU: it grows with sequences, context and KV pool, and
plan and engine agree on it."""

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.fit import engine_memory, resolve_sizes, resolve_spec
from farthing.engine.room import Room
from farthing.hardware.calibration import BandwidthPoint, Calibration, DeviceKey, GemmPoint
from farthing.models.auto import config_of
from farthing.models.graph_memory import (
    bucket_sizes,
    graph_bytes,
    history_bytes,
    num_histories,
    prompt_partial_bytes,
)
from farthing.models.memory import activation_peak_bytes
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec
from farthing.planner.layout import layouts, place
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device, calibrated_device

GIB, MIB = 2**30, 2**20
LLAMA = config_of(find_model("llama-3.1-8b"))
PART = 32 * (128 + 2) * 4  # heads of 128 values, with maximum and sum, in fp32


def spec_of(config: EngineConfig) -> tuple[ModelSpec, int]:
    return resolve_spec(LLAMA, config, "8b", kind="cuda", plain_dtype="bf16")


def bytes_of(max_num_seqs: int, max_model_len: int = 4096, pool_tokens: int = 2**40) -> int:
    spec, _ = spec_of(EngineConfig())
    limits = {"max_num_seqs": max_num_seqs, "max_model_len": max_model_len}
    return graph_bytes(spec, **limits, pool_tokens=pool_tokens, widens=False)


def prompt_bytes_of(
    max_num_seqs: int, max_batch_tokens: int, max_model_len: int = 4096, pool_tokens: int = 2**40
) -> int:
    spec, _ = spec_of(EngineConfig())
    limits = {"max_num_seqs": max_num_seqs, "max_batch_tokens": max_batch_tokens, "max_model_len": max_model_len}
    return prompt_partial_bytes(spec, **limits, pool_tokens=pool_tokens)


def here(*, records: bool) -> Device:
    key = DeviceKey("cuda", "NVIDIA H200", 16, "torch 2.11, CUDA 13.0, driver 580")
    calibration = Calibration(
        device=key,
        date="2026-11-30T00:00:00+00:00",
        bandwidth=(BandwidthPoint(GIB, 1, "dot", 4e12, 0.0),),
        gemm=(GemmPoint("fp32", 1, 2048, 2048, 1, 1e12, 0.0),),
        links=(),
        overhead_seconds_per_op=1e-6,
        process_bytes=MIB,
        device_context_bytes=500 * MIB,
        records=records,
    )
    return calibrated_device(calibration, memory_bytes=40 * GIB, accelerator=None)


def test_it_is_the_largest_step_of_decodes_with_workspace_and_calls() -> None:
    spec, _ = spec_of(EngineConfig())
    calls = (32 * 10 + 8) * 64 * 1024
    partials, results = 16 * PART, 4096 * 2 + 4 + 8
    step = activation_peak_bytes(spec, 1, 1, 0, widens=False) + partials + results
    assert bytes_of(1) == step + calls + 64 * MIB


@pytest.mark.parametrize("most", [1, 3, 16, 64, 256])
def test_it_grows_with_sequences_and_context(most: int) -> None:
    assert bytes_of(most) < bytes_of(most + 1) and bytes_of(most) < bytes_of(most, 32768)
    assert bytes_of(most) > len(bucket_sizes(most)) * MIB


def test_partial_sums_are_no_more_than_the_pool_has_chunks_and_one_for_each_row() -> None:
    """64 sequences of 131,072 positions have 512 chunks each; a pool of 100,000 positions has 390 in all."""
    whole, bound = bytes_of(64, 131072), bytes_of(64, 131072, pool_tokens=100_000)
    assert whole - bound == (64 * 512 - (390 + 64)) * PART
    assert bytes_of(64, 4096, pool_tokens=64 * 4096) == bytes_of(64, 4096), "a pool that holds all bounds nothing"


def test_a_step_with_prompts_keeps_partial_sums_of_up_to_8_rows_a_sequence() -> None:
    assert prompt_bytes_of(16, 512) == 8 * 16 * 16 * PART
    assert prompt_bytes_of(256, 1024) == 1024 * 16 * PART
    assert prompt_bytes_of(256, 1024, 131072, pool_tokens=100_000) == (390 + 1024) * PART


def test_partial_sums_of_prompts_stand_in_the_plan_in_place_of_gathered_keys() -> None:
    config = EngineConfig(max_num_seqs=64, max_batch_tokens=512)
    spec, context = spec_of(config)
    room = Room("cuda", 140 * GIB, 140 * GIB, 500 * MIB)
    memory = engine_memory(spec, context, config, room, widens=False, captures=True)
    partials = prompt_bytes_of(64, 512, pool_tokens=memory.budget_bytes // spec.kv_bytes_per_token)
    gathered = 2 * context * 8 * 128 * 4
    slow = engine_memory(spec, context, config, room, widens=False, captures=False)
    assert slow.activation_bytes == activation_peak_bytes(spec, 512, 64, context, widens=False)
    assert memory.activation_bytes == slow.activation_bytes - gathered + partials, "neither is below the MLP"


def test_histories_are_those_of_all_sequences_up_to_a_number() -> None:
    assert [num_histories(most) for most in (1, 16, 64, 65, 1000)] == [1, 16, 64, 64, 64]
    assert history_bytes(1000, 2) == 2 * (3 * 4 + 1000 * 9)
    assert history_bytes(152_000, 1000) == history_bytes(152_000, 64) < 84 * MIB


@pytest.mark.parametrize("weight_format", ["bf16", "int4"])
def test_a_measured_gpu_is_planned_as_its_engine_plans(weight_format: str) -> None:
    config = EngineConfig(format=weight_format, memory="40GiB")
    spec, context = spec_of(config)
    room = Room("cuda", 48 * GIB, 40 * GIB, 500 * MIB)
    config = resolve_sizes(config, spec, room, name="NVIDIA H200", calibration=None)
    engine = engine_memory(spec, context, config, room, widens=False, captures=True)
    for records, graphs in ((True, engine.graph_bytes), (False, 0)):
        device = here(records=records)
        sizes = config.sizes
        request = PlanRequest(max_num_seqs=sizes.max_num_seqs, max_batch_tokens=sizes.max_batch_tokens)
        layout = next(iter(layouts(spec, 1, request)))
        memory = place(layout, [device], request, context).ranks[0].memory
        assert memory.graph_bytes == graphs
        assert not records or memory == engine

"""Engine profiles: files that are their own registration, versions, and what no forecast under any of them may do."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import UnsupportedError, UsageError
from farthing.hardware.accelerator import Accelerator, accelerator_ids, load_accelerator
from farthing.models.auto import config_of, describe
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.planner.engines.engine_profile import engine_names, engine_of, find_engine
from farthing.planner.engines.engine_replica import replica_of
from farthing.planner.hardware import Hardware
from farthing.planner.layout import layouts, place
from farthing.planner.request import PlanRequest
from farthing.planner.speed import links_of, speed_of
from farthing.planner.timing.device import catalogue_device
from farthing.planner.timing.device_class import DEVICE_CLASSES, FORMAT_CLASSES, LINK_CLASSES, device_class, link_class
from farthing.planner.timing.forecast import HOST, forecast_step
from farthing.planner.timing.links import engine_link
from farthing.planner.timing.load_steps import StepUse
from farthing.planner.timing.step_work import step_work, work_seconds
from farthing.planner.validation.validate import ceiling_above, forecast_row
from farthing.quantization.base import resolve

CARDS = ("rtx-4090", "a100-80-sxm", "h100-sxm", "h200-sxm", "mi300x", "l40s", "gaudi2", "m2-ultra", "rtx-3090")
ENGINES = st.sampled_from(engine_names())


def spec_of(model: str = "llama-3.1-8b", form: str = "bf16") -> ModelSpec:
    return describe(config_of(find_model(model)), Precision.of(resolve(form, "cuda")))


def test_the_named_engines_are_there_and_their_files_are_their_registration():
    assert {"farthing", "vllm", "tensorrt-llm", "sglang", "llama.cpp", "gpt-fast", "generic"} <= set(engine_names())
    for name in engine_names():
        profile = find_engine(name)
        assert profile.name == name and profile.what
        assert profile.max_num_seqs >= 1 and profile.max_batch_tokens >= 1


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_has_constants_for_every_class(name: str):
    profile = find_engine(name)
    for device in DEVICE_CLASSES:
        for form in FORMAT_CLASSES:
            one = profile.efficiency(device, form)
            assert 0 < one.weights <= 1 and 0 < one.gemm <= 1
    for link in LINK_CLASSES:
        assert 0 < profile.link(link).share <= 1
    for figure in ("decode", "prefill", "tpot", "ttft", "batch", "saturated", "throughput", "e2e", "unheard of"):
        interval = profile.interval(figure)
        assert 0 < interval.low <= 1 <= interval.high


def test_an_engine_that_nobody_knows_is_a_mistake_that_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean vllm"):
        find_engine("vlm")
    with pytest.raises(UsageError, match=r"there are .*sglang"):
        find_engine("")


@pytest.mark.parametrize(
    ("name", "version", "profile"),
    [
        ("vLLM", "0.6.3/0.6.4-dev", "vllm-v0"),
        ("vLLM", "2024", "vllm-v0"),
        ("vLLM", "0.15.x (2026-02)", "vllm"),
        ("vLLM", "source build, 2025-05", "vllm"),
        ("vLLM", "", "vllm"),
        ("TensorRT-LLM", "v0.17", "tensorrt-llm-v0"),
        ("TensorRT-LLM", "1.0.0rc3", "tensorrt-llm"),
        ("gpt-fast (torch.compile)", "", "gpt-fast"),
        ("ExLlamaV2", "", "exllama"),
    ],
)
def test_the_version_that_a_table_names_decides_between_an_engine_s_profiles(name: str, version: str, profile: str):
    found, known = engine_of(name, version)
    assert known and found.name == profile


def test_an_engine_without_a_profile_gets_the_generic_one_and_a_wider_interval():
    found, known = engine_of("NobodysEngine", "1.0")
    assert not known and found.name == "generic"
    generic, own = found.interval("decode"), find_engine("llama.cpp").interval("decode")
    assert generic.low < own.low and generic.high > own.high


@pytest.mark.parametrize("id", accelerator_ids())
def test_every_entry_of_the_catalogue_has_a_class(id: str):
    accelerator = load_accelerator(id)
    assert device_class(accelerator) in DEVICE_CLASSES
    assert all(link_class(accelerator, count) in LINK_CLASSES for count in (2, 4, 8))


def test_links_are_classed_by_what_joins_so_many():
    assert link_class(load_accelerator("h100-sxm"), 8) == "nvlink"
    assert link_class(load_accelerator("a100-80-pcie"), 8) == "pcie"
    assert link_class(load_accelerator("rtx-4090"), 2) == "staged"
    assert link_class(load_accelerator("rtx-4090"), 2, p2p=True) == "pcie"
    assert link_class(load_accelerator("mi300x"), 8) == "mesh"


@pytest.mark.parametrize("name", ["vllm", "llama.cpp", "generic"])
@pytest.mark.parametrize("shape", [BatchShape.decode(700, 33), BatchShape.prefill(900, 2)])
def test_a_step_op_by_op_is_the_step_as_sums(name: str, shape: BatchShape):
    engine, accelerator = find_engine(name), load_accelerator("h100-sxm")
    replica = replica_of(spec_of(), [accelerator] * 2, 2, 1, engine)
    (stage,) = replica.stages
    device = catalogue_device(accelerator, accelerator.memory_bytes)
    step = forecast_step(stage.spec, shape, device, (engine_link(accelerator, 2, engine), None), engine)
    whole = work_seconds(step_work(stage.spec, shape), stage.speeds, stage.efficiency, stage.link, stage.send)
    assert step.seconds == pytest.approx(whole, rel=2e-3), "products of one step differ by their activations alone"
    assert sum(op.seconds for op in step.ops) == pytest.approx(step.seconds)
    assert step.ops[-1].name == HOST and step.ops[-1].seconds > 0


def test_a_placement_is_priced_under_an_engine_and_without_one_as_it_was():
    accelerator = load_accelerator("h100-sxm")
    device = catalogue_device(accelerator, accelerator.memory_bytes)
    hardware = Hardware("2x h100-sxm", (device,) * 2, (0, 0))
    request = PlanRequest(on="2x h100-sxm", tp=2, input_tokens=500, output_tokens=100, context=600)
    (layout,) = layouts(spec_of(), 2, request)
    placement = place(layout, hardware.devices, request, 600)
    plain, under = (speed_of(placement, hardware, request, 8, engine) for engine in (None, find_engine("vllm-v0")))
    assert under.decode.seconds > plain.decode.seconds, "a host's time is added, and shares are below the best"
    assert links_of(layout, hardware, request, 0, 0)[0].note.startswith("h100-sxm: all-reduce")
    assert "vllm-v0 reaches" in links_of(layout, hardware, request, 0, 0, find_engine("vllm-v0"))[0].note


def faster(accelerator: Accelerator, *, bandwidth: float = 1.0, rate: float = 1.0) -> Accelerator:
    assert accelerator.bandwidth is not None
    flops = {name: replace(figure, value=figure.value * rate) for name, figure in accelerator.flops.items()}
    wider = replace(accelerator.bandwidth, value=accelerator.bandwidth.value * bandwidth)
    return replace(accelerator, bandwidth=wider, flops=flops)


@settings(max_examples=60)
@given(
    ENGINES,
    st.sampled_from(CARDS),
    st.integers(1, 2048),
    st.integers(1, 600),
    st.integers(0, 20_000),
    st.floats(1.0, 5.0),
    st.sampled_from(["bf16", "w8a16", "w4a16"]),
)
def test_more_bandwidth_or_more_flops_is_never_slower(
    name: str, card: str, count: int, new: int, context: int, factor: float, form: str
):
    engine, accelerator, spec, use = (
        find_engine(name), load_accelerator(card), spec_of("llama-2-7b", form), StepUse(1.0, count, new, context)
    )  # fmt: skip
    plain, wide, quick = (
        replica_of(spec, [one], 1, 1, engine).seconds([use])
        for one in (accelerator, faster(accelerator, bandwidth=factor), faster(accelerator, rate=factor))
    )
    assert wide <= plain * (1 + 1e-12) and quick <= plain * (1 + 1e-12)


@settings(max_examples=60)
@given(ENGINES, st.sampled_from(CARDS), st.integers(1, 1500), st.integers(0, 20_000), st.integers(1, 500))
def test_a_larger_batch_never_decodes_fewer_tokens_a_second_nor_faster_steps(
    name: str, card: str, count: int, context: int, more: int
):
    replica = replica_of(spec_of(), [load_accelerator(card)], 1, 1, find_engine(name))
    few, many = (replica.seconds([StepUse(1.0, size, 1, context)]) for size in (count, count + more))
    assert few <= many * (1 + 1e-12)
    assert count / few <= (count + more) / many * (1 + 1e-12)


ROWS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["llama-2-7b", "llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "qwen2.5-0.5b"]),
        "gpu": st.sampled_from(CARDS),
        "num_gpus": st.sampled_from(["1", "2", "4", "8"]),
        "weight_dtype": st.sampled_from(["fp16", "bf16", "fp8", "int8", "q4_k_m", "q2_k", "exl2-3.0-bpw", "q8_0"]),
        "kv_dtype": st.sampled_from(["", "fp8"]),
        "engine": st.sampled_from(
            ["vLLM", "TensorRT-LLM", "SGLang", "llama.cpp", "gpt-fast", "TGI", "Deepspeed", "ExLlama", "another"]
        ),
        "scenario": st.sampled_from(["single-stream", "static batch", "fixed concurrency", "offline-saturated"]),
        "metric": st.sampled_from(
            ["decode_tok_s", "prefill_tok_s", "output_tok_s_total", "tpot_mean_ms", "ttft_ms", "batch_e2e_latency_s"]
        ),
        "input_len": st.integers(1, 20_000).map(str),
        "output_len": st.integers(1, 5_000).map(str),
        "batch_or_concurrency": st.integers(1, 3000).map(str),
    }
)


@settings(max_examples=300)
@given(ROWS)
def test_no_forecast_is_above_what_physics_allows(row: dict[str, str]):
    made = forecast_row(row)
    if made.predicted is None:
        assert made.reason
        return
    assert made.low is not None and made.high is not None and 0 < made.low <= made.predicted <= made.high
    assert ceiling_above(row | {"value": repr(made.predicted)}) is None


def test_a_rate_that_nobody_knows_is_refused():
    with pytest.raises(UnsupportedError, match="rate of a100-80-sxm in fp8"):
        replica_of(spec_of(form="fp8"), [load_accelerator("a100-80-sxm")], 1, 1, find_engine("vllm"))
    with pytest.raises(UnsupportedError, match="bandwidth"):
        replica_of(spec_of(), [load_accelerator("vm-2vcpu-generic")], 1, 1, find_engine("vllm"))

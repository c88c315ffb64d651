"""One configuration, answered: figures by hand, the engine's own memory plan, and no refusal without a reason."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_hardware import KV_BYTES_PER_TOKEN, figure, one_node, rental, round_accelerator, round_device, tiny_config

from farthing.errors import FarthingError, UnsupportedError, UsageError
from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.models.auto import config_of
from farthing.models.memory import plan_memory
from farthing.models.published_models import published_models
from farthing.models.reference import find_model
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.training.training_request import answer_training

GIB = 2**30


def plan_of(model: str, on: str, **asked: object) -> Plan:
    request = PlanRequest(on=on, **asked)
    return make_plan(model, config_of(find_model(model)), find_hardware(request), request)


def tiny_plan(*devices, **asked: object) -> Plan:
    return make_plan("tiny", tiny_config(), one_node(*devices), PlanRequest(**asked))


def test_13b_does_not_fit_a_4090_in_fp16_and_does_in_8_bits():
    """13,015,864,320 parameters in 16 bits are 24.24 GiB; the driver leaves 23.99."""
    wide = plan_of("llama-2-13b", "rtx-4090", format="fp16")
    memory = wide.placement.ranks[0].memory
    assert (memory.weights_bytes, memory.budget_bytes) == (2 * 13_015_864_320, 25_757_220_864)
    assert not wide.fits and wide.choices == ()
    narrow = plan_of("llama-2-13b", "rtx-4090", format="int8")
    assert narrow.fits and narrow.spec.precision.format.name == "w8a16"


def test_8b_decodes_at_what_the_memory_of_a_4090_delivers():
    """All weights but the embedding are read once a token: 15.0 GB at 0.905 of 1,008 GB/s are 16.5 ms, and launches."""
    plan = plan_of("llama-3.1-8b", "rtx-4090")
    read_seconds = 2 * (8_030_261_248 - 128_256 * 4096) / (0.905 * 1.008e12)
    launch_seconds = 32 * 9 * 3e-6  # norm, qkv, rope, attention, o, norm, gate and up, swiglu, down
    expected = read_seconds + launch_seconds
    assert plan.best.speed.decode.seconds == pytest.approx(expected, rel=0.02)
    assert plan.best.speed.decode.step.bound == "bandwidth"


def test_8b_computes_a_prompt_at_the_rate_of_a_4090():
    """2 FLOPs a weight and token (the head for one row), at 1.082 of 165.2 TFLOP/s; 10 % more for the rest."""
    plan = plan_of("llama-3.1-8b", "rtx-4090", input_tokens=2048)
    products = 2 * 2048 * (8_030_261_248 - 2 * 128_256 * 4096) / (1.082 * 165.2e12)
    assert products < plan.best.speed.prefill.seconds < 1.25 * products
    assert plan.best.speed.prefill.step.bound == "compute"


@pytest.mark.parametrize(
    ("model", "on", "weight_format"),
    [("llama-3.1-8b", "rtx-4090", "bf16"), ("llama-2-13b", "rtx-4090", "int8"), ("mixtral-8x7b", "h200-sxm", "bf16")],
)
def test_the_kv_tokens_of_one_device_are_those_of_the_one_memory_plan(model: str, on: str, weight_format: str):
    plan = plan_of(model, on, format=weight_format, max_num_seqs=32, context=2048)
    expected = plan_memory(
        plan.spec,
        budget_bytes=load_accelerator(on).memory_bytes,
        reserve_bytes=600 * 2**20,
        block_size=16,
        max_num_seqs=32,
        max_batch_tokens=2048,
        max_model_len=2048,
        widens=False,  # a card of the catalogue is planned with kernels for every format
    )
    assert plan.placement.kv_tokens == expected.kv_tokens > 0
    assert plan.placement.ranks[0].memory == expected


@settings(max_examples=30)
@given(st.integers(2**32, 2**37), st.integers(1, 2**36))
def test_more_memory_never_holds_fewer_tokens(memory_bytes: int, more: int):
    config = config_of(find_model("llama-3.2-1b"))
    tokens = []
    for size in (memory_bytes, memory_bytes + more):
        request = PlanRequest(on="mi300x", memory=str(size), format="bf16")
        tokens.append(make_plan("x", config, find_hardware(request), request).placement.kv_tokens)
    assert tokens[0] <= tokens[1]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "qwen3-0.6b"])
def test_a_narrower_format_never_has_more_weight_bytes_and_never_less_room(model: str):
    plans = [plan_of(model, "h200-sxm", format=name) for name in ("fp32", "bf16", "fp8", "int8", "int4")]
    weights = [plan.placement.ranks[0].memory.weights_bytes for plan in plans]
    rooms = [plan.placement.kv_tokens for plan in plans]
    assert weights == sorted(weights, reverse=True)
    assert rooms == sorted(rooms)


def test_auto_takes_the_widest_format_that_fits_and_tells_those_that_do_not():
    plan = plan_of("llama-3.1-70b", "h100-sxm")
    assert plan.fits and plan.spec.precision.format.name in ("fp8", "w8a16", "w4a16")
    assert plan.tried[0] == "bf16" and plan.spec.precision.format.name not in plan.tried
    assert plan_of("llama-3.1-8b", "h100-sxm").tried == ()


def test_the_first_choice_answers_a_request_soonest():
    plan = plan_of("llama-3.1-8b", "4x h100-sxm")
    seconds = [choice.speed.request_seconds for choice in plan.choices]
    assert len(seconds) > 3 and seconds == sorted(seconds)
    assert plan.placement is plan.best.placement


def test_where_nothing_fits_the_layout_that_lacks_least_is_shown():
    plan = plan_of("llama-2-70b", "5x rtx-4090", format="fp16")
    layout = plan.placement.layout
    assert not plan.fits and (layout.tp, layout.pp, layout.replicas) == (1, 5, 1)
    assert plan.placement.shortfall_bytes > 0 and plan.placement.kv_tokens == 0


def test_kv_bytes_per_token_are_the_models_own_where_ranks_repeat_heads():
    plan = tiny_plan(*[round_device()] * 4, tp=4)
    assert plan.spec.kv_bytes_per_token == KV_BYTES_PER_TOKEN
    assert sum(rank.memory.kv_bytes_per_token for rank in plan.placement.ranks) == 2 * KV_BYTES_PER_TOKEN


def test_requests_beyond_what_runs_at_a_time_wait_and_that_is_said():
    plan = plan_of("llama-3.1-8b", "rtx-4090", batch=1000)
    room = plan.placement.kv_tokens // (512 + 256)
    assert plan.best.speed.batch == plan.best.full.batch == room
    assert any(f"{room} run at a time" in note for note in plan.assumptions)


def test_every_assumption_is_said_once():
    plan = plan_of("llama-3.1-70b", "4x4090+4x3090", format="int4")
    assert len(set(plan.assumptions)) == len(plan.assumptions)
    for part in ("rtx-4090", "rtx-3090", "$/h"):
        assert any(part in note for note in plan.assumptions)


def test_devices_that_are_left_over_are_told():
    plan = plan_of("llama-3.1-8b", "8x rtx-4090", pp=5, replicas=1)
    assert len(plan.placement.ranks) == 5
    assert any("3 of 8 devices" in note for note in plan.assumptions)


@pytest.mark.parametrize(
    ("model", "on", "asked", "reason"),
    [
        ("mixtral-8x7b", "h200-sxm", {}, "mixtral-8x7b"),
        ("llama-3.1-8b", "2x rtx-4090", {}, "more than one device"),
        ("llama-3.1-8b", "tpu-v6e", {}, "tpu-v6e"),
        ("llama-3.1-8b", "rtx-3090", {"kv_format": "fp8"}, "kv-format fp8"),
        ("llama-3.1-8b", "epyc-9654", {"kv_format": "fp8", "memory": "256GiB"}, "kv-format fp8"),
    ],
)
def test_what_the_engine_does_not_run_is_only_planned_and_says_why(
    model: str, on: str, asked: dict[str, object], reason: str
):
    assert any(reason in one for one in plan_of(model, on, **asked).plan_only)


def test_what_the_engine_runs_is_not_marked():
    assert plan_of("llama-3.1-8b", "rtx-4090").plan_only == ()
    assert plan_of("llama-3.1-8b", "rtx-4090", kv_format="int8").plan_only == ()
    assert plan_of("llama-3.1-8b", "rtx-4090", kv_format="fp8").plan_only == ()


@pytest.mark.parametrize(
    ("on", "caution"), [("rtx-4090-48g", "warranty"), ("tpu-v6e", "not bought"), ("maia-100", "neither")]
)
def test_what_cannot_simply_be_bought_comes_with_a_caution(on: str, caution: str):
    assert any(on in one and caution in one for one in plan_of("llama-3.1-8b", on).cautions)
    assert plan_of("llama-3.1-8b", "rtx-4090").cautions == ()


def test_a_price_of_the_user_is_the_price_of_everything():
    plan = plan_of("llama-3.1-8b", "8x rtx-4090", price_per_hour=3.6)
    assert plan.price.dollars_per_hour == 3.6
    assert plan.price.per_million_tokens(1000) == pytest.approx(1.0)


def test_a_price_that_nobody_knows_is_unknown():
    device = round_device(accelerator=round_accelerator(rentals=(rental(1, market="estimate"),)))
    assert tiny_plan(device).price.dollars_per_hour is None


@pytest.mark.parametrize(
    "asked",
    [
        {"format": "int3"},
        {"kv_format": "int2"},
        {"tp": 3},
        {"pp": 9, "replicas": 1},
        {"replicas": 5},
        {"context": 10**6},
        {"input_tokens": 10**6},
        {"context": 100, "input_tokens": 100},
    ],
)
def test_a_request_that_makes_no_sense_is_one_line_with_a_fix(asked: dict[str, object]):
    with pytest.raises(FarthingError) as refused:
        plan_of("llama-3.1-8b", "4x rtx-4090", **asked)
    assert isinstance(refused.value, UsageError | UnsupportedError)
    assert refused.value.fix and "\n" not in str(refused.value)


@pytest.mark.parametrize("changes", [{"num_attention_heads": 0}, {"num_hidden_layers": 0}, {"hidden_size": -4096}])
def test_a_model_that_cannot_be_names_the_key(changes: dict[str, object]):
    with pytest.raises(FarthingError, match=next(iter(changes))):
        make_plan("x", tiny_config(**changes), one_node(round_device()), PlanRequest())


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("id", accelerator_ids())
def test_every_entry_of_the_catalogue_is_planned_or_refused_by_name(id: str, count: int):
    memory = "auto" if load_accelerator(id).memory_bytes else "64GiB"
    try:
        plan = plan_of("qwen2.5-0.5b", f"{count}x {id}", memory=memory)
    except UnsupportedError as error:
        assert id in str(error)
    else:
        assert plan.fits and (plan.untimed or plan.best.speed.decode.tokens_per_second > 0)
        assert plan.untimed is None or id in plan.untimed
        assert len(plan.placement.ranks) == count


@pytest.mark.parametrize("model", sorted(published_models()))
def test_every_published_model_is_planned(model: str):
    plan = plan_of(model, "mi300x", input_tokens=100, output_tokens=100, context=1024)
    assert plan.fits == bool(plan.choices)
    assert plan.fits or plan.would_fit


def test_whether_a_model_can_be_trained_is_answered_from_the_same_description():
    config = config_of(find_model("llama-2-70b"))
    assert not answer_training("llama-2-70b", config, find_hardware(PlanRequest(on="8x rtx-4090"))).fits
    small = config_of(find_model("qwen2.5-0.5b"))
    assert answer_training("qwen2.5-0.5b", small, find_hardware(PlanRequest(on="h200-sxm"))).fits


def test_the_same_question_has_the_same_answer():
    first, second = (plan_of("llama-3.1-70b", "4x rtx-4090", batch=8) for _ in range(2))
    assert replace(first, spec=second.spec) == second


def test_a_card_of_twice_the_bandwidth_decodes_nearly_twice_as_fast():
    speeds = []
    for bandwidth in (1e12, 2e12):
        accelerator = round_accelerator(bandwidth=figure(bandwidth), usable_bytes=figure(48 * GIB))
        device = round_device(memory_bytes=48 * GIB, bandwidth=bandwidth, accelerator=accelerator)
        config = config_of(find_model("llama-3.1-8b"))
        plan = make_plan("x", config, one_node(device), PlanRequest())
        speeds.append(plan.best.speed.decode.tokens_per_second)
    assert speeds[1] == pytest.approx(2 * speeds[0])


def test_both_maths_of_a_plan_are_told():
    notes = "\n".join(plan_of("llama-3.1-8b", "rtx-4090", format="fp8").assumptions)
    assert "dense fp8" in notes and "dense bf16" in notes


def test_the_links_of_every_kind_of_replica_are_told():
    plan = plan_of("llama-3.1-8b", "2x4090+2x3090", tp=2, replicas=2)
    assert any(note.startswith("rtx-3090: pcie4x16") for note in plan.assumptions)


def test_a_cap_on_sequences_is_told_where_it_ends_the_pool():
    capped, free = (plan_of("qwen2.5-0.5b", "h200-sxm", max_num_seqs=n, max_batch_tokens=4096) for n in (1, 4096))
    assert any("--max-num-seqs 1 " in note for note in capped.assumptions)
    assert not any("--max-num-seqs" in note for note in free.assumptions)


def test_figures_that_no_maker_printed_are_cautioned():
    assert any(
        "memory bandwidth" in caution and "third party" in caution for caution in plan_of("llama-3.2-1b", "t4").cautions
    )
    assert any(
        "cannot" in caution or "neither bought nor rented" in caution
        for caution in plan_of("llama-3.2-1b", "maia-100").cautions
    )
    assert any("2 devices" in caution for caution in plan_of("llama-3.2-1b", "mi250x").cautions)


def test_the_format_that_is_shown_is_not_among_those_that_were_tried():
    plan = plan_of("llama-3.1-405b", "rtx-4090")
    assert not plan.fits and plan.spec.precision.format.name not in plan.tried

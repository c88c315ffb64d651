"""How long training takes, what links carry meanwhile, and what it costs."""

import json
import math

import pytest

from farthing.errors import UsageError
from farthing.models.auto import config_of, describe
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.models.training import TrainingSetup
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.request import PlanRequest
from farthing.planner.training.training import to_json_object, to_lines
from farthing.planner.training.training_answer import TrainingAnswer
from farthing.planner.training.training_request import TrainingRequest, answer_training
from farthing.planner.training.training_time import TrainingTime, links_by_way, training_time
from farthing.quantization.base import resolve


def published(name: str) -> ModelSpec:
    return describe(config_of(find_model(name)), Precision.of(resolve("bf16", "cuda")))


def on(name: str) -> Hardware:
    return find_hardware(PlanRequest(on=name))


def timed(model: str, hardware: str, setup: TrainingSetup, **options: object) -> TrainingTime:
    found = training_time(published(model), setup, on(hardware), **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def asked(model: str, hardware: str, request: TrainingRequest | None = None, **options: object) -> TrainingAnswer:
    return answer_training(model, config_of(find_model(model)), on(hardware), request, **options)  # type: ignore[arg-type]


def test_llama_3_70b_takes_about_the_hours_that_meta_says() -> None:
    """Model card: 6.4 M H100 hours for 15 T tokens of Llama 3 70B; 1.3 M for 8B, which read less of the peak."""
    setup = TrainingSetup(data_parallel=256, zero_stage=3)
    hours = timed("llama-3-70b", "32x8xh100-sxm", setup, tokens=15 * 10**12, network=400e9).device_hours
    assert hours == pytest.approx(6.4e6, rel=0.35)


def test_six_times_parameters_times_tokens() -> None:
    made = timed("llama-2-70b", "8xh100-sxm", TrainingSetup(data_parallel=8), tokens=10**9, mfu=0.5)
    assert made.flops == 6 * 68_976_648_192 * 10**9
    assert made.compute_seconds == pytest.approx(made.flops / (8 * 989.4e12 * 0.5))
    assert timed("llama-2-70b", "h100-sxm", TrainingSetup()).tokens == 20 * 68_976_648_192


def test_adapters_take_four_passes_and_recomputation_two_more() -> None:
    full = timed("llama-3.1-8b", "h100-sxm", TrainingSetup())
    adapters = timed("llama-3.1-8b", "h100-sxm", TrainingSetup(lora_rank=16))
    again = timed("llama-3.1-8b", "h100-sxm", TrainingSetup(recompute="full"))
    assert (full.passes, adapters.passes) == (6, 4)
    assert adapters.compute_seconds == pytest.approx(full.compute_seconds * 4 / 6)
    assert again.compute_seconds == pytest.approx(full.compute_seconds * 8 / 6)


def test_experts_that_a_token_does_not_see_cost_it_nothing() -> None:
    made = timed("mixtral-8x7b", "8xh100-sxm", TrainingSetup(data_parallel=8))
    assert made.num_parameters == published("mixtral-8x7b").num_active_parameters < 13.5e9


def test_a_gradient_goes_round_once_a_step_by_hand() -> None:
    """8 ranks at 360 GB/s: 2 x 7/8 x 2 B x parameters, once in 4 M tokens."""
    setup = TrainingSetup(data_parallel=8)
    made = timed("llama-3.1-8b", "8xh100-sxm", setup, tokens=4 * 10**6)
    parameters = published("llama-3.1-8b").num_parameters
    assert made.link_seconds["gradients"] == pytest.approx(2 * 7 / 8 * 2 * parameters / 360e9, rel=1e-3)


def test_tensor_parallel_8_4090_wait_for_their_links_and_8_h100_do_not() -> None:
    """The article of 2023 puts the limit at 2.4 cards for the 4090 and 11 for the H100 (facts/hardware.md 3.1)."""
    setup = TrainingSetup()
    slow = links_by_way(published("llama-2-70b"), setup, on("8x4090"))
    fast = links_by_way(published("llama-2-70b"), setup, on("8xh100-sxm"))
    assert slow["tensor parallel 8"] > 1 > fast["tensor parallel 8"]
    assert slow["ZeRO 3 over 8"] > 1 > fast["ZeRO 3 over 8"]
    assert slow["pipeline 8"] < 0.1


def test_a_faster_link_or_a_higher_mfu_is_never_slower() -> None:
    setup = TrainingSetup(data_parallel=16, zero_stage=3)
    times = [timed("llama-2-7b", "2x8x4090", setup, network=rate).seconds for rate in (1e9, 1e10, 1e11)]
    assert times == sorted(times, reverse=True)
    inside = TrainingSetup(data_parallel=8, zero_stage=3)
    assert timed("llama-2-7b", "8x4090", inside).seconds >= timed("llama-2-7b", "8x4090", inside, p2p=True).seconds
    assert (
        timed("llama-2-7b", "4090", TrainingSetup(), mfu=0.5).seconds
        < timed("llama-2-7b", "4090", TrainingSetup(), mfu=0.3).seconds
    )


def test_an_unknown_rate_has_no_time_and_the_memory_is_still_told() -> None:
    assert training_time(published("llama-2-7b"), TrainingSetup(), on("5090d-v2")) is None
    made = asked("llama-2-7b", "5090d-v2")
    assert made.time is None and "not asked here" in "\n".join(to_lines(made))


def test_why_a_4090_can_not_train_70b_in_one_answer() -> None:
    made = asked("llama-2-70b", "8x4090", dollars_per_hour=3.8)
    text = "\n".join(to_lines(made))
    assert made.outcome == "GPU OOM"
    for part in ("does not fit 8x rtx-4090", "5.4x too little", "even if it fitted", "tensor parallel 8 2.6x", "years"):
        assert part in text
    assert made.time is not None and made.time.dollars == pytest.approx(made.time.seconds / 3600 * 3.8)
    document = json.loads(json.dumps(to_json_object(made)))
    assert document["outcome"] == "GPU OOM" and document["time"]["link_to_compute_ratio_by_way"]["pipeline 8"] < 0.1


def test_of_the_ways_that_fit_the_fastest_is_taken() -> None:
    made = asked("llama-3.1-8b", "2x8xa100-80-sxm", TrainingRequest(tokens="1T"))
    assert made.fits and made.time is not None
    slow = timed("llama-3.1-8b", "2x8xa100-80-sxm", TrainingSetup(data_parallel=16, zero_stage=3), tokens=10**12)
    assert made.time.seconds < slow.seconds


def test_a_request_says_tokens_as_people_do() -> None:
    assert TrainingRequest(tokens="1.4T").num_tokens() == 1_400_000_000_000
    assert TrainingRequest(tokens="300B").num_tokens() == TrainingRequest(tokens="300g").num_tokens() == 3 * 10**11
    assert TrainingRequest(tokens="5,000,000").num_tokens() == 5_000_000
    assert TrainingRequest(host_memory="512GiB").host_bytes(2) == 2**40
    assert asked("llama-3.1-8b", "4090", TrainingRequest(method="qlora")).attempt.setup.frozen_format == "int4"


@pytest.mark.parametrize(
    "flags",
    [
        {"tokens": "0"},
        {"tokens": "-5T"},
        {"tokens": "nan"},
        {"tokens": "many"},
        {"method": "magic"},
        {"sequence": 0},
        {"micro_batch": -1},
        {"host_memory": "big"},
        {"mfu": 0.0},
        {"mfu": 1.5},
        {"mfu": math.nan},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TrainingRequest(**flags)  # type: ignore[arg-type]

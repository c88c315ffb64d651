"""From the columns of a measured row to its forecast: what is read, what is refused, and how loads are answered."""

from pathlib import Path

import pytest

from farthing.planner.engines.engine_profile import find_engine
from farthing.planner.validation.measured_row import SkippedRowError, devices_of, is_known, setting_of
from farthing.planner.validation.row_forecast import forecast, recipe_of, tail_of
from farthing.planner.validation.validate import forecast_row, read_table, score, skipped

ROW = {
    "model": "Llama-3.1-8B", "gpu": "H100-SXM", "num_gpus": "1", "tp": "1", "pp": "1", "weight_dtype": "fp16",
    "engine": "vLLM", "engine_version": "0.19", "scenario": "fixed concurrency", "metric": "tpot_mean_ms",
    "unit": "ms", "input_len": "1000", "output_len": "200", "batch_or_concurrency": "16", "value": "9",
}  # fmt: skip


def predicted(**changes: str) -> float:
    made = forecast_row(ROW | changes)
    assert made.predicted is not None, made.reason
    return made.predicted


@pytest.mark.parametrize(
    ("gpu", "ids"),
    [
        ("A100-40GB", ["a100-40-sxm"]),
        ("A100-SXM-80GB (power-limited 330W)", ["a100-80-sxm"]),
        ("RTX PRO 6000 Blackwell", ["rtx-pro-6000-server"]),
        ("GH200 (480GB LPDDR class)", ["gh200-96"]),
        ("Apple M2 Ultra 76-Core GPU", ["m2-ultra"]),
        ("RTX 4090 + RTX 3090", ["rtx-4090", "rtx-3090"]),
    ],
)
def test_hardware_of_tables_is_found_in_the_catalogue(gpu: str, ids: list[str]):
    assert [device.id for device in devices_of(gpu.lower(), str(len(ids)))] == ids


@pytest.mark.parametrize("gpu", ["MI250", "Max 1550", "RTX 9999", "", "RTX 4090 + RTX 9999"])
def test_hardware_that_the_catalogue_does_not_have_is_no_other_part(gpu: str):
    with pytest.raises(SkippedRowError, match="catalogue"):
        devices_of(gpu.lower(), "1")


def test_one_die_is_half_of_a_part_that_has_two():
    (whole,), (half,) = devices_of("mi250x", "1"), devices_of("mi250x (one gcd)", "1")
    assert half.bandwidth.value == whole.bandwidth.value / 2 and half.memory_bytes == whole.memory_bytes // 2


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("q4_k_m", 4.9),
        ("exl2-2.5-bpw", 2.5),
        ("exl2-4.0-bpw", 4.0),
        ("gptq-4bit-g128", 4.25),
        ("q8_0", 8.5),
        ("fp8", 8),
    ],
)
def test_the_description_reads_as_many_bits_a_weight_as_the_format_has(dtype: str, bits: float):
    layer = setting_of(ROW | {"weight_dtype": dtype}).spec.layers[0]
    up = layer.mlp.up_proj
    stored = up.format.nbytes(up.out_features, up.in_features) * 8 / (up.out_features * up.in_features)
    assert stored == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"gpu": "RTX 9999"}, "hardware"),
        ({"model": "OPT-6.7B"}, "a model"),
        ({"weight_dtype": "secret"}, "weight format"),
        ({"metric": "gpu_power_avg_w"}, "metric"),
        ({"scenario": "CPU+GPU offload ngl=10"}, "host memory"),
        ({"scenario": "by moonlight"}, "scenario"),
        ({"tp": "3"}, "tp x pp"),
        ({"num_gpus": "-1"}, "num_gpus"),
        ({"num_gpus": "1e9"}, "num_gpus"),
        ({"input_len": "long"}, "input_len"),
        ({"batch_or_concurrency": ""}, "batch"),
        ({"output_len": ""}, "answers"),
        ({"unit": "fortnights"}, "unit"),
        ({"model": "Llama-3.1-405B"}, "does not fit"),
        ({"scenario": "server request-rate"}, "request_rate"),
    ],
)
def test_a_row_without_a_forecast_says_why(changed: dict[str, str], reason: str):
    made = forecast_row(ROW | changed)
    assert made.predicted is None and reason in made.reason
    assert not made.is_scored
    assert list(skipped([made])) == [made.reason]


def test_a_row_is_known_by_model_hardware_and_engine_whatever_it_measures():
    assert is_known(ROW | {"metric": "gpu_power_avg_w"})
    for changed in ({"gpu": "RTX 9999"}, {"model": "OPT-6.7B"}, {"engine": "another"}):
        assert not is_known(ROW | changed)


def test_the_value_plays_no_part_in_the_forecast():
    assert predicted(value="1") == predicted(value="") == predicted(value="nan")


def test_more_requests_at_a_time_take_longer_for_a_token_and_give_more_of_them():
    few, many = predicted(), predicted(batch_or_concurrency="64")
    assert few < many
    rates = [predicted(metric="output_tok_s_total", unit="tok/s", batch_or_concurrency=batch) for batch in ("16", "64")]
    assert rates[0] < rates[1] < 4 * rates[0]


def test_a_full_pool_bounds_a_saturated_server():
    saturated = {"scenario": "offline-saturated", "metric": "output_tok_s_total", "unit": "tok/s"}
    saturated |= {"batch_or_concurrency": "", "input_len": "4000", "output_len": "1000"}
    small, large = predicted(**saturated, gpu="A100-40GB"), predicted(**saturated, gpu="A100-SXM-80GB")
    assert small * 1.3 < large, "a third more bandwidth, and several times the room for sequences"


def test_requests_at_a_rate_obey_little_s_law():
    at_rate = {"scenario": "server constant-rate", "request_rate": "2"}
    slow, fast = predicted(**at_rate), predicted(**(at_rate | {"request_rate": "20"}))
    assert slow < fast
    given = predicted(**at_rate, metric="output_tok_s_total", unit="tok/s")
    assert given == pytest.approx(2 * 200), "what comes in goes out"
    setting = setting_of(ROW | at_rate)
    turn = forecast(recipe_of(setting)) * 200
    running = 2 * turn
    assert 1 <= running < 16
    assert predicted(batch_or_concurrency=str(max(1, round(running)))) == pytest.approx(slow * 1000 / 1000, rel=0.15)


def test_a_server_that_is_asked_for_more_than_it_gives_keeps_its_requests_waiting():
    over = {"scenario": "server constant-rate", "request_rate": "500"}
    throughput = predicted(**over, metric="output_tok_s_total", unit="tok/s")
    assert throughput < 500 * 200
    first, longer = (
        predicted(**over, metric="ttft_mean_ms") if run is None else
        predicted(**(over | {"scenario": f"server trace replay ({run} requests)"}), metric="ttft_mean_ms")
        for run in (None, 5000)
    )  # fmt: skip
    assert 1000 < first < longer, "waits grow with the run"


def test_the_ninety_ninth_of_a_hundred_is_later_than_the_mean():
    assert predicted(metric="ttft_p99_ms") == pytest.approx(predicted(metric="ttft_mean_ms") * tail_of("ttft_p99_ms"))
    assert tail_of("tpot_p50_ms") == tail_of("decode_tok_s") == 1


def test_a_pipeline_of_one_stream_passes_every_stage():
    single = ROW | {"scenario": "single-stream", "metric": "decode_tok_s", "unit": "tok/s", "batch_or_concurrency": "1"}
    row = {"gpu": "RTX 4090", "model": "Llama-3-70B", "weight_dtype": "q4_k_m", "engine": "llama.cpp", "tp": "1"}
    two, four = (predicted(**(single | row | {"num_gpus": count, "pp": count})) for count in ("2", "4"))
    assert 0.9 * two < four < two


def test_cores_of_a_chip_share_its_figures():
    neuron = {
        "gpu": "Inferentia2",
        "num_gpus": "12",
        "tp": "24",
        "engine": "Transformers NeuronX",
        "weight_dtype": "bf16",
    }
    assert predicted(**neuron, scenario="static batch", batch_or_concurrency="1") > 1


def test_the_engine_s_limits_are_those_of_its_version():
    assert setting_of(ROW).engine is find_engine("vllm")
    assert setting_of(ROW | {"engine_version": "0.6.4"}).engine is find_engine("vllm-v0")


def test_the_score_is_of_medians_and_the_ninth_decile():
    exact = predicted()
    rows = [forecast_row(ROW | {"value": repr(exact / factor)}) for factor in range(1, 11)]
    found = score(rows)
    assert found is not None
    assert found.median_error == pytest.approx(4.5) and found.p90_error == pytest.approx(8)
    assert found.signed_error == pytest.approx(4.5)
    assert 0 < found.inside < 0.5
    assert score([]) is None


def test_the_rows_that_others_published_are_covered_and_near(shared: Path):
    _, table = read_table(shared / "data" / "measured_calibration.csv")
    rows = [forecast_row(row) for row in table]
    known = [one for one in rows if one.is_known]
    assert sum(one.predicted is not None for one in rows) >= 0.75 * len(rows)
    assert sum(one.predicted is not None for one in known) >= 0.95 * len(known)
    found = score([one for one in rows if one.is_scored and one.engine_known])
    assert found is not None
    assert found.median_error < 0.12 and 0.7 <= found.inside <= 0.9
    assert not [one.row["id"] for one in rows if one.ceiling is not None], "no published row is impossible"

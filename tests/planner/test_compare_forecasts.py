"""Forecasts beside published measurements: which rows are compared, how, and the page that tells the errors."""

import importlib
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
script = importlib.import_module("compare_forecasts")
rows = importlib.import_module("forecasts.rows")
tables = importlib.import_module("forecasts.tables")
sys.path.remove(str(REPOSITORY / "scripts"))

ROW = {
    "id": "made-up-0001", "model": "Llama-3-8B", "weight_dtype": "f16", "kv_dtype": "fp16", "gpu": "RTX 4090",
    "num_gpus": "1", "tp": "1", "pp": "1", "engine": "an engine", "scenario": "single-stream", "metric": "decode_tok_s",
    "input_len": "0", "output_len": "512", "batch_or_concurrency": "1", "value": "50", "quality": "published",
}  # fmt: skip


def test_the_page_is_what_the_script_writes_and_its_head_what_it_prints(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, page = tmp_path / "forecasts.md", (REPOSITORY / "benchmarks" / "forecasts.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["compare_forecasts", "--data", str(shared / "data"), "--output", str(written)])
    script.main()
    assert capsys.readouterr().out.strip() in page
    assert written.read_text(encoding="utf-8").splitlines()[3:] == page.splitlines()[3:], "all but the date"
    named = [row["id"] for row in script.read_rows(shared / "data") if row["id"] in page]
    assert len(named) == tables.NUM_WORST, "the rows are other people's: only those furthest off are named"


def test_a_row_is_off_by_what_its_measurement_lies_above_or_below_the_forecast() -> None:
    (made,) = rows.outcomes_of(ROW)
    assert made.metric == rows.DECODE and made.on == "rtx-4090"
    (exact,) = rows.outcomes_of(ROW | {"value": str(made.forecast)})
    (double,) = rows.outcomes_of(ROW | {"value": str(made.forecast * 2)})
    assert (exact.ratio, exact.error) == (pytest.approx(1), pytest.approx(0))
    assert (double.ratio, double.error) == (0.5, 0.5)


def test_times_are_compared_as_speeds() -> None:
    batch = ROW | {"scenario": "static batch", "input_len": "128", "output_len": "128", "batch_or_concurrency": "4"}
    step, request = rows.outcomes_of(batch | {"metric": "tpot_mean_ms", "value": "25"})
    assert step.measured == request.measured == 40, "25 ms a token are 40 tokens/s of a stream"
    assert step.forecast > request.forecast, "a request's time holds the prompts, too"
    (latency,) = rows.outcomes_of(batch | {"metric": "batch_e2e_latency_s", "value": "8"})
    assert latency.measured == 64, "4 answers of 128 tokens in 8 s"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"gpu": "Max 1550"}, "hardware"),
        ({"model": "OPT-6.7B"}, "a model"),
        ({"weight_dtype": "q2_k"}, "bits per weight"),
        ({"tp": "2"}, "ranks are not devices"),
        ({"metric": "gpu_power_avg_w"}, "another metric"),
        ({"metric": "tpot_mean_ms", "scenario": "server request-rate"}, "at a rate"),
        ({"model": "Llama-3-70B"}, "does not fit"),
        ({"quality": "suspect"}, "suspect"),
    ],
)
def test_a_row_that_is_not_compared_is_counted_with_its_reason(changed: dict[str, str], reason: str) -> None:
    outcomes, left_out = rows.compare([ROW | changed])
    assert not outcomes
    assert [(reason in text, len(alike)) for text, alike in left_out.items()] == [(True, 1)]


def test_the_error_is_told_by_its_median_its_ninth_decile_and_the_median_ratio() -> None:
    (made,) = rows.outcomes_of(ROW)
    outcomes = [
        outcome for factor in range(1, 12) for outcome in rows.outcomes_of(ROW | {"value": str(made.forecast / factor)})
    ]
    assert tables.summary(outcomes) == "11 | 500% | 900% | 6.00"

"""The fit: constants that were planted are found again, priors hold where there is nothing, the file says it all."""

import importlib
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
columns = importlib.import_module("forecasts.columns")
fitting = importlib.import_module("forecasts.fitting")
script = importlib.import_module("fit_forecasts")
sys.path.remove(str(REPOSITORY / "scripts"))

ROW = {
    "id": "x", "source": "made up", "model": "llama-3.1-8b", "gpu": "h100-sxm", "num_gpus": "1", "weight_dtype": "fp16",
    "engine": "vllm", "engine_version": "0.19", "scenario": "static batch", "metric": "batch_e2e_latency_s",
    "unit": "s", "input_len": "128", "output_len": "128", "batch_or_concurrency": "1", "value": "1", "quality": "",
}  # fmt: skip
SETTINGS = [
    {"batch_or_concurrency": batch, "input_len": length, "output_len": length, "model": model, "gpu": gpu}
    for batch in ("1", "16", "256")
    for length in ("128", "2048")
    for model in ("llama-3.1-8b", "llama-2-7b")
    for gpu in ("h100-sxm", "a100-80-sxm")
]


def planted(**changes: float) -> list:
    """Rows whose values are those of an engine with other constants than the fit starts with."""
    start = fitting.START
    truth = {"engines": {"generic": {**start, "base": {**start["base"], **changes}}}}
    rows = columns.measured([ROW | setting for setting in SETTINGS])
    found = fitting.predictions(rows, truth)
    assert len(found) == len(SETTINGS)
    return columns.measured([one.row | {"value": repr(value)} for one, value, _ in found])


def test_constants_that_were_planted_are_found_again():
    rows = planted(weights=0.6, step_seconds=5e-3)
    fitted = fitting.fit_all(rows)
    errors = sorted(abs(value / one.value - 1) for one, value, _ in fitting.predictions(rows, fitted))
    assert errors[len(errors) // 2] < 0.03 and errors[-1] < 0.15
    base = fitted["engines"]["vllm"]["base"]
    assert 2e-3 < base["step_seconds"] < 1.2e-2, "it began at 1 ms"
    assert fitted["engines"]["vllm"]["rows"] == len(rows)


def test_the_same_rows_give_the_same_file_and_it_can_be_read():
    texts = []
    for _ in range(2):
        rows = planted(weights=0.7)
        fitted = fitting.fit_all(rows)
        fitted["left_out"] = {"made up": {"batch": [0.1, 0.2]}}
        fitted["operators"] = {
            "rows": 1, "median_error": 0.1, "base": {"weights": 0.9}, "classes": {}, "measured_links": ["nvlink"],
            "links": {"nvlink": {"share": 0.5, "seconds": 1e-6}}, "errors": {"product, hopper": (1, 0.1, 0.2)},
        }  # fmt: skip
        texts.append(script.to_toml(fitted))
    assert texts[0] == texts[1]
    read = tomllib.loads(texts[0])
    assert set(read["engines"]) == {"generic", "vllm"}
    assert read["engines"]["vllm"]["base"]["weights"] > 0


def test_suspect_rows_and_those_without_a_setting_are_left_out():
    rows = [ROW, ROW | {"quality": "suspect"}, ROW | {"gpu": "nobody's"}]
    assert [one.row for one in columns.measured(rows)] == [ROW]

"""The page of forecasts beside published measurements: what its script writes, and the halves that it keeps apart."""

import importlib
import math
import sys
from pathlib import Path

import pytest

from farthing.planner.validation.validate import ForecastRow, forecast_row

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "scripts"))
script = importlib.import_module("compare_forecasts")
halves = importlib.import_module("forecasts.halves")
tables = importlib.import_module("forecasts.tables")
sys.path.remove(str(REPOSITORY / "scripts"))

ROW = {
    "id": "made-up-0001", "source": "made up", "model": "Llama-3-8B", "weight_dtype": "f16", "kv_dtype": "fp16",
    "gpu": "RTX 4090", "num_gpus": "1", "tp": "1", "pp": "1", "engine": "llama.cpp", "engine_version": "",
    "scenario": "single-stream", "metric": "decode_tok_s", "unit": "tok/s", "input_len": "0", "output_len": "512",
    "batch_or_concurrency": "1", "request_rate": "", "value": "50", "quality": "published",
}  # fmt: skip


def row(**changes: str) -> ForecastRow:
    return forecast_row(ROW | changes)


def test_the_page_is_what_the_script_writes_and_its_head_what_it_prints(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, page = tmp_path / "forecasts.md", (REPOSITORY / "benchmarks" / "forecasts.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["compare_forecasts", "--data", str(shared / "data"), "--output", str(written)])
    script.main()
    assert capsys.readouterr().out.strip() in page
    assert written.read_text(encoding="utf-8").splitlines()[3:] == page.splitlines()[3:], "all but the date"
    _, table = script.read_table(shared / "data" / "measured_calibration.csv")
    named = [one["id"] for one in table if f"| {one['id']} |" in page]
    assert len(named) == tables.NUM_WORST, "the rows are other people's: only those furthest off are named"


def test_rows_of_one_cell_lie_in_one_half():
    assert halves.half_of(ROW) == halves.half_of(ROW | {"metric": "prefill_tok_s", "input_len": "512"})
    sources = {halves.half_of(ROW | {"source": f"source {n}"}) for n in range(20)}
    assert sources == {0, 1}


def test_an_average_counts_each_source_once_and_small_ones_not():
    exact = row().predicted
    many = [row(source="many", value=str(exact / 1.5)) for _ in range(30)]
    some = [row(source="some", value=str(exact / 1.1)) for _ in range(8)]
    few = [row(source="few", value=str(exact / 9)) for _ in range(7)]
    (line,) = tables.head([*many, *some, *few])[2:]
    assert line.startswith("| one stream, decode and prefill | 2 | **30.0%** |")


def test_what_equal_columns_differ_by_is_no_forecast_s_fault():
    same = [row(value=value) for value in ("50", "50", "100")]
    assert tables.floor_of(same) == pytest.approx(0)
    assert tables.floor_of([row(value="50"), row(value="100")]) > 0.4
    assert tables.floor_of([row(), row(input_len="512")]) is None


def test_suspect_rows_are_neither_tested_nor_fitted_to():
    rows = [row(source=f"source {n}", quality="suspect") for n in range(10)]
    assert not tables.tested(rows)


@pytest.mark.parametrize("metric", ["decode_tok_s", "prefill_tok_s", "tpot_mean_ms", "ttft_ms", "output_tok_s_total"])
def test_every_figure_has_a_place_on_the_page(metric: str):
    assert tables.figure_of(row(metric=metric)) in tables.TARGETS


def test_a_row_is_off_by_its_factor():
    exact = row().predicted
    assert row(value=str(exact * 2)).ratio == pytest.approx(0.5)
    assert math.isclose(row(value=str(exact)).ratio, 1)

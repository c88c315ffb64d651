"""farthing validate: the scores as text and JSON, the predictions as CSV, and what is said of tables that are none."""

import csv
import json
from pathlib import Path

import pytest

from farthing.cli.validate import ValidateFlags, validate
from farthing.errors import UsageError

HEADER = (
    "id,source,model,weight_dtype,kv_dtype,gpu,num_gpus,tp,pp,engine,engine_version,scenario,metric,unit,"
    "input_len,output_len,batch_or_concurrency,request_rate,value,quality,remark"
)
GOOD = (
    "a-1,made up,Llama-3-8B,f16,fp16,RTX 4090,1,1,1,llama.cpp,,single-stream,decode_tok_s,tok/s,0,512,1,,54,published,"
)
TIME = "a-2,made up,Llama-3.1-8B,fp16,,H100-SXM,1,1,1,vLLM,0.9,static batch,tpot_mean_ms,ms,512,128,16,,9,measured,"
STRANGE = "a-3,made up,Llama-3-8B,fp16,,RTX 4090,1,1,1,NobodysEngine,,single-stream,decode_tok_s,,0,64,1,,50,,"
UNKNOWN_CARD = GOOD.replace("RTX 4090", "RTX 9999")
UNKNOWN_MODEL = GOOD.replace("Llama-3-8B", "OPT-6.7B")
SUSPECT = GOOD.replace("published", "suspect")
IMPOSSIBLE = GOOD.replace(",54,", ",540,").replace("a-1", "too-fast")


def table(folder: Path, *rows: str) -> Path:
    file = folder / "rows.csv"
    file.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return file


def document(capsys: pytest.CaptureFixture[str], file: Path) -> dict:
    validate(file, flags=ValidateFlags(json=True))
    return json.loads(capsys.readouterr().out)


def test_every_row_is_forecast_or_counted_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = document(capsys, table(tmp_path, GOOD, TIME, STRANGE, UNKNOWN_CARD, UNKNOWN_MODEL, SUSPECT))
    assert found["schema"] == "farthing.validate/1"
    assert (found["rows"], found["forecast"], found["scored"], found["suspect"]) == (6, 4, 3, 1)
    assert found["coverage"]["known_rows"] == 3 and found["coverage"]["known"] == 1
    assert sum(found["skipped"].values()) == 2
    assert {"hardware", "a model"} <= {reason.split(" that")[0] for reason in found["skipped"]}
    assert found["score"]["rows"] == 2, "an engine without a profile is scored apart"
    assert found["unknown_engines"]["rows"] == 1
    assert set(found["by_metric"]) == {"decode_tok_s", "tpot_mean_ms"}
    assert set(found["by_gpu"]) == {"RTX 4090", "H100-SXM"} and set(found["by_source"]) == {"made up"}
    assert found["score"]["median_error"] < 0.3, "both are about what such engines do"


def test_the_predictions_keep_every_row_and_column_and_are_in_the_unit_of_the_row(tmp_path: Path):
    out = tmp_path / "predictions.csv"
    file = table(tmp_path, GOOD, TIME, UNKNOWN_CARD)
    validate(file, flags=ValidateFlags(out=out))
    with out.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == [*HEADER.split(","), "predicted", "predicted_low", "predicted_high", "reason"]
    assert [row["id"] for row in rows] == ["a-1", "a-2", "a-1"]
    assert 40 < float(rows[0]["predicted"]) < 65, "tokens/s"
    assert 5 < float(rows[1]["predicted"]) < 15, "ms"
    for row in rows[:2]:
        assert float(row["predicted_low"]) < float(row["predicted"]) < float(row["predicted_high"])
        assert row["reason"] == ""
    assert rows[2]["predicted"] == rows[2]["predicted_low"] == "" and "catalogue" in rows[2]["reason"]
    validate(out, flags=ValidateFlags(out=tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_text(encoding="utf-8") == out.read_text(encoding="utf-8")


def test_a_measurement_above_what_physics_allows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (one,) = document(capsys, table(tmp_path, GOOD, IMPOSSIBLE))["above_ceiling"]
    assert one["row"] == "too-fast" and one["measured"] == 540 and 60 < one["ceiling"] < 80


def test_the_text_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    validate(table(tmp_path, GOOD, TIME, UNKNOWN_CARD, IMPOSSIBLE))
    said = capsys.readouterr().out
    assert "3 of 4 rows have a forecast: 75.0%" in said
    assert "llama.cpp" in said and "too-fast" in said
    assert "1 rows without a forecast: hardware that is not in the catalogue" in said


def test_columns_may_be_absent_and_numbers_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "few.csv"
    file.write_text(
        "model,gpu,metric,value,scenario,weight_dtype,output_len\n"
        "llama-3-8b,RTX 4090,decode_tok_s,50,single-stream,fp16,100\n"
        "llama-3-8b,RTX 4090,decode_tok_s,nan,single-stream,fp16,100\n"
        "llama-3-8b,RTX 4090,decode_tok_s,50,single-stream,fp16,1e999\n"
        "llama-3-8b,RTX 4090,decode_tok_s,50\n"
        ",,,,,,,,,,,,\n",
        encoding="utf-8",
    )
    found = document(capsys, file)
    assert (found["rows"], found["forecast"], found["scored"]) == (5, 2, 1)
    assert found["score"] is None and found["unknown_engines"]["rows"] == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no column model"),
        (b"model,metric,value\nx,y,1\n", "no column gpu"),
        (b"model,gpu,metric,gpu\n", "twice"),
        (b"\xff\xfe\x00", "no CSV"),
    ],
)
def test_a_file_that_is_no_table_is_a_mistake_in_one_line(content: bytes, says: str, tmp_path: Path):
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        validate(file)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path):
    with pytest.raises(UsageError, match="can't be read"):
        validate(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="can't be written"):
        validate(table(tmp_path, GOOD), flags=ValidateFlags(out=tmp_path / "no" / "out.csv"))

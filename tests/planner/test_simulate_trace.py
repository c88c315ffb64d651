"""The script that sets a served trace beside its simulation: on a trace that was simulated, it finds no error."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from farthing.planner.engine_profile import find_engine

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_trace.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_trace", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rows_of(timings: list[object], lengths: list[tuple[int, int]]) -> list[dict[str, str]]:
    return [
        {
            "arrival_s": str(one.arrival),
            "first_token_s": str(one.first_token),
            "last_token_s": str(one.ended),
            "input_toks": str(inputs),
            "output_toks": str(outputs),
        }
        for one, (inputs, outputs) in zip(timings, lengths, strict=True)
    ]


def test_a_trace_that_was_simulated_is_simulated_without_error(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lengths = [(100 + 37 * index % 900, 20 + 13 * index % 200) for index in range(40)]
    asked = [script.Timing(0.05 * index, 0.0, 0.0, outputs) for index, (_, outputs) in enumerate(lengths)]
    _, served = script.simulated(rows_of(asked, lengths), find_engine(script.ENGINE), script.HARDWARE)
    rows = rows_of(served, lengths)
    for name, table in ((script.FILE, rows), (script.OPERATORS, operators())):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    monkeypatch.setattr(script, "PAGE", tmp_path / "page.md")
    script.main(["--data", str(tmp_path)])
    page = (tmp_path / "page.md").read_text()
    assert page.rstrip() == capsys.readouterr().out.rstrip()
    means = [line for line in page.splitlines() if "mean**" in line]
    assert len(means) == 3 and all(line.endswith(("**+0.0%** |", "**-0.0%** |")) for line in means)


def test_the_served_trace_is_simulated_within_15_percent(script: ModuleType, shared: Path):
    rows, operators = (script._rows(shared / "data" / name) for name in (script.FILE, script.OPERATORS))
    profile = script.with_operators(find_engine(script.ENGINE), operators)
    _, forecast = script.simulated(rows, profile, script.HARDWARE)
    assert script.worst_mean(script.figures(script.measured(rows)), script.figures(forecast)) <= script.LIMIT


def operators() -> list[dict[str, object]]:
    """A card that reaches 90 % of its bandwidth and half of its arithmetic, in three operators."""
    common = {"dtype": "bfloat16", "kv_dtype": "bfloat16", "heads": 32, "kv_heads": 8, "head_dim": 128}
    empty = dict.fromkeys(("m_tokens", "n", "k", "batch_size", "isl_or_ctx"), "")
    found: list[dict[str, object]] = []
    for gpu in ("RTX PRO 6000 Blackwell SE", "L40S"):
        for m in (1, 8, 2048, 8192):
            seconds = max(2 * 4096 * 4096 / (0.9 * 1e12), 2 * m * 4096 * 4096 / (0.5 * 400e12))
            product = {"m_tokens": m, "n": 4096, "k": 4096, "time_ms": 1e3 * seconds}
            found.append({**empty, **common, "gpu": gpu, "op": "gemm", **product})
        decode = {"op": "decode_attention", "batch_size": 256, "isl_or_ctx": 2048, "time_ms": 2.5}
        prompt = {"op": "prefill_attention", "batch_size": 4, "isl_or_ctx": 2048, "time_ms": 0.6}
        found += [{**empty, **common, "gpu": gpu, **decode}, {**empty, **common, "gpu": gpu, **prompt}]
    return found

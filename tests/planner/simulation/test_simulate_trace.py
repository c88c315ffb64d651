"""The script that sets a served trace beside its simulation: on a trace that was simulated, it finds no error."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from farthing.planner.engines.engine_profile import find_engine
from farthing.planner.engines.operator_profile import STEP_SECONDS, by_operators, timed_classes

SCRIPT = Path(__file__).parents[3] / "scripts" / "simulate_trace.py"


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
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lengths = [(100 + 37 * index % 900, 20 + 13 * index % 200) for index in range(40)]
    asked = [script.Timing(0.05 * index, 0.0, 0.0, outputs) for index, (_, outputs) in enumerate(lengths)]
    _, served = script.simulated(rows_of(asked, lengths), find_engine(script.ENGINE), script.HARDWARE)
    rows = rows_of(served, lengths)
    with (tmp_path / script.FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    script.main(["--data", str(tmp_path), "--output", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert page.rstrip() == capsys.readouterr().out.rstrip()
    means = [line for line in page.splitlines() if "mean**" in line]
    assert len(means) == 3 and all(line.endswith(("**+0.0%** |", "**-0.0%** |")) for line in means)


def test_the_served_trace_is_simulated_within_15_percent(script: ModuleType, shared: Path):
    with (shared / "data" / script.FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    _, forecast = script.simulated(rows, by_operators(find_engine(script.ENGINE)), script.HARDWARE)
    assert script.worst_mean(script.figures(script.measured(rows)), script.figures(forecast)) <= script.LIMIT


def test_a_profile_by_operators_keeps_the_limits_and_memory_of_its_engine():
    engine = find_engine("vllm")
    timed = by_operators(engine)
    assert (timed.max_num_seqs, timed.max_batch_tokens, timed.memory) == (
        engine.max_num_seqs,
        engine.max_batch_tokens,
        engine.memory,
    )
    assert "workstation" in timed_classes()
    for device_class in (*timed_classes(), "geforce"):
        efficiency = timed.efficiency(device_class, "16")
        assert 0.5 < efficiency.weights < 1 and 0.4 < efficiency.gemm < 1
        assert efficiency.step_seconds == STEP_SECONDS

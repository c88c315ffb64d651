"""The measuring script for a GPU: it runs to its end on any machine, and says of each part what became of it; floors,
shares and verdicts follow from what was measured, and a part never takes the time of those behind it."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.runtime.model_runner import ModelRunner

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
greedy, pages, parts, results, sizes, steps = (
    importlib.import_module(f"on_gpu.{name}") for name in ("greedy_part", "page", "parts", "results", "sizes", "steps")
)
sys.path.remove(str(BENCHMARKS))

PEAKS = {"bytes_per_second": 100.0, "flops_per_second": {"bf16": 1000.0, "fp8": 2000.0}}


def figures(*rows: dict[str, Any], is_quick: bool = False) -> Any:
    about = {"command": "python benchmarks/gpu.py", "date": "2026-01-01", "commit": "abc", "is_quick": is_quick}
    return results.Results(about, [], [{"section": "peaks", "source": results.SHEET, **PEAKS}, *rows])


def decode(seconds: float, weight_format: str = "bf16", **changes: Any) -> dict[str, Any]:
    return {
        "section": "decode", "format": weight_format, "batch": 1, "context": 512, "tokens": 1, "seconds": seconds,
        "moved_bytes": 80, "flops": {"bf16": 10}, "forecast_seconds": 1.0, "host_share": 0.0, **changes,
    }  # fmt: skip


def verdict(measured: Any, what: str) -> bool | None:
    (met,) = [one.met for one in results.wanted(measured) if one.what.startswith(what)]
    return met


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a quick run of some parts."""
    page = tmp_path_factory.mktemp("run") / "page.md"
    chosen = [flag for name in ("environment", "kernels", "bf16") for flag in ("--only", name)]
    command = [sys.executable, BENCHMARKS / "gpu.py", "--quick", "--device", "cpu", *chosen, "--output", page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Farthing on ")
    return page


def test_a_quick_run_leaves_a_page_a_picture_and_its_figures(quick: Path) -> None:
    assert quick.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    kept = results.Results.read(quick.with_suffix(".json"))
    assert {"environment", "ready", "memory", "decode", "prefill", "mixed"} <= {row["section"] for row in kept.rows}
    assert all(results.is_as_planned(row) for row in kept.of("memory"))
    assert pages.page(kept, quick.with_suffix(".png").name) == quick.read_text(encoding="utf-8")
    assert "Nothing here says anything about speed" in quick.read_text(encoding="utf-8")


def test_a_quick_run_says_of_every_part_that_it_was_measured_or_why_not(quick: Path) -> None:
    told = {part["name"]: part["why"] for part in json.loads(quick.with_suffix(".json").read_text())["parts"]}
    assert told == {
        "environment": None,
        "kernels": "not measured: these tests need a CUDA device",
        "bf16": None,
    }  # fmt: skip


def test_a_page_is_made_anew_from_figures_alone(quick: Path, tmp_path: Path) -> None:
    source = ["--from", quick.with_suffix(".json"), "--output", tmp_path / "page.md"]
    subprocess.run([sys.executable, BENCHMARKS / "gpu.py", *source], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == quick.read_text(encoding="utf-8")


def test_the_floor_is_the_larger_of_bytes_and_operations_of_all_maths() -> None:
    measured = figures()
    floors = [
        measured.floor({"moved_bytes": moved, "flops": flops}, results.SHEET)
        for moved, flops in [(80, {"bf16": 10}), (80, {"bf16": 500, "fp8": 1000}), (80, {"int8": 1})]
    ]
    assert floors == [0.8, 1.0, None]
    assert measured.floor({"steps": [[80, {"bf16": 10}], [10, {"fp8": 4000}]]}, results.SHEET) == pytest.approx(2.8)
    assert measured.floor({"moved_bytes": 80, "flops": {}}, results.MEASURED) is None


@pytest.mark.parametrize(("seconds", "met"), [(1.0, True), (1.01, False)])
def test_a_share_of_the_data_sheet_is_met_or_missed(seconds: float, met: bool) -> None:
    assert verdict(figures(decode(seconds)), "decode, batch 1, bf16") is met


def test_int4_is_held_to_twice_the_speed_of_bf16() -> None:
    assert verdict(figures(decode(1.0), decode(0.5, "w4a16")), "decode, batch 1, int4") is True
    assert verdict(figures(decode(1.0), decode(0.51, "w4a16")), "decode, batch 1, int4") is False
    assert verdict(figures(decode(1.0)), "decode, batch 1, int4") is None


def test_a_forecast_that_is_missing_is_not_within_ten_percent() -> None:
    assert verdict(figures(decode(1.09)), "forecasts") is True
    assert verdict(figures(decode(1.09), decode(1.0, "fp8", forecast_seconds=None)), "forecasts") is False


def test_the_gap_of_the_host_is_that_of_the_worst_format_at_batch_64() -> None:
    rows = [decode(1.0, name, batch=64, host_share=share) for name, share in (("bf16", 0.01), ("fp8", 0.04))]
    assert verdict(figures(rows[0]), "decode, batch 64, all") is True
    assert verdict(figures(*rows), "decode, batch 64, all") is False


def test_what_was_not_measured_is_no_verdict_and_a_page_all_the_same() -> None:
    nothing = figures()
    assert {one.met for one in results.wanted(nothing)} == {None}
    assert pages.page(nothing, None).count("Not measured.") >= 5


def test_answers_must_agree_up_to_a_near_tie_and_no_further() -> None:
    right, gaps = [[1, 2, 3, 4]], [[1.0, 1.0, greedy.NEAR_TIE / 2, 1.0]]
    assert greedy.compare([[1, 2, 9, 9]], right, gaps) == greedy.Agreement(2, 0)
    assert greedy.compare([[1, 9, 3, 4]], right, gaps) == greedy.Agreement(2, 1)


def test_a_part_leaves_the_parts_behind_it_their_least() -> None:
    chain = [parts.Part("a", ("a",), 100, 10), parts.Part("b", ("b",), 100, 30), parts.Part("c", ("c",), 50, 20, True)]
    assert [parts.seconds_for(chain, 0, left) for left in (200, 80, 40, 39)] == [100, 50, 10, None]
    assert parts.seconds_for(chain, 1, 40) == 40 and parts.seconds_for(chain, 2, 19) is None


def test_all_parts_that_are_wanted_have_their_least_within_eight_minutes() -> None:
    assert sum(part.least_seconds for part in parts.PARTS) < 8 * 60 / 2


def test_a_worker_that_hangs_is_ended_in_time_and_keeps_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'import time; print(\'{"section": "decode"}\', flush=True); time.sleep(60)'
    rows: list[str] = []
    why = parts._run([sys.executable, "-c", code], 1.0, rows.append)
    assert rows == ['{"section": "decode"}'] and "time was short" in why
    assert parts._run([sys.executable, "-c", "raise SystemExit(3)"], 30.0, rows.append) == "ended with code 3"


def test_the_page_names_the_tests_that_failed() -> None:
    failed = [f"tests/test_a.py::test[one {index}] FAILED      [ 10%]" for index in range(30)]
    passed = ["tests/test_a.py::test_b PASSED [ 50%]"] * 7
    row = parts.tests_row(["== begin", *passed, *failed, "tests/c.py::test ERROR [ 9%]", "== the end ==", ""], "code 1")
    assert row["line"] == "7 passed, 31 failed (code 1)"
    assert row["failures"] == [*(f"FAILED tests/test_a.py::test[one {index}]" for index in range(20)), "and 11 more"]
    named = pages.page(figures(row), None)
    assert all(f"- `{line}`" in named for line in row["failures"])
    sound = parts.tests_row(passed, None)
    assert sound["line"] == "7 passed, 0 failed" and sound["failures"] == []
    assert parts.tests_row(["tests/a.py::test_b SKIPPED (needs a CUDA device)"], None)["line"] == "no test ran"


def test_files_of_tests_run_at_once_and_each_says_why_it_did_not_pass(tmp_path: Path) -> None:
    sources = {
        "test_sound.py": "import pytest\n\n@pytest.mark.gpu\ndef test_a(): pass\n",
        "test_broken.py": "import pytest\n\n@pytest.mark.gpu\ndef test_b(): assert 0\n",
        "test_none.py": "def test_c(): pass\n",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    lines: list[str] = []
    why = parts.run_tests([str(tmp_path / name) for name in sources], 60.0, lines.append)
    assert why == f"{tmp_path / 'test_broken.py'} ended with code 1"
    assert any("test_a PASSED" in line for line in lines) and any("test_b FAILED" in line for line in lines)
    assert {"tests/kernels/triton/test_products.py", "tests/runtime/test_cuda.py"} <= set(parts.test_files())


def test_every_case_keeps_its_cache_within_the_card() -> None:
    kv_bytes_per_token = 2 * 32 * 8 * 128 * 2
    assert all(sizes.fits(batch, context, kv_bytes_per_token) for batch, context in sizes.FULL.decodes)
    assert not sizes.fits(256, 4096, kv_bytes_per_token)


def test_the_bounds_of_the_wheels_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)}
    lines = (BENCHMARKS / "gpu-wheels.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert len(named) > 10 and set(named) <= known
    assert not any(re.match(r"(torch|triton|numpy)\b", line) for line in named)


class TwoOnTheirWay(ModelRunner):
    """As many steps as a GPU has."""

    def __init__(self, *arguments: Any, depth: int = 1) -> None:
        super().__init__(*arguments, depth=2)


@pytest.mark.parametrize("runner_type", [ModelRunner, TwoOnTheirWay])
def test_steps_of_chosen_shapes_leave_nothing_behind_in_the_runner(
    runner_type: type[ModelRunner], tmp_path: Path
) -> None:
    small = sizes.quick(tmp_path)
    limits = {"max_num_seqs": small.max_num_seqs, "max_batch_tokens": small.max_batch_tokens, "context": small.context}
    config = EngineConfig(weights="random", device="cpu", memory="2GiB", speculation="off", **limits)
    engine = Engine(plan_engine(small.model, config), with_template=False, runner_type=runner_type)
    shaped = steps.Steps(engine, small.max_batch_tokens)
    assert shaped.fill(2, 96, 60.0) == 2 and shaped.prefill(96) > 0
    timed, num_steps = shaped.decode(4, 64, 0.01)
    assert num_steps >= 8 and 0 < timed.device_seconds <= timed.wall_seconds
    assert engine.runner.in_flight == 0 and not engine.runner.states
    assert not shaped.has_room(small.max_num_seqs, 4 * small.context)
    engine.close()

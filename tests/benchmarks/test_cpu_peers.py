"""The comparison with other engines on a CPU: what is asked of each, the floor of a step, and when a target is met."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
cases, limits, models, results, pages = (
    importlib.import_module(f"peers.{name}") for name in ("cases", "limits", "models", "results", "page")
)
sys.path.remove(str(BENCHMARKS))

FAST, SLOW = 1e15, 1e9
GROUPS = cases.groups(2)
GROUP = next(group for group in GROUPS if group.name == "int8")


def spec(weight_format: str) -> ModelSpec:
    config = models.COMMON | models.SHAPES["1b"]
    return describe(ConfigReader(config, "1b"), Precision.of(resolve(weight_format, "cpu")))


def outcome(ours: list[float], theirs: list[float], *, floor: float = 0.5, **changes: Any) -> Any:
    case = cases.Case("decode", "decode 1 32 1", 1, {"llama.cpp": 1.2}, BatchShape.decode(32), **changes)
    seconds = {GROUP.ours.name: ours, GROUP.peers[0].name: theirs}
    return results.Outcome(GROUP, case, seconds, [], [floor] * len(ours))


def verdict(measured: Any) -> bool | None:
    (one,) = measured.comparisons()
    met: bool | None = one.met
    return met


def test_the_script_tells_its_flags() -> None:
    told = subprocess.run([sys.executable, BENCHMARKS / "cpu_peers.py", "--help"], capture_output=True, text=True)
    assert told.returncode == 0 and "--environment" in told.stdout


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_every_peer_of_a_case_is_loaded_with_its_group(group: Any) -> None:
    engines = {peer.engine for peer in group.peers}
    assert group.cases and all(case.peers.keys() <= engines for case in group.cases)
    assert all((BENCHMARKS / "peers" / system.worker).is_file() for system in (group.ours, *group.peers))


def test_a_decode_step_reads_a_billion_weights_once_and_the_embedding_not_at_all() -> None:
    machine = limits.Limits({"bf16": FAST, "int8": FAST}, ((1, SLOW),))
    seconds = machine.floor_seconds(spec("bf16"), BatchShape.decode(32))
    assert seconds * SLOW == pytest.approx(2 * 1.034e9, rel=0.005)


def test_a_prefill_is_a_matter_of_its_operations() -> None:
    machine = limits.Limits({"bf16": SLOW, "int8": SLOW}, ((1, FAST),))
    shape = BatchShape.of([(512, 0)], num_logits=0)
    attention = 22 * 4 * 512 * 513 / 2 * 32 * 64
    assert machine.floor_seconds(spec("int8"), shape) * SLOW == pytest.approx(1.937e9 * 512 + attention, rel=0.01)


def test_bandwidth_between_two_measured_sizes_lies_between_theirs() -> None:
    machine = limits.Limits({}, ((2**20, 100.0), (2**30, 10.0)))
    assert [machine.read_bandwidth(size) for size in (1, 2**20, 2**25, 2**40)] == [100.0, 100.0, 55.0, 10.0]


def test_the_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    (one,) = outcome([1.0, 2.0, 4.0], [3.0, 2.0, 6.0]).comparisons()
    assert one.ratios == [3.0, 1.0, 1.5] and one.ratio == 1.5 and one.met


def test_where_one_is_enough_a_share_makes_up_for_a_ratio_that_is_not_below_its_least() -> None:
    either = {"share": 0.5, "either": True, "ratio_anyway": 1.03}
    assert verdict(outcome([1.0], [1.1], **either)) is True
    assert verdict(outcome([1.0], [1.0], **either)) is False
    assert verdict(outcome([1.0], [1.1], floor=0.4, **either)) is False
    assert verdict(outcome([1.0], [1.2], floor=0.4, **either)) is True


def test_where_both_are_wanted_a_share_makes_up_for_nothing() -> None:
    assert verdict(outcome([1.0], [1.1], share=0.5)) is False


def test_a_peer_that_failed_has_no_row_and_is_told(tmp_path: Path) -> None:
    failed = results.Outcome(GROUP, GROUP.cases[0], {GROUP.ours.name: [2.0]}, [], [])
    text = pages.page(
        [failed], command="run", versions=(), problems=["llama.cpp q8_0 failed"], how="", picture="page.png"
    )
    assert "- llama.cpp q8_0 failed" in text and "| prefill" not in text

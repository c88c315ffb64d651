"""Can these devices train this model: the verdict, its arithmetic, what would do, and the published runs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from farthing.errors import UsageError
from farthing.models.auto import config_of, describe
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.models.training import TrainingSetup, training_memory
from farthing.planner.training.training import ASSUMPTIONS, TrainingAnswer, answer, to_json_object, to_lines
from farthing.planner.training.training_search import Attempt, best_attempt, fewest_devices
from farthing.quantization.base import resolve

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
CARD_24, CARD_80 = 24564 * 2**20, 81559 * 2**20
RESERVE = int(1.5 * GIB)


def published(name: str) -> ModelSpec:
    return describe(config_of(find_model(name)), Precision.of(resolve("bf16", "cpu")))


def asked(model: str, num_devices: int, memory: int = CARD_24, setup: TrainingSetup | None = None) -> TrainingAnswer:
    hardware = f"{num_devices}x card"
    return answer(published(model), [memory] * num_devices, RESERVE, model=model, hardware=hardware, setup=setup)


def test_70b_does_not_train_on_8_cards_of_24_gb_and_the_text_says_why() -> None:
    text = "\n".join(to_lines(asked("llama-2-70b", 8)))
    assert "training llama-2-70b does not fit 8x card" in text
    assert "69 G parameters x 16 B (2 weights + 2 gradients + 12 optimizer" in text
    assert "= 1,028 GiB; 8 devices hold 192 GiB: 5.4x too little before the first activation" in text
    assert "64 of them would hold it, here are 8" in text
    assert "QLoRA of rank 16, 4-bit weights: fits" in text
    assert "500 GB" in text


def test_70b_does_not_train_on_one_card_of_24_gb_whatever_is_done_on_the_card() -> None:
    made = asked("llama-2-70b", 1)
    assert not made.fits
    assert "the device holds 24.0 GiB: 42.8x too little" in to_lines(made)[1]
    assert [alternative.name for alternative in made.alternatives if alternative.attempt.fits] == [
        "states in host memory, adamw",
        "states in host memory, adamw-bf16",
    ]
    assert made.alternatives[2].attempt.host_bytes > 16 * made.num_parameters - 1


def test_what_fits_offers_no_alternatives() -> None:
    made = asked("llama-2-70b", 64, CARD_80)
    assert made.fits
    assert (made.fewest_devices, made.alternatives) == (None, ())
    assert made.attempt.setup.num_devices == 64
    assert to_lines(made)[0].startswith("training llama-2-70b fits 64x card")


def test_the_model_is_split_and_recomputed_only_as_far_as_the_memory_needs() -> None:
    plenty, little = asked("llama-3.2-1b", 8, 200 * GIB), asked("llama-3.1-8b", 8)
    assert (plenty.attempt.setup.zero_stage, plenty.attempt.setup.recompute) == (0, "none")
    assert (plenty.attempt.setup.tp, plenty.attempt.setup.pp) == (1, 1)
    assert (little.attempt.setup.zero_stage, little.attempt.setup.recompute) == (3, "full")


def test_the_setup_found_is_one_that_fits_and_the_next_cheaper_does_not() -> None:
    spec, room = published("llama-3.1-8b"), CARD_80 - RESERVE
    found = best_attempt(spec, TrainingSetup(), 8, room)
    assert training_memory(spec, found.setup) == found.memory
    assert found.memory.total_bytes <= room
    assert (found.setup.data_parallel, found.setup.recompute) == (8, "none")
    assert found.setup.zero_stage > 0
    cheaper = TrainingSetup(data_parallel=8, zero_stage=found.setup.zero_stage - 1)
    assert training_memory(spec, cheaper).total_bytes > room


def test_so_many_devices_hold_it_and_fewer_in_pure_data_parallel_do_not() -> None:
    spec, room = published("llama-3.1-8b"), CARD_24 - RESERVE
    fewest = fewest_devices(spec, TrainingSetup(), room)
    assert fewest is not None
    assert best_attempt(spec, TrainingSetup(), fewest, room).fits
    assert not best_attempt(spec, TrainingSetup(), fewest - 1, room).fits


def test_no_number_of_devices_does_where_one_layer_is_too_much() -> None:
    assert fewest_devices(published("llama-2-70b"), TrainingSetup(), GIB // 8) is None


def test_offloaded_states_are_divided_over_the_ranks_not_repeated() -> None:
    made = asked("llama-3.1-8b", 2, CARD_80, TrainingSetup(offload="all"))
    assert made.fits
    assert made.attempt.host_bytes == pytest.approx(16 * made.num_parameters, rel=1e-9)
    assert f"{16 * made.num_parameters / GIB:,.0f} GiB of host memory" in "\n".join(to_lines(made))


def test_host_memory_that_runs_out_is_told_as_such() -> None:
    spec, setup = published("llama-3.1-8b"), TrainingSetup(offload="all")
    options = {"model": "m", "hardware": "h", "setup": setup}
    enough = answer(spec, [CARD_24] * 2, RESERVE, host_bytes=200 * GIB, **options)  # type: ignore[arg-type]
    short = answer(spec, [CARD_24] * 2, RESERVE, host_bytes=64 * GIB, **options)  # type: ignore[arg-type]
    assert (enough.outcome, enough.fits) == ("runs", True)
    assert (short.outcome, short.fits) == ("host OOM", False)
    assert "host memory runs out" in "\n".join(to_lines(short))
    assert not any(line.startswith("  devices") for line in to_lines(short))


def test_weights_that_are_gathered_leave_fragments() -> None:
    """15 % of the rest under ZeRO 3, none where nothing is gathered: GMLake, arXiv 2401.08156."""
    spec = published("llama-3.1-8b")
    for setup, ratio in (
        (TrainingSetup(data_parallel=8, zero_stage=3), 0.15),
        (TrainingSetup(data_parallel=8, zero_stage=2), 0.0),
        (TrainingSetup(zero_stage=3), 0.0),
    ):
        made = Attempt(setup, training_memory(spec, setup), CARD_80)
        assert made.fragment_bytes == pytest.approx(ratio * made.memory.total_bytes, abs=1)
        assert made.needed_bytes == made.memory.total_bytes + made.fragment_bytes


def test_of_unequal_devices_the_smallest_decides() -> None:
    spec = published("llama-3.1-8b")
    mixed = answer(spec, [CARD_80, CARD_24], RESERVE, model="m", hardware="h")
    assert mixed.attempt.room_bytes == CARD_24 - RESERVE


def test_adapters_are_answered_for_as_asked() -> None:
    made = asked("llama-3.1-8b", 1, setup=TrainingSetup(lora_rank=16, frozen_format="int4"))
    assert made.fits
    assert "QLoRA of rank 16" in to_lines(made)[0]
    assert "8.03 G frozen parameters in int4 and adapters" in to_lines(made)[1]


def test_a_device_without_memory_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="no memory beyond its reserve"):
        asked("llama-3.1-8b", 1, RESERVE)


def test_the_json_object_is_fixed() -> None:
    made = to_json_object(asked("llama-2-70b", 8))
    assert json.loads(json.dumps(made))["schema"] == "farthing.training/1"
    assert list(made) == [
        "schema", "model", "hardware", "fits", "num_parameters", "states_bytes", "outcome", "num_devices",
        "device_bytes", "reserve_bytes", "tight", "setup", "memory", "fragment_bytes", "needed_bytes", "host_bytes",
        "fewest_devices", "alternatives", "host_memory_bytes", "time", "assumptions",
    ]  # fmt: skip
    memory = made["memory"]
    assert isinstance(memory, dict)
    assert list(memory) == [
        "stage", "weights_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes", "logits_bytes",
        "working_bytes", "host_bytes", "total_bytes",
    ]  # fmt: skip
    alternatives = made["alternatives"]
    assert isinstance(alternatives, list)
    assert all(
        list(alternative)
        == [
            "name", "fits", "tight", "setup", "memory", "fragment_bytes", "needed_bytes", "host_bytes",
            "fewest_devices",
        ]
        for alternative in alternatives
    )  # fmt: skip


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    location = ROOT / "scripts" / "compare_training_memory.py"
    spec = importlib.util.spec_from_file_location(location.stem, location)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_published_peaks_lie_where_the_assumptions_say(shared: Path, comparison: ModuleType) -> None:
    """As GB, the unit in which the one source that adds its parts up means it (train-12)."""
    errors = {row["id"]: comparison.error(row, 10**9) for row in comparison.read_rows(shared / "data")}
    ratios = sorted(1 / (1 + error) for error in errors.values() if error is not None)
    assert len(ratios) == 7
    text = f"{ratios[0]:.1f} to {ratios[-1]:.1f} times such a forecast, the median {ratios[3]:.1f} times"
    assert any(text in assumption for assumption in ASSUMPTIONS), text
    assert abs(errors["train-12"]) < 0.02


def test_published_outcomes_are_foreseen(shared: Path, comparison: ModuleType) -> None:
    """At least 7 of 8: runs, GPU OOM, host OOM. Host memory that ran out is not put down to the cards."""
    rows = {row["id"]: row for row in comparison.read_rows(shared / "data")}
    assert comparison.num_right(list(rows.values())) >= 7
    assert comparison.outcome(rows["train-09"]) == "host OOM" and comparison.forecast(rows["train-09"]).fits
    assert comparison.outcome(rows["train-10"]) == "GPU OOM"


def test_the_published_comparison_is_what_the_script_writes(shared: Path, comparison: ModuleType) -> None:
    page = (ROOT / "benchmarks" / "training-memory.md").read_text(encoding="utf-8")
    written = comparison.page(comparison.read_rows(shared / "data"), "")
    assert page.splitlines()[4:] == written.splitlines()[4:]

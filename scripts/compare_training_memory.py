"""Forecasts of training memory against published peaks, written to benchmarks/training-memory.md.

    python scripts/compare_training_memory.py --data ../shared/data

`--data` is the folder with training_memory_reference.csv. What a row does not say (batch, length, adapters) is taken
from the recipe that it names; the table says which. Needs no torch.
"""

import argparse
import csv
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from farthing.models.auto import config_of, describe
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.models.training import TrainingSetup, training_memory
from farthing.planner.training.training_search import Attempt
from farthing.quantization.base import resolve

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "training-memory.md"
GB, GIB = 10**9, 2**30
RESERVE_BYTES = int(1.5 * GIB)  # CUDA context 0.5 GiB, 1.5 GiB with NCCL: vLLM 0.19 start-up logs on H100
CARD_BYTES = {24: 24564 * 2**20, 48: 49140 * 2**20, 80: 81559 * 2**20}  # of a class, as the driver reports it


@dataclass(frozen=True, slots=True)
class Case:
    """What was trained, and where the figures that the row leaves out come from."""

    setup: TrainingSetup
    taken_from: str


CASES = {
    "train-09": Case(
        TrainingSetup(2, 1000, "adamw-bf16", 3, 8, recompute="full", offload="all"),
        "recipe 70B_full: batch 2, all states in host memory; samples of about 1,000 tokens (the issue)",
    ),
    "train-10": Case(
        TrainingSetup(1, 512, "adamw-bf16", 3, 8, recompute="full", lora_rank=16), "recipe 70B_lora: rank 16"
    ),
    "train-11": Case(
        TrainingSetup(2, 512, "adamw-bf16", 3, 8, recompute="full", offload="optimizer"),
        "batch 2 of 512 tokens assumed (alpaca); paged states taken to lie in host memory",
    ),
    "train-12": Case(TrainingSetup(2, 512, "adamw-bf16", recompute="full"), "batch 2 of 512 tokens assumed (alpaca)"),
    "train-13": Case(
        TrainingSetup(1, 512, "adamw", 3, 2, recompute="full", lora_rank=8, frozen_format="int4"),
        "qlora-fsdp-70b.yaml: batch 1, 512 tokens, rank 8; its offload of parameters not counted",
    ),
    "train-14": Case(
        TrainingSetup(1, 8192, "adamw-8bit", recompute="full", offload="optimizer"),
        "fft-8b.yaml: batch 1, 8,192 tokens, 8-bit AdamW; its paged states taken to lie in host memory",
    ),
    "train-15": Case(
        TrainingSetup(2, 4096, "adamw", recompute="full", lora_rank=32, frozen_format="int4"),
        "qlora.yml: batch 2, 4,096 tokens, rank 32",
    ),
    "train-16": Case(
        TrainingSetup(2, 4096, "adamw-8bit", recompute="full", lora_rank=32, frozen_format="int8"),
        "lora.yml: batch 2, 4,096 tokens, rank 32, 8-bit AdamW",
    ),
}


def spec_of(model: str) -> ModelSpec:
    """The description of a model of the table, by its name there or in the CSV."""
    return describe(config_of(find_model(model.lower())), Precision.of(resolve("bf16", "cuda")))


def forecast(row: Mapping[str, str]) -> Attempt:
    """The heaviest device in the run of this row, on a card of its class."""
    setup = CASES[row["id"]].setup
    return Attempt(setup, training_memory(spec_of(row["model"]), setup), CARD_BYTES[card_class(row)] - RESERVE_BYTES)


def card_class(row: Mapping[str, str]) -> int:
    """GB of the row's card: "24 GB class", "A100-80GB"; an RTX 4090 has 24."""
    return next((size for size in CARD_BYTES if f"{size} GB" in row["gpu"] or f"{size}GB" in row["gpu"]), 24)


def host_bytes(row: Mapping[str, str]) -> int | None:
    return int(float(row["host_ram_gb"]) * GB) if row["host_ram_gb"] else None


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "training_memory_reference.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def error(row: Mapping[str, str], unit: int) -> float | None:
    """(forecast - published) / published, if `unit` is what the source means by a "GB"; None without a figure."""
    if not row["peak_gpu_gib"]:
        return None
    return forecast(row).needed_bytes / (float(row["peak_gpu_gib"]) * unit) - 1


def outcome(row: Mapping[str, str]) -> str:
    """What the forecast says would happen: runs, GPU OOM or host OOM."""
    return forecast(row).outcome(host_bytes(row))


def num_right(rows: list[dict[str, str]]) -> int:
    """Rows whose outcome is forecast."""
    return sum(outcome(row) == row["outcome"] for row in rows if row["id"] in CASES)


def page(rows: list[dict[str, str]], command: str) -> str:
    known = [row for row in rows if row["id"] in CASES]
    both = {unit: [value for row in known if (value := error(row, unit)) is not None] for unit in (GB, GIB)}
    ratios = [1 / (1 + value) for value in both[GB]]
    commit = subprocess.run(["git", "describe", "--always"], cwd=PAGE.parent, capture_output=True, text=True).stdout
    lines = [
        "# Training memory: forecast against published peaks",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · command: `{command}`",
        "",
        "Forecast of `models/training.py` for the heaviest device with the fragments of "
        "`planner/training/training_search.py`, "
        "without the reserve (context, communication buffers). Published figures are round, some are said to be "
        "approximate, and the sources write GB for either unit, so the error is given for both readings.",
        "",
        "No constant was fitted, but these rows were seen while the forecast was written, so they are no held-out "
        "test. After a first comparison (median error 25 % as GB, 22 % as GiB) two choices were changed: ZeRO 3 "
        "gathers the largest part and a layer, where it had been twice the largest part; and the paged states of "
        "train-14 were taken to lie in host memory, as those of train-11 were from the start (on the card the "
        "forecast is 60.2 GB, +25 %). Later the fragments were added, 15 % under ZeRO 3: that is GMLake's mean (arXiv "
        "2401.08156), but that they were looked for is due to train-10; without them its outcome is a miss, and the "
        "median error is 19 % as GB. The edge from which a fit is called near, 90 % of the room, was set from these "
        "rows as well.",
        "",
        "| row | run | published | forecast | error if GB | error if GiB | weights + gradients + optimizer + "
        "activations + logits + working + fragments, GiB |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in known),
        "",
        f"Absolute error, read as GB: median {_median(both[GB])}, largest {_largest(both[GB])}; "
        f"read as GiB: median {_median(both[GIB])}, largest {_largest(both[GIB])} ({len(both[GB])} rows).",
        "",
        f"Published / forecast, read as GB: {min(ratios):.2f} to {max(ratios):.2f}, median "
        f"{statistics.median(ratios):.2f}. The two rows furthest off (train-15, train-16) ran on transformers of 2023, "
        "which likely kept more than has to be kept: dropout copies of adapted inputs, fp32 embedding and head, "
        "several fp32 copies of the logits. That was not measured.",
        "",
        "## Outcomes",
        "",
        f"{num_right(known)} of {len(known)} right.",
        "",
        "| row | published | forecast | of the card's room | host memory, GB |",
        "|---|---|---|---|---|",
        *(_outcome_line(row) for row in known),
        "",
        "train-13 is a miss: its recipe also offloads the parameters to host memory, with which it fits with ease, but "
        "then 21 GB are far too many; without offload the forecast is above the card. train-10 runs out from 5 % "
        "of fragments on.",
        "",
        "## What the rows leave out, and where it is taken from",
        "",
        *(f"- {row['id']} ({row['source_ref'].split(' ')[0]}): {CASES[row['id']].taken_from}" for row in known),
        "",
    ]
    return "\n".join(lines)


def _line(row: Mapping[str, str]) -> str:
    made = forecast(row)
    memory = made.memory
    parts = (
        memory.weights_bytes, memory.gradient_bytes, memory.optimizer_bytes,
        memory.activation_bytes, memory.logits_bytes, memory.working_bytes, made.fragment_bytes,
    )  # fmt: skip
    errors = [error(row, unit) for unit in (GB, GIB)]
    cells = [
        row["id"],
        f"{row['model']} {row['method']}, {row['num_gpus']}x {row['gpu']}, {row['parallelism']}",
        row["peak_gpu_gib"] or row["outcome"],
        f"{made.needed_bytes / GB:.1f} GB = {made.needed_bytes / GIB:.1f} GiB",
        *("" if value is None else f"{value:+.0%}" for value in errors),
        " + ".join(f"{part / GIB:.1f}" for part in parts),
    ]
    return f"| {' | '.join(cells)} |"


def _outcome_line(row: Mapping[str, str]) -> str:
    made, have = forecast(row), host_bytes(row)
    share = f"{made.needed_bytes / made.room_bytes:.0%} of {card_class(row)} GB"
    host = f"{made.host_bytes / GB:.0f}" + (f" of {have / GB:.0f}" if have else "") if made.host_bytes else ""
    wrong = "" if outcome(row) == row["outcome"] else " (wrong)"
    return f"| {row['id']} | {row['outcome']} | {outcome(row)}{wrong} | {share} | {host} |"


def _median(errors: list[float]) -> str:
    return f"{statistics.median(map(abs, errors)):.0%}"


def _largest(errors: list[float]) -> str:
    return f"{max(map(abs, errors)):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE")
    arguments = parser.parse_args()
    text = page(read_rows(arguments.data), "python scripts/compare_training_memory.py --data DIR")
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

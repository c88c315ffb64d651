"""Forecasts of `farthing plan` beside published measurements, written to benchmarks/forecasts.md.

    python scripts/compare_forecasts.py --data ../shared/data

`--data` is the folder with measured_calibration.csv, whose rows carry no licence to be copied here. Nothing is fitted
here: the page tells the error of the forecast as it is. forecasts/rows.py says which rows are compared, and how. Prints
the table of metrics and engines. Needs no torch.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from factcheck_rows import Row, read_rows
from forecasts.rows import (
    BATCH,
    DECODE,
    FORECASTS,
    FORMATS,
    NO_ROOM,
    PER_TOKEN,
    PREFILL,
    SATURATED,
    STEP,
    Outcome,
    compare,
)
from forecasts.tables import NUM_WORST, by_hardware, head, worst

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "forecasts.md"
COMMAND = "python scripts/compare_forecasts.py --data DIR"


def what_it_says(outcomes: Sequence[Outcome]) -> str:
    """The paragraph under the tables, with its figures."""

    def of(holds: Callable[[Outcome], bool]) -> tuple[float, float]:
        chosen = [one for one in outcomes if holds(one)]
        return statistics.median(one.error for one in chosen), statistics.median(one.ratio for one in chosen)

    trt = of(lambda one: one.metric == PER_TOKEN and one.row["engine"] == "TensorRT-LLM")
    step = of(lambda one: one.metric == STEP and one.row["engine"] == "TensorRT-LLM")
    plain = of(lambda one: one.metric == DECODE and FORMATS[one.row["weight_dtype"]] in ("fp16", "bf16"))
    four = of(lambda one: one.metric == DECODE and FORMATS[one.row["weight_dtype"]] == "w4a16")
    single = of(lambda one: one.metric == SATURATED and one.row["num_gpus"] == "1")
    pcie = of(lambda one: one.metric == SATURATED and one.on == "a100-80-pcie" and one.row["num_gpus"] == "8")
    l40s = of(lambda one: one.metric == SATURATED and one.on == "l40s" and one.row["num_gpus"] == "8")
    amd = of(lambda one: one.metric == BATCH and one.on == "mi300x")
    cpp = of(lambda one: one.metric == PREFILL and one.row["engine"] == "llama.cpp")
    fast = sum(one.ratio > 1 for one in outcomes if one.metric != STEP) / sum(one.metric != STEP for one in outcomes)
    return (
        f"The forecast is of a good engine, and most engines are slower: {fast:.0%} of the comparisons are too fast. "
        f"It is close where an engine is close to the hardware: the time per token of TensorRT-LLM is {trt[0]:.0%} off "
        "(median; all of it one 8B model on H100, from one table of NVIDIA's), 16-bit decode of one stream "
        f"{plain[0]:.0%}, saturated throughput of one device {single[0]:.0%}. It says "
        f"little of an engine that is not: decode in 4 bits is {four[1]:.2f} times too fast, prefill of llama.cpp "
        f"{cpp[1]:.2f} times, vLLM and TGI of 2024 on MI300X {amd[1]:.2f} times; a factor for each engine would help, "
        "and there is none yet. Time per token under load is no decode step: held against the step alone, "
        f"TensorRT-LLM's rows are {step[0]:.0%} off, because the prompts of other requests are computed in between. "
        "Tensor parallelism over PCIe is the weakest part, in both directions: eight A100 PCIe are forecast "
        f"{pcie[1]:.2f} times too fast, at a nominal P2P rate, and eight L40S at {l40s[1]:.2f} of what was measured, "
        "from one host's measured all-reduce of 1.45 GB/s; the rows themselves need at least 12.6 GB/s (160 reductions "
        "of 16 KiB for each of 2,750 tokens/s). At the edge of memory, where a GiB decides how many sequences run, "
        "the error is two- to fivefold either way."
    )


def page(outcomes: Sequence[Outcome], left_out: Mapping[str, Sequence[Row]], num_rows: int) -> str:
    sections: list[str] = []
    for metric in FORECASTS:
        table = by_hardware(one for one in outcomes if one.metric == metric)
        sections += [f"## {metric.capitalize()}, by device", "", *table, ""]
    num_compared = num_rows - sum(map(len, left_out.values()))
    return "\n".join(
        [
            "# Forecasts of `farthing plan` beside published measurements",
            "",
            f"{datetime.now(UTC):%Y-%m-%d} · command: `{COMMAND}`",
            "",
            INTRODUCTION.format(
                num_rows=num_rows, num_compared=num_compared, num_too_large=len(left_out.get(NO_ROOM, ())) or "none"
            ),
            "",
            *head(outcomes),
            "",
            "## What this says",
            "",
            what_it_says(outcomes),
            "",
            f"## The {NUM_WORST} settings furthest off",
            "",
            "Of each metric, engine and hardware the row with the largest factor, time per token by the request. The "
            "last column is a reading, not a measurement.",
            "",
            *worst(outcomes),
            "",
            *sections,
            f"## The {num_rows - num_compared} rows left out",
            "",
            "| reason | rows |",
            "|---|---|",
            *(f"| {reason} | {len(rows)} |" for reason, rows in sorted(left_out.items(), key=_most_first)),
            "",
        ]
    )


def _most_first(pair: tuple[str, Sequence[Row]]) -> int:
    return -len(pair[1])


INTRODUCTION = """\
{num_compared} of {num_rows} measured rows (vendors' tables, READMEs, issues) name hardware of the catalogue, a
published model and a format, and are planned with the layout, lengths and batch that they state. Of these the
plan calls {num_too_large} too large for the devices on which they ran. The measurements are other people's and are not
in the repository. Nothing was fitted to them here. Not all of them are independent of the plan: its seconds per kernel
and per small all-reduce are of NVIDIA's planner, whose repository also holds the times per token on H100 and H200.

All are speeds, in tokens/s: a time per token counts as its inverse, a latency of a whole batch as the tokens of its
answers over it. The error is |forecast / measured - 1|; above 1 the forecast is too fast. p90: nine of ten errors are
no larger. Taken where a row is silent: all of the memory, P2P as the catalogue says, prompts in steps of 2,048 tokens,
an empty context, up to 2,048 sequences where TensorRT-LLM is saturated, bf16 for the rows of NVIDIA that name no
format. Q4_K_M, Q4_0, AWQ, GPTQ, EXL2 of 4 and 4.5 bits and gpt-fast's int4 are planned as w4a16, which is approximate:
a step reads as much as with Q4_K_M for 8B, 9 % less for 70B. gpt-fast's A100 are limited to 330 W, which the plan does
not know.

A time per token is held against two forecasts: of a decode step, and of a request's time over its tokens, that is with
the prompts of the batch. The second was added after the first had been seen; nothing else was changed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with measured_calibration.csv")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE")
    arguments = parser.parse_args()
    rows = read_rows(arguments.data)
    outcomes, left_out = compare(rows)
    arguments.output.write_text(page(outcomes, left_out, len(rows)), encoding="utf-8")
    print("\n".join(head(outcomes)))


if __name__ == "__main__":
    main()

"""A served trace, simulated: what vLLM measured request by request beside what the simulator says of the same arrivals.

    python scripts/simulate_trace.py --data ../shared/data

`--data` is the folder with calibration_des_requests_rtxpro6000.csv (LLMServingSim's published run; its rows carry no
licence to be copied here). Nothing is fitted to this file: the engine's constants are those of planner/engines, the
limits those that the run was started with. Written to benchmarks/served-trace.md. Needs no torch.
"""

import argparse
import csv
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from farthing.hardware.names import parse_hardware
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.models.spec import Precision
from farthing.planner.engine_pricer import engine_deployment
from farthing.planner.engine_profile import find_engine
from farthing.planner.simulator import Run, simulate
from farthing.planner.spread import Spread
from farthing.planner.workload import recorded
from farthing.quantization.base import resolve

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "served-trace.md"
FILE = "calibration_des_requests_rtxpro6000.csv"
MODEL, FORMAT, ENGINE = "llama-3.1-8b", "bf16", "vllm"
# The run's own settings: the notes of measured_calibration.csv, and the card that the publishers name for this run.
HARDWARE, SEATS, BATCH_TOKENS, CONTEXT = "rtx-pro-6000-server", 128, 2048, 8192
LIMIT = 0.15  # of the means


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one request, in seconds."""

    arrival: float
    first_token: float
    ended: float
    output_tokens: int

    @property
    def ttft(self) -> float:
        return self.first_token - self.arrival

    @property
    def tpot(self) -> float:
        return (self.ended - self.first_token) / (self.output_tokens - 1)

    @property
    def end_to_end(self) -> float:
        return self.ended - self.arrival


def measured(rows: Sequence[dict[str, str]]) -> list[Timing]:
    return [
        Timing(
            float(row["arrival_s"]),
            float(row["first_token_s"]),
            float(row["last_token_s"]),
            int(row["output_toks"]),
        )
        for row in rows
    ]


def simulated(rows: Sequence[dict[str, str]], engine: str, hardware: str) -> tuple[Run, list[Timing]]:
    published = find_published(MODEL)
    assert published is not None
    precision = Precision.of(resolve(FORMAT, "cuda"))
    deployment = engine_deployment(
        describe(ConfigReader(published.config, published.name), precision),
        parse_hardware(hardware).devices,
        find_engine(engine),
        context=CONTEXT,
        max_num_seqs=SEATS,
        max_batch_tokens=BATCH_TOKENS,
    )
    lines = [(float(row["arrival_s"]), int(row["input_toks"]), int(row["output_toks"])) for row in rows]
    run = simulate(recorded(lines, FILE), deployment)
    return run, [Timing(one.arrival, one.first_token, one.ended, one.output_tokens) for one in run.outcomes]


def figures(timings: Sequence[Timing]) -> dict[str, float]:
    """The figures that are compared, in seconds and tokens a second."""
    found: dict[str, float] = {}
    for name, values in (
        ("time to first token", [one.ttft for one in timings]),
        ("time per output token", [one.tpot for one in timings]),
        ("end to end", [one.end_to_end for one in timings]),
    ):
        spread = Spread.of(values)
        for which, value in (("mean", spread.mean), ("p50", spread.p50), ("p90", spread.p90), ("p99", spread.p99)):
            assert value is not None
            found[f"{name}, {which}"] = value
    begin, end = min(one.arrival for one in timings), max(one.ended for one in timings)
    found["output tokens a second"] = sum(one.output_tokens for one in timings) / (end - begin)
    return found


def table(told: dict[str, float], forecast: dict[str, float]) -> Iterator[str]:
    yield "| figure | measured | simulated | error |"
    yield "|---|--:|--:|--:|"
    for name, value in told.items():
        text = _shown(name, value), _shown(name, forecast[name])
        bold = "**" if name.endswith("mean") else ""
        yield f"| {bold}{name}{bold} | {text[0]} | {text[1]} | {bold}{forecast[name] / value - 1:+.1%}{bold} |"


def _shown(name: str, value: float) -> str:
    if name.startswith("output tokens"):
        return f"{value:,.0f}"
    return f"{1e3 * value:.1f} ms" if name.startswith("time per") else f"{value:.2f} s"


def one_by_one(told: Sequence[Timing], forecast: Sequence[Timing]) -> str:
    """How far single requests are off, not only their mean."""
    errors = sorted(abs(ours.end_to_end / theirs.end_to_end - 1) for theirs, ours in zip(told, forecast, strict=True))
    waits = sorted(abs(ours.ttft - theirs.ttft) for theirs, ours in zip(told, forecast, strict=True))
    return (
        f"Request by request: end to end is off by {errors[len(errors) // 2]:.1%} in the median and by "
        f"{errors[int(0.9 * len(errors))]:.1%} at the ninth decile; the first token by "
        f"{waits[len(waits) // 2]:.2f} s in the median."
    )


def page(told: Sequence[Timing], forecast: Sequence[Timing], run: Run, seconds: float) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    ours, theirs = figures(forecast), figures(told)
    worst = max(abs(ours[name] / theirs[name] - 1) for name in theirs if name.endswith("mean"))
    kept = "within" if worst <= LIMIT else "NOT within"
    totals = run.totals[0]
    lines = [
        "# A served trace, simulated",
        "",
        f"Llama-3.1-8B in bf16 under vLLM 0.19 on one RTX PRO 6000: {len(told)} requests of ShareGPT's lengths, ten a "
        f"second at random, measured request by request by the authors of LLMServingSim "
        "(github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000). The simulator gets the arrivals and the "
        f"lengths, vLLM's profile ({SEATS} places, {BATCH_TOKENS:,} tokens a step as the run was started; KV room and "
        f"speed by planner/engines/vllm.toml and fitted.toml) and the card as the catalogue has it (`{HARDWARE}`).",
        "",
        f"The means are {kept} {LIMIT:.0%}: the largest error is {worst:.1%}.",
        "",
        *table(theirs, ours),
        "",
        one_by_one(told, forecast),
        "",
        f"In the simulation {totals.peak_running} requests run at a time at most and {totals.peak_waiting} wait; "
        f"mean prompt {fmean(one.request.input_tokens for one in run.outcomes):.0f}, mean answer "
        f"{fmean(one.output_tokens for one in run.outcomes):.0f} tokens. The queue forms because requests come faster "
        "than they are answered: an error of a step's time comes out several times as large in the wait.",
        "",
        f"`python scripts/simulate_trace.py --data DIR`, commit {commit}, {datetime.now(UTC):%Y-%m-%d}, "
        f"{seconds:.1f} s of one CPU core.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"the folder with {FILE}")
    parser.add_argument("--engine", default=ENGINE, help="another profile; then nothing is written")
    parser.add_argument("--on", default=HARDWARE, help="another card; then nothing is written")
    flags = parser.parse_args(arguments)
    with (flags.data / FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    began = time.process_time()
    run, forecast = simulated(rows, flags.engine, flags.on)
    text = page(measured(rows), forecast, run, time.process_time() - began)
    print(text)
    if (flags.engine, flags.on) == (ENGINE, HARDWARE):
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A served trace, simulated: what vLLM measured request by request beside what the simulator says of the same arrivals.

    python scripts/simulate_trace.py --data ../shared/data

`--data` is the folder with calibration_des_requests_rtxpro6000.csv (LLMServingSim's published run; its rows carry no
licence to be copied here). Nothing is fitted to it. It is simulated twice: with steps priced by single operators, and
with the constants that were fitted to published runs of the engine. Written to benchmarks/served-trace.md, or where
`--output` says. Needs no torch.
"""

import argparse
import csv
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from farthing.hardware.names import parse_hardware
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.models.spec import Precision
from farthing.planner.engines.engine_pricer import engine_deployment
from farthing.planner.engines.engine_profile import EngineProfile, find_engine
from farthing.planner.engines.operator_profile import by_operators
from farthing.planner.simulation.simulator import Run, simulate
from farthing.planner.simulation.workload import recorded
from farthing.planner.timing.device_class import device_class, format_class
from farthing.quantization.base import resolve
from farthing.spread import Spread

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


def measured(rows: Sequence[Mapping[str, str]]) -> list[Timing]:
    return [
        Timing(
            float(row["arrival_s"]),
            float(row["first_token_s"]),
            float(row["last_token_s"]),
            int(row["output_toks"]),
        )
        for row in rows
    ]


def simulated(rows: Sequence[Mapping[str, str]], engine: EngineProfile, hardware: str) -> tuple[Run, list[Timing]]:
    published = find_published(MODEL)
    assert published is not None
    precision = Precision.of(resolve(FORMAT, "cuda"))
    deployment = engine_deployment(
        describe(ConfigReader(published.config, published.name), precision),
        parse_hardware(hardware).devices,
        engine,
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


def table(told: dict[str, float], by_class: dict[str, float], by_operators: dict[str, float]) -> Iterator[str]:
    yield "| figure | measured | simulated, by operators | error | by published runs | error |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, value in told.items():
        bold = "**" if name.endswith("mean") else ""
        cells = [f"{bold}{name}{bold}", _shown(name, value)]
        for found in (by_operators, by_class):
            cells += [_shown(name, found[name]), f"{bold}{found[name] / value - 1:+.1%}{bold}"]
        yield f"| {' | '.join(cells)} |"


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


def worst_mean(told: dict[str, float], found: dict[str, float]) -> float:
    return max(abs(found[name] / value - 1) for name, value in told.items() if name.endswith("mean"))


def _is_kept(error: float) -> str:
    return f"{'within' if error <= LIMIT else 'NOT within'} {LIMIT:.0%} (the largest error is {error:.1%})"


def page(
    told: Sequence[Timing],
    runs: Mapping[str, tuple[Run, list[Timing]]],
    profiles: Mapping[str, EngineProfile],
    seconds: float,
) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    theirs = figures(told)
    by_class, by_operators_ = (figures(runs[name][1]) for name in ("class", "operators"))
    run, forecast = runs["operators"]
    totals, (card,) = run.totals[0], parse_hardware(HARDWARE).devices
    kind = device_class(card), format_class(resolve(FORMAT, "cuda"))
    shares = {name: asdict(profile.efficiency(*kind)) for name, profile in profiles.items()}
    lines = [
        "# A served trace, simulated",
        "",
        f"Llama-3.1-8B in bf16 under vLLM 0.19 on one RTX PRO 6000: {len(told)} requests of ShareGPT's lengths, ten a "
        "second at random, measured request by request by the authors of LLMServingSim "
        "(github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000). The simulator gets the arrivals and the "
        f"lengths, vLLM's profile ({SEATS} places and {BATCH_TOKENS:,} tokens a step, as the run was started) and the "
        f"card as the catalogue has it (`{HARDWARE}`). Nothing is fitted to the trace.",
        "",
        "Steps are priced twice. *By operators* (`--engine vllm --by-operators`): products and attention reach what "
        "single kernels were timed to reach on cards of this class, and the host's times have sources of their own "
        "(planner/engines/operator_profile.py): no served load is in it. *By published runs* (`--engine vllm`): with "
        "the "
        "constants that were fitted to what whole engines were measured at. By operators the means are "
        f"{_is_kept(worst_mean(theirs, by_operators_))}; by runs {_is_kept(worst_mean(theirs, by_class))}.",
        "",
        *table(theirs, by_class, by_operators_),
        "",
        one_by_one(told, forecast),
        "",
        f"In the simulation {totals.peak_running} requests run at a time at most and {totals.peak_waiting} wait; "
        f"mean prompt {fmean(one.request.input_tokens for one in run.outcomes):.0f}, mean answer "
        f"{fmean(one.output_tokens for one in run.outcomes):.0f} tokens. The queue forms because requests come faster "
        "than they are answered: an error of a step's time comes out several times as large in the wait.",
        "",
        "| constant | by operators | by published runs |",
        "|---|--:|--:|",
        *(f"| {name} | {shares['operators'][name]:.3g} | {value:.3g} |" for name, value in shares["class"].items()),
        "",
        f"`python scripts/simulate_trace.py --data DIR`, commit {commit}, {datetime.now(UTC):%Y-%m-%d}, "
        f"{seconds:.1f} s of one CPU core.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"the folder with {FILE}")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page to write (benchmarks/served-trace.md)")
    flags = parser.parse_args(arguments)
    with (flags.data / FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    began, engine = time.process_time(), find_engine(ENGINE)
    profiles = {"class": engine, "operators": by_operators(engine)}
    runs = {name: simulated(rows, profile, HARDWARE) for name, profile in profiles.items()}
    text = page(measured(rows), runs, profiles, time.process_time() - began)
    print(text)
    flags.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

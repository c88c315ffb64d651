"""What measuring costs, and whether the ledger adds up: the bundled model and a random one, measured and not, in turn.

    python benchmarks/server/measuring.py [PAGE.md] [--rounds 5]

One run on one machine, on the main thread of one process. Every round times the same requests with the
ledger on and with it off, and the order alternates. "Parts / clock" holds the sum of the ledger's parts against a clock
around the same steps. The share of the limit must stay below 1 plus the spread of the probe.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from farthing.engine.accounts.accountant import Accountant
from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine, _pricer
from farthing.engine.plan import plan_engine
from farthing.engine.plan_line import measured
from farthing.engine.request import Request
from farthing.hardware.calibration import cpu_key
from farthing.sampling_params import SamplingParams

SMOLLM2_135M = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


@dataclass
class Figures:
    """Tokens per second of each round, on and off; and of the rounds on, what the ledger says."""

    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    parts_by_clock: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=lambda: {"prefill": [], "decode": []})


def run(engine: Engine, batch: int, output: int, seed: int) -> float:
    """Seconds of `batch` requests of 64 tokens in and `output` out."""
    params = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
    for index in range(batch):
        ids = tuple((seed * 131 + index * 17 + place) % 1000 + 5 for place in range(64))
        engine.add(Request(f"{seed}-{index}", ids, params, seed=index))
    started = time.monotonic()
    while engine.has_unfinished:
        engine.step()
    return time.monotonic() - started


def measure(engine: Engine, batch: int, output: int, rounds: int) -> Figures:
    figures = Figures()
    measuring, plain = engine.accountant, Accountant(None, engine.scheduler, engine._executor)
    run(engine, batch, output, 0)
    for number in range(1, rounds + 1):
        for on in (True, False) if number % 2 else (False, True):
            engine.accountant = measuring if on else plain
            measuring.ledger.reset()
            seconds = run(engine, batch, output, 2 * number + on)
            (figures.on if on else figures.off).append(batch * output / seconds)
            if on:
                total = measuring.ledger.total
                figures.parts_by_clock.append(sum(total.parts.values()) / seconds)
                for name, phase in total.phases.items():
                    figures.shares[name].append(phase.share_of_limit or 0.0)
    engine.accountant = measuring
    return figures


def row(name: str, batch: int, figures: Figures, spread: float) -> str:
    ratios = [a / b for a, b in zip(figures.on, figures.off, strict=True)]
    worst = max((abs(value - 1) for value in figures.parts_by_clock), default=0.0)
    shares = [max(figures.shares[phase]) for phase in ("prefill", "decode")]
    return (
        f"| {name} | {batch} | {statistics.median(figures.off):,.0f} | {statistics.median(figures.on):,.0f} | "
        f"{statistics.median(ratios):.4f} ({min(ratios):.3f} to {max(ratios):.3f}) | {worst:.2%} | "
        f"{shares[0]:.0%} | {shares[1]:.0%} | {spread:.0%} |"
    )


def page(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SMOLLM2_135M))
        lines = []
        for name, model, options in (
            ("bundled", "bundled", {}),
            ("135M, random weights", folder, {"weights": "random", "context": 512}),
        ):
            plan = measured(plan_engine(model, EngineConfig(**options)))
            assert plan.calibration is not None and _pricer(plan) is not None
            spread = max(point.spread for point in (*plan.calibration.bandwidth, *plan.calibration.gemm))
            engine = Engine(plan, with_template=False)
            for batch, output in ((1, 200), (16, 100)) if model == "bundled" else ((1, 40), (16, 40)):
                lines.append(row(name, batch, measure(engine, batch, output, rounds), spread))
                print(lines[-1], flush=True)
            engine.close()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    key = cpu_key()
    return "\n".join(
        [
            "# What measuring costs, and whether the ledger adds up",
            "",
            f"`python benchmarks/server/measuring.py --rounds {rounds}`, {time.strftime('%Y-%m-%d')}, commit "
            f"{commit.stdout.strip()}, {key.name}, {key.num_cores} cores, {key.versions}, Python "
            f"{platform.python_version()}. Medians of the rounds, on and off in turn.",
            "",
            "| model | batch | tok/s, not measured | measured | on / off, median (range) | parts / clock, worst | "
            "share of limit, prefill | decode | spread of the probe |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            "Targets: on / off at least 0.98 on the bundled model; parts within 2 % of the clock; shares at most 100 % "
            "plus the spread.",
            "",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    text = page(arguments.rounds)
    if arguments.page is not None:
        arguments.page.write_text(text, encoding="utf-8")
    print(text)

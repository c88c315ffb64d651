"""Seconds from `LLM(...)` to the first token, phase by phase, with libraries imported and the file in the page cache.

Usage: python benchmarks/cpu/start.py FOLDER [--formats bf16,int8,int4] [--rounds N]
Each start is a process of its own, and the formats take turns; figures are medians. Formats that are rounded start
without kept weights and with them; the first round, which keeps them, is not counted. `command` is the whole
`farthing run` with one token, from process start to its end.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time

import torch

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.llm import LLM
from farthing.engine.plan import plan_engine
from farthing.sampling_params import SamplingParams

PHASES = ("plan", "text", "weights", "KV, tape", "first token", "in all")
CLAIMED_BYTES = 4 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--formats", default="bf16,int8,int4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=("kept", "new"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(phases(asked.folder, asked.formats, cache=asked.one == "kept")))
        return
    starts = [
        (name, kept) for name in asked.formats.split(",") for kept in ("new", "kept") if kept == "new" or "int" in name
    ]
    found: dict[tuple[str, str], list[list[float]]] = {start: [] for start in starts}
    for number in range(asked.rounds + 1):
        for name, kept in starts:
            seconds = [*started(asked.folder, name, kept), command(asked.folder, name, kept)]
            if number:
                found[name, kept].append(seconds)
    print(f"| start | {' | '.join(PHASES)} | command |\n|---|{'--:|' * (len(PHASES) + 1)}")
    for (name, kept), rounds in found.items():
        medians = " | ".join(f"{statistics.median(values):.2f}" for values in zip(*rounds, strict=True))
        print(f"| {name}{', kept weights' if kept == 'kept' else ''} | {medians} |")


def started(folder: str, name: str, kept: str) -> list[float]:
    """The phases of one start in a process of its own."""
    claim_memory()
    arguments = [sys.executable, __file__, folder, "--formats", name, "--one", kept]
    return list(json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout))


def command(folder: str, name: str, kept: str) -> float:
    claim_memory()
    cache = [] if kept == "kept" else ["--no-cache"]
    arguments = [
        "-m",
        "farthing",
        "run",
        "-m",
        folder,
        "-p",
        "Once upon",
        "--max-tokens",
        "1",
        "--format",
        name,
        *cache,
    ]
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - begin


def claim_memory() -> None:
    """A virtual machine that has given free memory back to its host gets it again, so that no start waits for it."""
    torch.empty(CLAIMED_BYTES, dtype=torch.uint8).zero_()


def phases(folder: str, name: str, *, cache: bool) -> list[float]:
    marks = [time.perf_counter()]
    plan = plan_engine(folder, EngineConfig(format=name, cache=cache))
    marks.append(time.perf_counter())
    loaded: list[float] = []
    engine = Engine(plan, lambda done, total: loaded.append(time.perf_counter()))
    marks += [loaded[0], loaded[-1], time.perf_counter()]
    with LLM(engine=engine) as llm:
        llm.generate([[5, 6, 7, 8]], SamplingParams(temperature=0.0, max_tokens=1))
        marks.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(marks)] + [marks[-1] - marks[0]]


if __name__ == "__main__":
    main()

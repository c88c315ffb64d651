"""What a GPU reaches and what Farthing reaches on it, in one run of at most 8 minutes.

    python benchmarks/gpu.py --output benchmarks/gpu/PAGE.md

Checks the kernels against the reference, measures the machine's peaks and its calibration, and in bf16, FP8, int4 and,
if time is left, int8 Llama-3.1-8B's shape with random weights: time until it answers, memory beside the plan, decode
and prefill beside floor and forecast, continuous batching; greedy answers beside the CPU's, what --batch-invariant
costs, and transformers on the same shape. Each part runs in a process of its own, within its share of the time. Writes
the page, JSON of the same name, which grows with every figure, a picture, and the calibration file. Progress is on
standard error. Needs a checkout, torch with CUDA, Triton, the packages of benchmarks/gpu-wheels.txt, and a card with
nothing else to do; downloads nothing. `--from JSON` makes page and picture anew where matplotlib is at hand.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from on_gpu.page import page
from on_gpu.parts import PARTS, ROOT, Part, run_tests, run_worker, seconds_for, test_files, tests_row
from on_gpu.results import Results

_LAST_SECONDS = 5.0  # for the page and its picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the page to write; all else lies beside it")
    parser.add_argument("--minutes", type=float, default=8.0, help="that it may take")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--only", action="append", metavar="PART", choices=[part.name for part in PARTS])
    parser.add_argument("--quick", action="store_true", help="a tiny model, also on a CPU: to see that all runs")
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="measure nothing: figures of a run")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if arguments.source is not None:
        results = Results.read(arguments.source)
    else:
        results = Results(_about(arguments))
        Run(arguments, results).measure()
    _write_page(results, arguments.output, is_last=True)
    print(arguments.output.read_text(encoding="utf-8"))


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    flags = [f"--minutes {arguments.minutes:g}", *["--quick"] * arguments.quick]
    flags += [f"--only {name}" for name in arguments.only or ()]
    flags += [f"--device {arguments.device}"] * (arguments.device != "auto")
    git = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    return {
        "command": f"python benchmarks/gpu.py --output PAGE.md {' '.join(flags)}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit or "unknown",
        "is_quick": arguments.quick,
    }


class Run:
    """Part after part into `results`, which lie on the disk with every row."""

    def __init__(self, arguments: argparse.Namespace, results: Results) -> None:
        self._arguments, self._results = arguments, results
        self._json = arguments.output.with_suffix(".json")
        self._end = time.monotonic() + 60 * arguments.minutes - _LAST_SECONDS

    def measure(self) -> None:
        chosen = [part for part in PARTS if self._arguments.only is None or part.name in self._arguments.only]
        with tempfile.TemporaryDirectory(prefix="farthing-gpu-") as scratch:
            for index, part in enumerate(chosen):
                seconds = seconds_for(chosen, index, self._end - time.monotonic())
                begin = time.monotonic()
                if seconds is None:
                    why: str | None = "not measured: time was short"
                else:
                    sys.stderr.write(f"{self._end - begin:5.0f} s left  {part.name}, at most {seconds:.0f} s\n")
                    why = self._measure(part, seconds, Path(scratch))
                self._results.parts.append({"name": part.name, "seconds": time.monotonic() - begin, "why": why})
                self._results.write(self._json)
                _write_page(self._results, self._arguments.output, is_last=False)

    def _measure(self, part: Part, seconds: float, scratch: Path) -> str | None:
        """Why it was not measured, or not all of it."""
        if part.arguments is None:
            return self._check_kernels(seconds)
        num_rows, num_problems = len(self._results.rows), len(self._results.of("problem"))
        why = run_worker(part, seconds, scratch, self._arguments.device, self._take, is_quick=self._arguments.quick)
        for row in self._results.of("calibration"):
            if (scratch / row["file"]).is_file():
                shutil.copy(scratch / row["file"], self._arguments.output.parent)
        left_out = len(self._results.of("problem")) - num_problems
        if len(self._results.rows) - num_rows == left_out:
            return why or "not measured, see below"
        return why or (f"measured, but for {left_out} of its cases: see below" if left_out else None)

    def _check_kernels(self, seconds: float) -> str | None:
        environment = self._results.one("environment")
        if environment is None or environment["kind"] != "cuda":
            return "not measured: these tests need a CUDA device"
        lines: list[str] = []
        with self._json.with_suffix(".kernels.txt").open("w", encoding="utf-8") as file:

            def take(line: str) -> None:
                print(line, file=file, flush=True)  # whole, for whoever asks what failed
                lines.append(line)

            why = run_tests(test_files(), seconds, take)
        self._take(tests_row(lines, why))
        return why

    def _take(self, row: dict[str, Any]) -> None:
        self._results.rows.append(row)
        self._results.write(self._json)


def _write_page(results: Results, output: Path, *, is_last: bool) -> None:
    """The picture, for which matplotlib is loaded, comes last."""
    picture = output.with_suffix(".png")
    is_drawn = False
    if is_last:
        try:
            is_drawn = import_module("on_gpu.picture").draw(results, picture)
        except ImportError:
            sys.stderr.write(f"no picture: matplotlib is missing; --from {output.with_suffix('.json').name} draws it\n")
    output.write_text(page(results, picture.name if is_drawn else None), encoding="utf-8")


if __name__ == "__main__":
    main()

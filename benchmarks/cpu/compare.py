"""Farthing beside llama.cpp and transformers on this CPU, in one run: rounds of all systems in turn, medians, a page.

Usage: python benchmarks/cpu/compare.py PAGE.md [--rounds 3] [--big CHECKPOINT_DIR MODEL-f16.gguf]
Needs: farthing[test], llama-cpp-python built for this CPU (CMAKE_ARGS=-DGGML_NATIVE=ON). The bundled model is always
timed; --big adds a checkpoint and the f16 GGUF of the same weights (a folder without a tokenizer takes the bundled one:
copy tokenizer.json there; token ids are random anyway). Quote ratios: the machine drifts, the turns do not.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from farthing.hardware.calibration import Calibration, save
from farthing.models.reference import find_model
from farthing.runtime.probe import probe

HERE = Path(__file__).parent
Figures = dict[str, dict[str, float]]  # by system and format: the median of each figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big", nargs=2, metavar=("CHECKPOINT_DIR", "GGUF"))
    arguments = parser.parse_args()
    print("measuring the machine ...", file=sys.stderr)
    calibration = probe("cpu", quick=False, progress=lambda what, share: None)
    save(calibration)
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        small = str(Path(folder) / "bundled.gguf")
        subprocess.run([sys.executable, HERE / "write_gguf.py", find_model("bundled").path, small], check=True)
        sections.append(
            (
                "bundled model (3.5 M parameters)",
                compare(str(find_model("bundled").path), small, 50, arguments.rounds, invariant=True),
            )
        )
        if arguments.big:
            sections.append(("1.1 B LLaMA, random weights", compare(*arguments.big, 8, arguments.rounds)))
    page = render(calibration, sections, arguments.rounds)
    arguments.page.write_text(page)
    print(page)


def compare(checkpoint: str, gguf: str, num_steps: int, rounds: int, *, invariant: bool = False) -> Figures:
    """Every system in turn, `rounds` times; the median of each figure."""
    runs = [
        ("farthing", checkpoint, "bf16"),
        ("llama.cpp", gguf, "bf16"),
        ("transformers", checkpoint, "bf16"),
        *([("farthing", checkpoint, "bf16+invariant")] if invariant else []),
        ("farthing", checkpoint, "fp32"),
    ]
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        for system, model, weight_format in runs:
            print(f"{datetime.now(UTC):%H:%M:%S} round {number + 1}: {system} {weight_format}", file=sys.stderr)
            command = [sys.executable, HERE / "time_one.py", system, model, weight_format, str(num_steps)]
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if result.returncode:
                print(f"  failed with code {result.returncode}: left out", file=sys.stderr)
                continue
            found.setdefault(f"{system} {weight_format}", []).append(json.loads(result.stdout.splitlines()[-1]))
    return {
        name: {figure: statistics.median(run[figure] for run in results) for figure in results[0]}
        for name, results in found.items()
    }


def render(calibration: Calibration, sections: list[tuple[str, Figures]], rounds: int) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout
    device = calibration.device
    lines = [
        "# CPU: Farthing beside llama.cpp and transformers",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · {device.name}, {device.num_cores} cores · "
        f"Python {platform.python_version()} · {device.versions} · transformers {version('transformers')} · "
        f"llama-cpp-python {version('llama_cpp_python')}",
        "",
        f"Command: `python benchmarks/cpu/compare.py PAGE.md --rounds {rounds} --big CHECKPOINT_DIR GGUF`. Tokens/s, "
        f"medians of {rounds} rounds of all systems in turn, the peers on two threads, Farthing on as many as it "
        "chooses (one for the bundled model). Prefill of 512 tokens (bundled: 510), decode after 32 tokens. "
        "`+invariant` is `--batch-invariant` (small model only: its prefill reads all weights once a token).",
        "",
        f"Measured limits of the machine (`farthing probe`): memory {calibration.read_bandwidth(2**30) / 1e9:.1f} GB/s "
        f"at 1 GiB, bf16 {calibration.flops_per_second('bf16', 512) / 1e9:.0f} GFLOP/s and fp32 "
        f"{calibration.flops_per_second('fp32', 512) / 1e9:.0f} GFLOP/s at 512 rows.",
    ]
    for title, figures in sections:
        columns = [name for name in figures["farthing bf16"] if name.startswith(("prefill", "decode"))]
        lines += ["", f"## {title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, values in figures.items():
            lines.append(f"| {name} | {' | '.join(f'{values[column]:,.1f}' for column in columns)} |")
        ours = figures["farthing bf16"]
        for peer in ("llama.cpp bf16", "transformers bf16"):
            ratios = " | ".join(f"{ours[column] / figures[peer][column]:.2f}x" for column in columns)
            lines.append(f"| **farthing / {peer}** | {ratios} |")
        for name in ("farthing bf16", "farthing fp32"):
            values = figures[name]
            lines += [
                "",
                f"{name}, decode at batch 1: {values['share of limit b1']:.0%} of the measured limit; forecast "
                f"{values['forecast b1']:,.1f} tok/s, measured {values['decode b1']:,.1f} "
                f"(forecast / measured {values['forecast b1'] / values['decode b1']:.2f}).",
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""A worker: one part of the measuring in a process of its own, so that what breaks a device's context, or hangs, ends
one part alone. Rows of figures, a line of JSON each, go to standard output (reporting.py).
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("environment", "calibration", "model", "invariant", "greedy", "transformers"))
    parser.add_argument("--folder", type=Path, required=True, help="where files of this run lie")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--format", default="bf16")
    parser.add_argument("--mixed", action="store_true", help="continuous batching, too")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    report = import_module("on_gpu.reporting").Reporter(arguments.seconds)
    with report.telling(f"{arguments.part} {arguments.format if arguments.part == 'model' else ''}".strip()):
        _measure(arguments, report)


def _measure(arguments: argparse.Namespace, report: Any) -> None:
    """What a part needs is imported for it alone: transformers may be missing, and takes seconds."""
    sizes_of = import_module("on_gpu.sizes")
    sizes = sizes_of.quick(arguments.folder) if arguments.quick else sizes_of.FULL
    device = import_module("farthing.runtime.device").open_device(arguments.device)
    part, folder = arguments.part, arguments.folder
    if part == "environment":
        import_module("on_gpu.machine_part").environment_part(device, report, is_quick=arguments.quick)
    elif part == "calibration":
        import_module("on_gpu.machine_part").calibration_part(device, folder, report, is_quick=arguments.quick)
    elif part == "greedy":
        import_module("on_gpu.greedy_part").greedy_part(device, sizes.greedy_tokens, report)
    elif part == "transformers":
        import_module("on_gpu.transformers_part").transformers_part(sizes, device, report)
    else:
        module = import_module("on_gpu.model_part")
        is_invariant = part == "invariant"
        model = module.ModelPart(
            sizes,
            arguments.format,
            device,
            folder,
            report,
            import_seconds=time.perf_counter() - BEGIN,
            batch_invariant=is_invariant,
        )
        model.fill()
        model.decode(sizes.peers if is_invariant else None)
        if not is_invariant:
            model.prefill()
        if arguments.mixed:
            model.mixed()


if __name__ == "__main__":
    main()

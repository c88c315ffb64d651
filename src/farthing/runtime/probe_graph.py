"""What a GPU reaches with the kernels that the engine computes with, as the engine starts them: products in every
format by rows, replayed from a graph, so that what Python takes to start them is not timed. What a call of a graph
costs beside its work is probe_graph_calls.py's. Knows no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from farthing.hardware.calibration import GemmPoint
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.select import select_kernels
from farthing.kernels.weight import TORCH_DTYPES, Weight
from farthing.quantization.base import WeightFormat, resolve
from farthing.runtime.graph import captured
from farthing.runtime.probe_timing import Case, Progress, Timing, part, time_all

_FORMATS = ("bf16", "fp8", "w8a16", "w4a16")
_ACTIVATIONS = "bf16"


@dataclass(frozen=True, slots=True)
class Extent:
    """`num_bytes`: of the weights that are read in turn, more than any cache holds. `width`: of each matrix."""

    rows: tuple[int, ...]
    width: int
    num_bytes: int
    product_seconds: float


QUICK = Extent((1, 16, 512), width=4096, num_bytes=2**28, product_seconds=1.0)
FULL = Extent((1, 4, 16, 64, 256, 1024, 8192), width=8192, num_bytes=2**29, product_seconds=15.0)


def graph_kernels(device: torch.device) -> dict[str, ReferenceKernels]:
    """By weight format the kernels whose decode steps the engine captures here; none where it captures nothing."""
    found = {}
    for name in _FORMATS if device.type == "cuda" else ():
        kernels = select_kernels(
            device_kind=device.type,
            batch_invariant=False,
            weight_formats=[(name, FULL.width)],
            activation_dtype=_ACTIVATIONS,
            kv_dtype=_ACTIVATIONS,
            num_threads=1,
        )
        if kernels.skips_padding:
            found[name] = kernels
    return found


@torch.inference_mode()
def measure_products(
    device: torch.device, kernels: dict[str, ReferenceKernels], extent: Extent, progress: Progress
) -> tuple[GemmPoint, ...]:
    """A format at a time, for the memory of its weights. Those that a device can't multiply are left out."""
    points: list[GemmPoint] = []
    for index, (name, backend) in enumerate(kernels.items()):
        share = part(progress, f"products in {name}", index / len(kernels), (index + 1) / len(kernels))
        weight_format = resolve(name, device.type)
        weights = _weights(device, backend, weight_format, extent)
        num_bytes = len(weights) * weight_format.nbytes(extent.width, extent.width)
        cases: dict[Case, int] = {}
        inputs: list[torch.Tensor] = []  # a graph does not keep what it reads
        for rows in extent.rows:
            x_TK = torch.randn(rows, extent.width, device=device).to(TORCH_DTYPES[_ACTIVATIONS])
            inputs.append(x_TK)
            work = 2 * rows * extent.width**2 * len(weights)
            cases[Case(name, 1, work, _replay(device, _products(backend, weights, x_TK)))] = rows
        timed = time_all(device, list(cases), extent.product_seconds / len(kernels), share)
        points += [_point(weight_format, cases[case], extent.width, num_bytes, case, timing) for case, timing in timed]
    return tuple(points)


def _weights(
    device: torch.device, kernels: ReferenceKernels, weight_format: WeightFormat, extent: Extent
) -> list[Weight]:
    width = extent.width
    count = max(1, -(-extent.num_bytes // weight_format.nbytes(width, width)))
    w_NK = torch.randn(width, width, device=device) * width**-0.5
    weights = []
    for _ in range(count):
        stored = [
            torch.empty(one.shape, dtype=TORCH_DTYPES[one.dtype], device=device)
            for one in weight_format.stored(width, width)
        ]
        weight = Weight(weight_format, width, *stored)
        kernels.write_rows(weight, 0, w_NK)
        weights.append(kernels.prepare(weight))
    return weights


def _products(kernels: ReferenceKernels, weights: Sequence[Weight], x_TK: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        for weight in weights:
            kernels.linear(x_TK, weight)

    return run


def _replay(device: torch.device, run: Callable[[], None]) -> Callable[[], None]:
    """On a CPU the call itself."""
    return captured(run).replay if device.type == "cuda" else run


def _point(weight_format: WeightFormat, rows: int, width: int, num_bytes: int, case: Case, timing: Timing) -> GemmPoint:
    name, math = weight_format.name, weight_format.math
    rate = case.work / timing.seconds
    return GemmPoint(math, rows, width, width, 1, rate, timing.spread, "" if name == math else name, num_bytes)

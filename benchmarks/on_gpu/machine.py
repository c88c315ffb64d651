"""What this GPU is, what its data sheet says, and what it reaches with nothing but a copy or a product."""

from dataclasses import dataclass

import torch
from farthing.hardware.catalog_names import nearest_accelerator

from farthing.hardware.accelerator import Accelerator
from on_gpu.timing import median_seconds

_COPY_BYTES = 4 * 2**30
_WIDTH = 8192
_REPEATS = 20


@dataclass(frozen=True, slots=True)
class Peaks:
    """Measured: bytes/s read and written by a copy, FLOP/s of a square product by dtype."""

    copy_bytes_per_second: float
    flops_per_second: dict[str, float]


def accelerator_of(device: torch.device) -> Accelerator | None:
    """Its entry in the catalogue, for the nominal figures."""
    return nearest_accelerator(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def measure_peaks(device: torch.device, *, small: bool = False) -> Peaks:
    """`small`: sizes for a test of the script itself."""
    num_bytes, width = (2**24, 256) if small else (_COPY_BYTES, _WIDTH)
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * num_bytes / median_seconds(device, lambda: target.copy_(source), _REPEATS)
    del source, target
    flops = {}
    a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    flops["bf16"] = 2 * width**3 / median_seconds(device, lambda: a @ b.t(), _REPEATS)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        one = torch.ones((), device=device)
        x, y = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)

        def multiply() -> object:
            return torch._scaled_mm(x, y.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

        flops["fp8"] = 2 * width**3 / median_seconds(device, multiply, _REPEATS)
    return Peaks(copy, flops)

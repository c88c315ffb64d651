"""What this GPU is, what its data sheet says, and what it reaches with nothing but a copy or a product."""

from dataclasses import dataclass

import torch

from farthing.errors import FarthingError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.names import parse_hardware
from on_gpu.timing import median_seconds

_COPY_BYTES = 4 * 2**30
_WIDTH = 8192
_REPEATS, _CALLS = 10, 4


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes/s of memory and FLOP/s by math, of the data sheet or measured: a copy, read and written, and a product."""

    bytes_per_second: float
    flops_per_second: dict[str, float]


def accelerator_of(device: torch.device) -> Accelerator | None:
    """Its entry in the catalogue; None of a processor, and of a GPU that has none."""
    if device.type != "cuda":
        return None
    try:
        return parse_hardware(torch.cuda.get_device_name(device)).devices[0]
    except FarthingError:
        return None


def sheet_peaks(device: torch.device) -> Peaks | None:
    """Of the data sheet."""
    accelerator = accelerator_of(device)
    if accelerator is None or accelerator.bandwidth is None:
        return None
    return Peaks(accelerator.bandwidth.value, {math: figure.value for math, figure in accelerator.flops.items()})


def measured_peaks(device: torch.device, *, small: bool = False) -> Peaks:
    """Products of random numbers: a GPU multiplies zeros faster. `small`: sizes for a test of the script itself."""
    copied = _copied_bytes_per_second(device, 2**24 if small else _COPY_BYTES)
    width = 256 if small else _WIDTH
    flops = 2 * width**3
    a, b = (torch.randn(width, width, device=device) for _ in range(2))
    found = {"fp32": flops / median_seconds(device, lambda: a @ b.t(), _REPEATS, _CALLS)}
    for math, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        x, y = a.to(dtype), b.to(dtype)
        found[math] = flops / median_seconds(device, lambda x=x, y=y: x @ y.t(), _REPEATS, _CALLS)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        one = torch.ones((), device=device)
        x, y = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)

        def multiply() -> object:
            return torch._scaled_mm(
                x, y.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            )  # as the products of the engine

        found["fp8"] = flops / median_seconds(device, multiply, _REPEATS, _CALLS)
    return Peaks(copied, found)


def _copied_bytes_per_second(device: torch.device, num_bytes: int) -> float:
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / median_seconds(device, lambda: target.copy_(source), _REPEATS, _CALLS)

"""Which weight and KV formats a plan considers on its devices, and the precision that each of them means.

A format counts only where every device multiplies in its math. Knows no sizes: planner/layout.py says what fits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from farthing.errors import UnsupportedError
from farthing.hardware.machine import fast_dtype
from farthing.models.auto import stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device
from farthing.quantization.base import WeightFormat, resolve


def candidate_formats(request: PlanRequest, config: ConfigReader, devices: Sequence[Device]) -> Iterator[WeightFormat]:
    """What `auto` tries, widest first: the checkpoint's own, then 8 bits, then 4. UnsupportedError for a format that is
    asked for and that a device has no fast path for."""
    kind = "cuda" if all(device.kind == "cuda" for device in devices) else "cpu"
    plain = _plain_dtype(config, devices)
    if request.format != "auto":
        asked = _in_math_of(plain, resolve(request.format, kind))
        for device in devices:
            if asked.math in device.unsupported:
                raise UnsupportedError(
                    f"{device.name} has no fast path for {asked.math}", fix="use w8a16, w4a16 or auto"
                )
        yield asked
        return
    for name in (plain, "fp8", "int8", "int4"):
        weight_format = _in_math_of(plain, resolve(name, kind))
        if weight_format.math == plain or all(_has_rate(device, weight_format.math) for device in devices):
            yield weight_format


def _in_math_of(plain: str, weight_format: WeightFormat) -> WeightFormat:
    """Weights that are widened in the product are multiplied in the 16 bits that the devices have."""
    if weight_format.quantized and weight_format.activation_bits == 16:
        return replace(weight_format, math=plain)
    return weight_format


def _plain_dtype(config: ConfigReader, devices: Sequence[Device]) -> str:
    """16 bits, in the kind that the checkpoint has and every device multiplies; fp32 checkpoints are served so too.

    Of kinds whose rate is not known, which no device lacks, the first: memory can be planned, time can't.
    """
    if any(device.is_here for device in devices):
        return fast_dtype(devices[0].kind, stored_dtype(config))  # as the engine does
    names = ("fp16", "bf16") if stored_dtype(config) == "fp16" else ("bf16", "fp16")
    known = [name for name in names if all(_has_rate(device, name) for device in devices)]
    possible = [name for name in names if not any(name in device.unsupported for device in devices)]
    if not known and not possible:
        together = " and ".join(dict.fromkeys(device.name for device in devices))
        raise UnsupportedError(f"{together} have no 16-bit math in common", fix="name other hardware")
    return (known or possible)[0]


def _has_rate(device: Device, math: str) -> bool:
    try:
        device.machine.flops_per_second(math, 1)
    except UnsupportedError:
        return False
    return True


def narrow_kv_format(devices: Sequence[Device]) -> str:
    """The 8 bits of a KV cache that engines have there: int8 on processors, fp8 on all else."""
    return "int8" if all(device.kind == "cpu" for device in devices) else "fp8"


def keeps_kv_in_fp8(device: Device) -> bool:
    """Whether Farthing's own engine does: on GPUs that convert fp8."""
    return device.kind == "cuda" and "fp8" not in device.unsupported


def precision_of(
    request: PlanRequest, weight_format: WeightFormat, config: ConfigReader, devices: Sequence[Device]
) -> Precision:
    activations = _plain_dtype(config, devices) if weight_format.quantized else weight_format.name
    precision = Precision.of(weight_format, activations).with_kv_format(request.kv_format)
    return precision.on_device("cpu") if all(device.kind == "cpu" for device in devices) else precision

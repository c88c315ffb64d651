"""Which weight and KV formats a plan considers on its devices, and the precision that each of them means.

A format counts only where every device multiplies in its math. Knows no sizes: planner/layout.py says what fits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from farthing.errors import UnsupportedError
from farthing.models.auto import stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.planner.device import Device
from farthing.planner.request import PlanRequest
from farthing.quantization.base import WeightFormat, resolve


def candidate_formats(request: PlanRequest, config: ConfigReader, devices: Sequence[Device]) -> Iterator[WeightFormat]:
    """What `auto` tries, widest first: the checkpoint's own, then 8 bits, then 4."""
    kind = "cuda" if all(device.kind == "cuda" for device in devices) else "cpu"
    plain = _plain_dtype(config, devices)
    if request.format != "auto":
        asked = _in_math_of(plain, resolve(request.format, kind))
        for device in devices:
            device.machine.flops_per_second(asked.math, 1)  # UnsupportedError if it has no fast path for it
        yield asked
        return
    for name in (plain, "fp8", "int8", "int4"):
        weight_format = _in_math_of(plain, resolve(name, kind))
        if all(_multiplies(device, weight_format.math) for device in devices):
            yield weight_format


def _in_math_of(plain: str, weight_format: WeightFormat) -> WeightFormat:
    """Weights that are widened in the product are multiplied in the 16 bits that the devices have."""
    if weight_format.quantized and weight_format.activation_bits == 16:
        return replace(weight_format, math=plain)
    return weight_format


def _plain_dtype(config: ConfigReader, devices: Sequence[Device]) -> str:
    """16 bits, in the kind that the checkpoint has and every device multiplies; fp32 checkpoints are served so too."""
    stored = stored_dtype(config)
    for name in ("fp16", "bf16") if stored == "fp16" else ("bf16", "fp16"):
        if all(_multiplies(device, name) for device in devices):
            return name
    names = " and ".join(dict.fromkeys(device.name for device in devices))
    raise UnsupportedError(
        f"no time can be planned on {names}: no common rate in 16 bits is known",
        fix="name other hardware; farthing hardware shows what is known of each",
    )


def _multiplies(device: Device, math: str) -> bool:
    try:
        device.machine.flops_per_second(math, 1)
    except UnsupportedError:
        return False
    return True


def precision_of(
    request: PlanRequest, weight_format: WeightFormat, config: ConfigReader, devices: Sequence[Device]
) -> Precision:
    activations = _plain_dtype(config, devices) if weight_format.quantized else weight_format.name
    return Precision.of(weight_format, activations).with_kv_format(request.kv_format)

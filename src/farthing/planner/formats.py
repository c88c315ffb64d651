"""Which weight and KV formats a plan considers on its devices, and the precision that each of them means.

A format counts only where every device multiplies in its math. Knows no sizes: planner/layout.py says what fits.
"""

from collections.abc import Iterator, Sequence

from farthing.errors import UnsupportedError
from farthing.models.auto import stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.planner.device import Device
from farthing.planner.request import PlanRequest
from farthing.quantization.base import WeightFormat, resolve

_KV_DTYPES = {"fp8": "fp8_e4m3", "int8": "int8"}


def candidate_formats(request: PlanRequest, config: ConfigReader, devices: Sequence[Device]) -> Iterator[WeightFormat]:
    """What `auto` tries, widest first: the checkpoint's own, then 8 bits, then 4."""
    kind = "cuda" if all(device.kind == "cuda" for device in devices) else "cpu"
    if request.format != "auto":
        yield _with_fast_path(resolve(request.format, kind), devices)
        return
    plain = _plain_dtype(config, devices)
    for name in (plain, "fp8", "int8", "int4"):
        try:
            yield _with_fast_path(resolve(name, kind), devices)
        except UnsupportedError:
            continue


def _with_fast_path(weight_format: WeightFormat, devices: Sequence[Device]) -> WeightFormat:
    """UnsupportedError if a device can't multiply in this format's math."""
    for device in devices:
        device.machine.flops_per_second(weight_format.math, 1)
    return weight_format


def _plain_dtype(config: ConfigReader, devices: Sequence[Device]) -> str:
    """16 bits, in the kind that the checkpoint has and every device multiplies; fp32 checkpoints are served so too."""
    stored = stored_dtype(config)
    for name in ("fp16", "bf16") if stored == "fp16" else ("bf16", "fp16"):
        try:
            for device in devices:
                device.machine.flops_per_second(name, 1)
        except UnsupportedError:
            continue
        return name
    return "fp32"


def precision_of(
    request: PlanRequest, weight_format: WeightFormat, config: ConfigReader, devices: Sequence[Device]
) -> Precision:
    activations = _plain_dtype(config, devices) if weight_format.quantized else weight_format.name
    if request.kv_format == "auto":
        return Precision(weight_format, activations, activations)
    name = request.kv_format.lower()
    kv_dtype = _KV_DTYPES.get(name) or resolve(name, "cuda").name
    if kv_dtype not in ("fp32", "bf16", "fp16", *_KV_DTYPES.values()):
        raise UnsupportedError(f"--kv-format {request.kv_format!r} is not known", fix="use fp32, bf16, fp16, int8, fp8")
    return Precision(weight_format, activations, kv_dtype)

"""What a person is told before anything is loaded: device and why, format, memory, expected speed; in one line.

The limits of a machine that was never measured are measured first, roughly, and kept. Knows no terminal: what it says
while it measures goes to standard error.
"""

import sys
from pathlib import Path

from farthing.engine.accounts.step_price import forecast
from farthing.engine.plan import EnginePlan
from farthing.errors import FarthingError
from farthing.hardware.calibration import save
from farthing.ops.batch import BatchShape
from farthing.runtime.device import num_gpus
from farthing.runtime.probe import probe
from farthing.units import format_bytes

_DRIVER = Path("/proc/driver/nvidia/version")
_MEASURING = {"cpu": "about 5 s", "cuda": "kernels are compiled for it, which takes a while"}


def measured(plan: EnginePlan) -> EnginePlan:
    """The plan with this machine's limits: those that are known, else measured now and kept for the next time."""
    if plan.calibration is not None:
        return plan
    _say(f"measuring {plan.device} once ({_MEASURING[plan.device.type]}; farthing probe measures it in full) ...")
    calibration = probe(
        str(plan.device), quick=True, progress=lambda what, share: None, compiled=not plan.kernels.widens_quantized
    )
    try:
        save(calibration)
    except FarthingError as error:  # a read-only home: measured again the next time
        _say(f"note: {error}")
    return plan.with_calibration(calibration)


def plan_line(plan: EnginePlan) -> str:
    """Of a plan that is `measured`."""
    assert plan.calibration is not None
    memory, kernels = plan.memory, plan.kernels
    calibration = plan.calibration.at_threads(plan.num_threads)
    step = forecast(plan.spec, BatchShape.decode(min(512, plan.context - 1)), calibration)
    weight_format = plan.spec.precision.format
    speed = f"expect {1 / step.seconds:,.0f} tok/s ({step.bound}-bound)"
    if weight_format.quantized and kernels.widens_quantized:
        speed = f"slow: no kernel for {weight_format.name} here, its weights are widened in every step"
    invariance = "batch-invariant" if kernels.batch_invariant else "not batch-invariant"
    why = why_device(plan.config.device, plan.device.type, num_gpus=num_gpus(), has_driver=_DRIVER.exists())
    threads = f", {plan.num_threads} thread{'s' * (plan.num_threads > 1)}" if plan.device.type == "cpu" else ""
    held = f" ({plan.room.held_text})" if plan.room.held_text else ""
    chunk = f", steps of up to {plan.config.sizes.max_batch_tokens:,}" if plan.device.type == "cuda" else ""
    return (
        f"{plan.name} · {weight_format.name} on {plan.key.name} ({plan.device}{threads}{why}) · "
        f"{format_bytes(memory.total_bytes)} of {format_bytes(memory.budget_bytes)}{held}, "
        f"KV room {memory.kv_tokens:,} tokens{chunk} · {kernels.name} kernels, {invariance} · "
        f"{speed}"
    )


def why_device(asked: str, kind: str, *, num_gpus: int, has_driver: bool) -> str:
    """Why the model runs on a device of this kind, after a comma; nothing where nobody would ask."""
    if kind == "cuda":
        if asked != "auto":
            return ", as asked for"
        return ", the GPU that is here" if num_gpus == 1 else f", the freest of {num_gpus} GPUs"
    if asked == "auto" and has_driver:
        return ", for torch reaches no GPU though NVIDIA's driver is here: farthing doctor"
    return ""


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")

"""Before any weight is read: what will run where, in which format, with how much memory - from the config alone.

The same description and memory plan as the planner's, with this machine's figures handed in. Knows no requests;
engine.py builds what is planned here.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from farthing.engine.config import EngineConfig, resolve_threads
from farthing.engine.fit import engine_memory, resolve_sizes, resolve_spec
from farthing.engine.model_files import model_files
from farthing.engine.refusal import Planned, refusal, what_would_fit
from farthing.engine.room import Room
from farthing.errors import DoesNotFitError
from farthing.hardware.calibration import Calibration, DeviceKey, load
from farthing.hardware.machine import fast_dtype, num_cores
from farthing.hub.cache import find_anywhere
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.select import select_kernels
from farthing.models.auto import read_config, stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.memory import MemoryPlan
from farthing.models.spec import ModelSpec
from farthing.ops.linear import Linear
from farthing.planner.timing.device import CONTEXT_BYTES
from farthing.runtime.device import open_device, total_bytes, usable_bytes
from farthing.runtime.probe import device_key
from farthing.runtime.process_memory import process_bytes


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """Everything resolved: where `config` may still say "auto", another field has what it came to."""

    name: str
    path: Path
    model_config: ConfigReader
    config: EngineConfig
    device: torch.device
    spec: ModelSpec
    memory: MemoryPlan
    context: int
    num_threads: int
    kernels: ReferenceKernels
    key: DeviceKey
    calibration: Calibration | None
    room: Room

    def with_calibration(self, calibration: Calibration) -> "EnginePlan":
        """The same plan on a machine that has been measured since."""
        return replace(self, calibration=calibration)


def plan_engine(model: str, config: EngineConfig) -> EnginePlan:
    """FarthingError, naming the cause, if the model is not found, not supported or does not fit.

    A model of a hub is taken from its cache; nothing is downloaded here. Of one with random weights the description
    will do, which a published model has without any files.
    """
    path = model_files(find_anywhere(model), needs_weights=config.weights != "random")
    model_config = read_config(path)
    device = open_device(config.device)
    on_cpu = device.type == "cpu"
    fast = fast_dtype(device.type, stored_dtype(model_config))
    spec, context = resolve_spec(model_config, config, model, kind=device.type, plain_dtype=fast)
    num_threads = resolve_threads(config, spec.weight_bytes, num_cores())
    matrices = {(op.format.name, op.in_features) for _, op in spec.named_ops() if isinstance(op, Linear)}
    kernels = select_kernels(
        device_kind=device.type,
        batch_invariant=config.batch_invariant,
        weight_formats=sorted(matrices),
        activation_dtype=spec.precision.activation_dtype,
        kv_dtype=spec.precision.kv_dtype,
        num_threads=num_threads,
    )
    key = device_key(device, compiled=not kernels.widens_quantized)
    calibration = load(key)
    context_bytes = calibration.device_context_bytes if calibration else CONTEXT_BYTES
    reserve_bytes = process_bytes() if on_cpu else context_bytes
    available_bytes = usable_bytes(device) + reserve_bytes  # which this process holds by now
    room = Room(device.type, total_bytes(device), available_bytes, reserve_bytes)
    widens, captures = kernels.widens_quantized, kernels.skips_padding and not on_cpu

    def planned(other: EngineConfig) -> Planned:
        spec, context = resolve_spec(model_config, other, model, kind=device.type, plain_dtype=fast)
        other = resolve_sizes(other, spec, room, name=key.name, calibration=calibration)
        return spec, context, engine_memory(spec, context, other, room, widens=widens, captures=captures)

    sized = resolve_sizes(config, spec, room, name=key.name, calibration=calibration)
    try:
        memory = engine_memory(spec, context, sized, room, widens=widens, captures=captures)
    except DoesNotFitError as error:
        what = f"{model} does not fit {device} in {spec.precision.format.name}"
        fits = what_would_fit(config, planned, context=context, max_num_seqs=sized.sizes.max_num_seqs)
        raise refusal(error, what=what, held=room.held_text, fits=fits) from None
    return EnginePlan(
        name=model,
        path=path,
        model_config=model_config,
        config=sized,
        device=device,
        spec=spec,
        memory=memory,
        context=context,
        num_threads=num_threads,
        kernels=kernels,
        key=key,
        calibration=calibration,
        room=room,
    )

"""Does a model fit this machine? Its description and memory plan, asked before weights or torch are there.

The same plan_memory as the engine's and the planner's, with this machine's memory from machine.py. Knows no hub and
no tensors; engine/plan.py plans what really runs.
"""

from dataclasses import dataclass, replace

from farthing.engine.config import EngineConfig, resolve_context, resolve_precision
from farthing.engine.room import Room
from farthing.engine.step_sizes import StepSizes, ridge_of_gpu, step_sizes
from farthing.errors import DoesNotFitError
from farthing.hardware.calibration import Calibration, saved_here
from farthing.hardware.machine import fast_dtype, freest, gpus, memory_bytes, processor
from farthing.models.auto import stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.graph_memory import kernel_memory
from farthing.models.memory import MemoryPlan, plan_memory
from farthing.models.runnable import describe_runnable
from farthing.models.spec import ModelSpec
from farthing.planner.timing.device import CONTEXT_BYTES, PROCESS_BYTES
from farthing.units import format_bytes


@dataclass(frozen=True, slots=True)
class Fit:
    """`memory`: None if the model does not fit `device`; then `problem` says by how much. `sizes`: of its steps."""

    device: str
    spec: ModelSpec
    context: int
    sizes: StepSizes
    available_bytes: int
    memory: MemoryPlan | None
    problem: str | None

    def text(self) -> str:
        """One line for people."""
        name = self.spec.precision.format.name
        if self.memory is None:
            return f"does not fit {self.device} in {name}: {self.problem}"
        return (
            f"fits {self.device} in {name}: {format_bytes(self.memory.total_bytes)} of "
            f"{format_bytes(self.memory.budget_bytes)}, KV room {self.memory.kv_tokens:,} tokens"
        )


def fit_here(name: str, config: ConfigReader, engine_config: EngineConfig) -> Fit:
    """On the freest GPU where there is one, else on the processor. UnsupportedError if Farthing does not run the model.

    UsageError for a format or context that makes no sense with it.
    """
    device, room, calibration = _device_here(engine_config.device)
    kind = room.kind
    spec, context = resolve_spec(
        config, engine_config, name, kind=kind, plain_dtype=fast_dtype(kind, stored_dtype(config))
    )
    engine_config = resolve_sizes(engine_config, spec, room, name=device, calibration=calibration)
    memory, problem = None, None
    widens = kind == "cpu" and spec.precision.format.math != "int8"  # all others are multiplied as they are
    try:
        memory = engine_memory(spec, context, engine_config, room, widens=widens, captures=kind == "cuda")
    except DoesNotFitError as error:
        problem = error.what + (f" ({room.held_text})" if room.held_text else "")
    return Fit(device, spec, context, engine_config.sizes, room.available_bytes, memory, problem)


def sequences_here(engine_config: EngineConfig) -> int:
    """That run at a time on this machine, whatever the model."""
    _, room, _ = _device_here(engine_config.device)
    return _sizes(engine_config, room, None).max_num_seqs


def _device_here(asked: str) -> tuple[str, Room, Calibration | None]:
    """What the engine would run on, its memory, and what was measured of it."""
    found = gpus() if asked != "cpu" else ()
    if not found:
        cpu = processor()
        return f"{cpu.name} ({cpu.num_cores} cores)", Room("cpu", *memory_bytes(), PROCESS_BYTES), None
    gpu = freest(found)
    measured = (one for one in saved_here() if (one.device.kind, one.device.name) == ("cuda", gpu.name))
    return gpu.name, Room("cuda", gpu.total_bytes, gpu.free_bytes, CONTEXT_BYTES), next(measured, None)


def resolve_sizes(
    engine_config: EngineConfig, spec: ModelSpec, room: Room, *, name: str, calibration: Calibration | None
) -> EngineConfig:
    """With how many sequences run at a time and how many tokens a step has, where nobody said so. `name`: what the
    driver calls a GPU; `calibration`: of the device, where it was measured."""
    ridge_rows = None
    if room.kind == "cuda":
        ridge_rows = ridge_of_gpu(name, calibration, spec.precision.format, spec.weight_bytes)
    sizes = _sizes(engine_config, room, ridge_rows)
    return replace(engine_config, max_num_seqs=sizes.max_num_seqs, max_batch_tokens=sizes.max_batch_tokens)


def _sizes(engine_config: EngineConfig, room: Room, ridge_rows: float | None) -> StepSizes:
    return step_sizes(
        engine_config.max_num_seqs,
        engine_config.max_batch_tokens,
        device_kind=room.kind,
        total_bytes=room.total_bytes,
        ridge_rows=ridge_rows,
    )


def resolve_spec(
    config: ConfigReader, engine_config: EngineConfig, name: str, *, kind: str, plain_dtype: str
) -> tuple[ModelSpec, int]:
    """The description and the context of what the engine runs on a device of this kind."""
    spec = describe_runnable(config, resolve_precision(engine_config, device_kind=kind, fast_dtype=plain_dtype), name)
    return spec, resolve_context(engine_config, spec)


def engine_memory(
    spec: ModelSpec, context: int, engine_config: EngineConfig, room: Room, *, widens: bool, captures: bool
) -> MemoryPlan:
    """The memory plan of the engine, whose sizes are resolved. `widens`: its kernels widen quantized weights;
    `captures`: decodes are replayed as graphs of the device. DoesNotFitError, with the arithmetic, if there is none."""
    sizes, budget_bytes = engine_config.sizes, room.budget(engine_config.memory)
    graphs, partials = 0, None
    if captures:
        graphs, partials = kernel_memory(
            spec,
            max_num_seqs=sizes.max_num_seqs,
            max_batch_tokens=sizes.max_batch_tokens,
            max_model_len=context,
            budget_bytes=budget_bytes,
            widens=widens,
        )
    return plan_memory(
        spec,
        budget_bytes=budget_bytes,
        reserve_bytes=room.reserve_bytes,
        block_size=engine_config.block_size,
        max_num_seqs=sizes.max_num_seqs,
        max_batch_tokens=sizes.max_batch_tokens,
        max_model_len=context,
        widens=widens,
        graph_bytes=graphs,
        partial_bytes=partials,
    )

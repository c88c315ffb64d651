"""Does a model fit this machine? Its description and memory plan, asked before weights or torch are there.

The same plan_memory as the engine's and the planner's, with this machine's memory from machine.py. Knows no hub and
no tensors; engine/plan.py plans what really runs.
"""

from dataclasses import dataclass

from farthing.engine.config import EngineConfig, resolve_context, resolve_precision
from farthing.engine.room import Room
from farthing.errors import DoesNotFitError
from farthing.hardware.machine import fast_dtype, gpus, memory_bytes, processor
from farthing.models.auto import stored_dtype
from farthing.models.config_reader import ConfigReader
from farthing.models.graph_memory import graph_bytes, history_bytes
from farthing.models.memory import MemoryPlan, plan_memory
from farthing.models.runnable import describe_runnable
from farthing.models.spec import ModelSpec
from farthing.planner.timing.device import CONTEXT_BYTES, PROCESS_BYTES
from farthing.units import format_bytes


@dataclass(frozen=True, slots=True)
class Fit:
    """`memory`: None if the model does not fit `device`; then `problem` says by how much."""

    device: str
    spec: ModelSpec
    context: int
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
    """On the first GPU where there is one, else on the processor. UnsupportedError if Farthing does not run the model.

    UsageError for a format or context that makes no sense with it.
    """
    found = gpus() if engine_config.device != "cpu" else ()
    if found:
        device, room = found[0].name, Room("cuda", found[0].total_bytes, found[0].free_bytes, CONTEXT_BYTES)
    else:
        cpu = processor()
        device, room = f"{cpu.name} ({cpu.num_cores} cores)", Room("cpu", *memory_bytes(), PROCESS_BYTES)
    kind = room.kind
    spec, context = resolve_spec(
        config, engine_config, name, kind=kind, plain_dtype=fast_dtype(kind, stored_dtype(config))
    )
    memory, problem = None, None
    widens = kind != "cpu" or spec.precision.format.math != "int8"  # a processor's kernels multiply these as they are
    try:
        memory = engine_memory(spec, context, engine_config, room, widens=widens, captures=kind == "cuda")
    except DoesNotFitError as error:
        problem = error.what + (f" ({room.held_text})" if room.held_text else "")
    return Fit(device, spec, context, room.available_bytes, memory, problem)


def resolve_spec(
    config: ConfigReader, engine_config: EngineConfig, name: str, *, kind: str, plain_dtype: str
) -> tuple[ModelSpec, int]:
    """The description and the context of what the engine runs on a device of this kind."""
    spec = describe_runnable(config, resolve_precision(engine_config, device_kind=kind, fast_dtype=plain_dtype), name)
    return spec, resolve_context(engine_config, spec)


def engine_memory(
    spec: ModelSpec, context: int, engine_config: EngineConfig, room: Room, *, widens: bool, captures: bool
) -> MemoryPlan:
    """The memory plan of the engine. `widens`: its kernels widen quantized weights; `captures`: decodes are replayed as
    graphs of the device. DoesNotFitError, with the arithmetic, if there is none."""
    max_num_seqs = engine_config.max_num_seqs
    graphs = graph_bytes(spec, max_num_seqs=max_num_seqs, max_model_len=context, widens=widens) if captures else 0
    histories = history_bytes(spec.vocab_size, max_num_seqs) if captures else 0
    return plan_memory(
        spec,
        budget_bytes=room.budget(engine_config.memory),
        reserve_bytes=room.reserve_bytes,
        block_size=engine_config.block_size,
        max_num_seqs=max_num_seqs,
        max_batch_tokens=engine_config.max_batch_tokens,
        max_model_len=context,
        widens=widens,
        graph_bytes=graphs + histories,
    )

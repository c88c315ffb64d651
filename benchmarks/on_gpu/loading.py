"""An engine of a described model with random weights: loaded, timed, and its memory beside the plan's (law 3)."""

import time
from pathlib import Path
from typing import Any

import torch

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import EnginePlan, plan_engine
from farthing.hardware.calibration import load
from farthing.ops.batch import BatchShape
from farthing.runtime.graph import GraphedDecoder
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.process_memory import process_bytes
from farthing.scheduler.batch import Batch
from on_gpu.reporting import Reporter
from on_gpu.sizes import Sizes
from on_gpu.timing import synchronize


class RecordedRunner(ModelRunner):
    """Keeps the shape of every step."""

    def __init__(self, *arguments: Any, depth: int = 1) -> None:
        super().__init__(*arguments, depth=depth)
        self.shapes: list[BatchShape] = []

    def submit(self, batch: Batch) -> None:
        self.shapes.append(batch.shape)
        super().submit(batch)


def with_calibration(plan: EnginePlan, folder: Path) -> EnginePlan:
    """As it was measured in this run, whatever the user's own says."""
    measured = load(plan.key, folder)
    return plan.with_calibration(measured) if measured is not None else plan


def load_engine(
    sizes: Sizes,
    weight_format: str,
    device: torch.device,
    folder: Path,
    report: Reporter,
    *,
    import_seconds: float,
    batch_invariant: bool = False,
) -> Engine:
    """A row: how long it took."""
    config = EngineConfig(
        format=weight_format,
        weights="random",
        device=str(device),
        context=sizes.context,
        max_num_seqs=sizes.max_num_seqs,
        max_batch_tokens=sizes.max_batch_tokens,
        speculation="off",
        batch_invariant=batch_invariant,
        memory="4GiB" if sizes.is_quick else "auto",
    )
    begin = time.perf_counter()
    plan = with_calibration(plan_engine(sizes.model, config), folder)
    planned = time.perf_counter()
    engine = Engine(plan, runner_type=RecordedRunner, with_template=False)
    synchronize(device)
    loaded = time.perf_counter()
    report.row(
        "ready",
        format=format_name(plan),
        kernels=plan.kernels.name,
        import_seconds=import_seconds,
        plan_seconds=planned - begin,
        load_seconds=loaded - planned,
    )
    return engine


def format_name(plan: EnginePlan) -> str:
    """As the rows of figures call it."""
    return f"{plan.spec.precision.format.name}{' batch-invariant' if plan.config.batch_invariant else ''}"


def memory_row(engine: Engine, report: Reporter) -> None:
    """Law 3. To be told behind the largest step, which takes what steps take."""
    plan = engine.plan
    memory, allocated, steps = plan.memory, engine.memory.bytes_by_use, engine.runner.steps
    report.row(
        "memory",
        format=format_name(plan),
        planned_weights_bytes=memory.weights_bytes,
        weights_bytes=allocated.get("weights", 0),
        planned_kv_bytes=memory.kv_bytes,
        kv_bytes=allocated.get("kv", 0),
        kv_tokens=memory.kv_tokens,
        planned_graphs_bytes=memory.graph_bytes,
        graphs_bytes=steps.taken_bytes if isinstance(steps, GraphedDecoder) else 0,
        planned_bytes=memory.total_bytes,
        bytes_in_use=_bytes_in_use(plan.device),
    )


def _bytes_in_use(device: torch.device) -> int:
    """Of the whole device, context and graphs included; on a CPU of this process."""
    if device.type != "cuda":
        return process_bytes()
    free, total = torch.cuda.mem_get_info(device)
    return total - free

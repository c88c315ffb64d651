"""Small random models under a made-up calibration, so that what their ledgers say depends on no machine's peaks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.request import Request
from farthing.hardware.calibration import BandwidthPoint, Calibration, DeviceKey, GemmPoint
from farthing.runtime.model_runner import ModelRunner
from farthing.sampling_params import SamplingParams

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def write_config(folder: Path, **sizes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **sizes}))


def calibration(num_threads: int = 2) -> Calibration:
    """10 GB/s and 50 GFLOP/s a thread, a microsecond a call."""
    threads = range(1, num_threads + 1)
    return Calibration(
        device=DeviceKey("cpu", "a machine for tests", num_threads, "torch 2.13"),
        date="2026-11-29T00:00:00Z",
        bandwidth=tuple(BandwidthPoint(2**20, n, "sum", n * 1e10, 0.0) for n in threads),
        gemm=tuple(GemmPoint(math, 1, 64, 64, n, n * 5e10, 0.0) for math in ("fp32", "bf16") for n in threads),
        links=(),
        overhead_seconds_per_op=1e-6,
        process_bytes=2**20,
        device_context_bytes=0,
    )


def engine(
    folder: Path,
    *,
    sizes: dict[str, Any] | None = None,
    num_blocks: int | None = None,
    runner_type: type[ModelRunner] = ModelRunner,
    **options: Any,
) -> Engine:
    """`sizes` change CONFIG, `options` are fields of EngineConfig."""
    write_config(folder, **(sizes or {}))
    config = EngineConfig(**{"weights": "random", "threads": 1, "memory": "2GiB", **options})
    plan = plan_engine(str(folder), config)
    memory = plan.memory if num_blocks is None else replace(plan.memory, num_blocks=num_blocks)
    plan = replace(plan, memory=memory, calibration=calibration(), key=replace(plan.key, num_cores=2))
    return Engine(plan, runner_type=runner_type)


def add_requests(engine: Engine, number: int, *, prompt: int = 8, output: int = 40, owner: str = "") -> None:
    params = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
    for index in range(number):
        ids = tuple((7 * index + place) % 500 for place in range(prompt))
        engine.add(Request(f"{owner}{index}", ids, params, seed=index, salt=owner))


def run(engine: Engine, steps: int | None = None, between: Callable[[], object] = lambda: None) -> None:
    """Until nothing is left to do, or for so many steps; `between` them something may happen."""
    while engine.has_unfinished and (steps is None or steps > 0):
        engine.step()
        between()
        steps = None if steps is None else steps - 1

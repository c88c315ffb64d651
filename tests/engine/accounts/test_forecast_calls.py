"""What a step is forecast to take: the calls that are counted on are those that torch sees, or those of the tape."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CASES, load, make_reference, save_reference
from torch.utils._python_dispatch import TorchDispatchMode

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.kernels.vendor import VendorKernels
from farthing.models.spec import ModelSpec
from farthing.planner.timing.calls import Calls, num_calls
from farthing.runtime.graph import TapedDecoder
from farthing.scheduler.batch import Batch, BatchItem

from .measured_engine import write_config


class CallCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_calls += 1
        return function(*args, **(kwargs or {}))


def calls_of(spec: ModelSpec, num_sequences: int, calls: Calls) -> int:
    return sum(num_calls(op, num_sequences, calls) for _, op in spec.named_ops())


@pytest.mark.parametrize("name", ["llama-2-gqa", "qwen3", "llama-both-biases-tied"])
@pytest.mark.parametrize("num_sequences", [1, 8])
def test_forecast_calls_are_within_a_fifth_of_those_that_torch_sees(
    name: str, num_sequences: int, tmp_path: Path
) -> None:
    save_reference(make_reference(next(case for case in CASES if case.name == name)), tmp_path)
    loaded = load(tmp_path, kernels=VendorKernels())
    items = tuple(BatchItem(i, 63, (5,), tuple(range(8 * i, 8 * i + 8)), True, 0) for i in range(num_sequences))
    batch = Batch(0, items)
    with CallCounter() as counter, torch.inference_mode():
        steps = loaded.runner.steps
        steps.logits(steps.hidden(loaded.runner.buffers.fill(batch)))
    assert calls_of(loaded.spec, num_sequences, "torch") == pytest.approx(counter.num_calls, rel=0.2)


@pytest.mark.parametrize("weight_format", ["fp32", "bf16", "int8", "int4"])
def test_forecast_calls_are_within_a_quarter_of_those_of_the_tape(weight_format: str, tmp_path: Path) -> None:
    write_config(tmp_path, num_hidden_layers=8)
    plan = plan_engine(str(tmp_path), EngineConfig(format=weight_format, weights="random", memory="2GiB", device="cpu"))
    if plan.kernels.widens_quantized:
        pytest.skip("nothing can be compiled here")
    engine = Engine(plan, with_template=False)
    try:
        assert isinstance(engine.runner.steps, TapedDecoder)
        recorded = engine.runner.steps.num_calls
        assert calls_of(plan.spec, 1, "recorded") == pytest.approx(recorded, rel=0.25)
    finally:
        engine.close()

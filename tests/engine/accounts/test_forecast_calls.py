"""What a step is forecast to take: the calls that are counted on are those that torch sees."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CASES, load, make_reference, save_reference
from torch.utils._python_dispatch import TorchDispatchMode

from farthing.engine.accounts.step_price import num_torch_calls
from farthing.kernels.vendor import VendorKernels
from farthing.scheduler.batch import Batch, BatchItem


class CallCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_calls += 1
        return function(*args, **(kwargs or {}))


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
    assert num_torch_calls(loaded.spec, batch.shape) == pytest.approx(counter.num_calls, rel=0.2)

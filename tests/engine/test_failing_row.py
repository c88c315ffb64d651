"""Logits that are no numbers, in one row of a running engine: that request fails, the others don't notice."""

from collections.abc import Iterator

import pytest
import torch

from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.errors import FarthingError
from farthing.sampling_params import SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("bundled", EngineConfig()) as llm:
        yield llm


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 5])
def test_only_the_request_of_the_row_fails_and_the_counter_rises(llm, monkeypatch, value, at):
    expected = llm.generate("Once upon a time", GREEDY).text
    runner, scheduler = llm.engine.runner, llm.engine.scheduler
    logits, calls, num_failed = runner.steps.logits, iter(range(10**6)), scheduler.stats.num_failed

    def spoiled(x_RH: torch.Tensor) -> torch.Tensor:
        logits_RV = logits(x_RH)
        if next(calls) == at:
            logits_RV[0, 7] = value
        return logits_RV

    monkeypatch.setattr(runner.steps, "logits", spoiled)
    with pytest.raises(FarthingError, match="where a probability was due"):
        llm.generate("There was", GREEDY)
    assert scheduler.stats.num_failed == num_failed + 1
    assert llm.generate("Once upon a time", GREEDY).text == expected
    assert scheduler.block_pool.num_available == scheduler.block_pool.num_blocks

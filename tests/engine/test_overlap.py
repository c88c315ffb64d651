"""The engine with a step on its way while the last one is read: the same answers, and nothing is left behind."""

from typing import Any

import pytest

from farthing import LLM
from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.request import Request
from farthing.runtime.model_runner import ModelRunner
from farthing.sampling_params import Grammar, SamplingParams

TEXTS = ["Once upon a time", "The dog was", "Lily and her mom went to the park", "One day", "Tom said", "A cat"]
ASKED = [
    SamplingParams(max_tokens=30, temperature=0.0),
    SamplingParams(max_tokens=30, temperature=0.8, top_k=20, seed=5, n=2),
    SamplingParams(max_tokens=30, temperature=0.0, stop=("the",)),
    SamplingParams(max_tokens=30, temperature=0.0, logprobs=2, frequency_penalty=0.5),
    SamplingParams(
        max_tokens=12, temperature=0.7, seed=1, grammar=Grammar("regex", "[a-z ]{5,20}"), presence_penalty=0.3
    ),
    SamplingParams(max_tokens=30, temperature=0.9, seed=2, min_tokens=20, prompt_logprobs=1, logit_bias={5: 1.0}),
]


class Overlapping(ModelRunner):
    """As a device has it that computes beside Python."""

    def __init__(self, *args: Any, depth: int) -> None:
        super().__init__(*args, depth=depth + 1)


def engine(runner_type: type[ModelRunner]) -> Engine:
    return Engine(plan_engine("bundled", EngineConfig(speculation="off", context=256)), runner_type=runner_type)


@pytest.fixture(scope="module")
def overlapping() -> Any:
    with LLM(engine=engine(Overlapping)) as llm:
        yield llm


def test_answers_are_those_of_one_step_at_a_time(overlapping: LLM) -> None:
    with LLM(engine=engine(ModelRunner)) as plain:
        expected, found = plain.generate(TEXTS, ASKED), overlapping.generate(TEXTS, ASKED)
    assert isinstance(expected, list) and isinstance(found, list)
    assert [one.completions for one in found] == [one.completions for one in expected]
    assert overlapping.engine.scheduler.stats.num_dropped_tokens > 0


def test_all_blocks_come_back(overlapping: LLM) -> None:
    overlapping.generate(TEXTS, ASKED)
    pool = overlapping.engine.scheduler.block_pool
    assert overlapping.engine.runner.in_flight == 0
    assert pool.num_available == pool.num_blocks


def test_a_request_that_is_cancelled_while_a_step_is_on_its_way_ends_there() -> None:
    found = engine(Overlapping)
    try:
        found.add(Request("one", tuple(found.text.encode(TEXTS[0])), ASKED[0], 0))
        for _ in range(4):
            found.step()
        found.cancel("one")
        assert found.has_unfinished  # the step that is on its way
        assert found.step() == []
        assert not found.has_unfinished
    finally:
        found.close()

"""Curves of ops: a knee between two limits, rows that fill a product, and what work there is in a step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.models.auto import config_of, describe
from farthing.models.parallel import parallelize
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.planner.timing.efficiency import (
    Efficiency,
    LinkEfficiency,
    attention_seconds,
    knee,
    message_seconds,
    product_seconds,
)
from farthing.planner.timing.load_steps import StepUse, decode_steps, prefill_steps
from farthing.planner.timing.step_work import WorkLines, step_work
from farthing.quantization.base import resolve

ONE = Efficiency(
    weights=0.8, kv=0.5, gemm=0.6, half_rows=16, attention=0.4, kernel_seconds=2e-6, step_seconds=1e-3,
    sequence_seconds=1e-5, request_seconds=1e-3,
)  # fmt: skip
TIMES = st.floats(1e-9, 1e3)


def spec_of(model: str, tp: int = 1, pp: int = 1, stage: int = 0) -> ModelSpec:
    return parallelize(describe(config_of(find_model(model)), Precision.of(resolve("fp16", "cuda"))), tp, pp)[stage]


@given(TIMES, TIMES)
def test_two_times_that_overlap_take_the_longer_and_at_most_a_quarter_more(first: float, second: float):
    longer = max(first, second)
    assert longer * (1 - 1e-12) <= knee(first, second) <= 1.26 * longer
    assert knee(first, second) == knee(second, first)


@given(TIMES, TIMES, st.integers(1, 10**5), st.floats(1.0, 10.0))
def test_a_product_takes_longer_with_more_to_read_or_compute_and_less_for_each_row_with_more_rows(
    read: float, per_row: float, rows: int, more: float
):
    seconds = product_seconds(read, per_row * rows, rows, ONE)
    assert product_seconds(read * more, per_row * rows, rows, ONE) >= seconds * (1 - 1e-12)
    assert product_seconds(read, per_row * rows * more, rows, ONE) >= seconds * (1 - 1e-12)
    wider = product_seconds(read, per_row * 2 * rows, 2 * rows, ONE)
    assert seconds * (1 - 1e-9) <= wider <= 2 * seconds * (1 + 1e-9)


def test_shares_are_of_the_nominal_figures():
    assert product_seconds(1.0, 0.0, 1, ONE) == pytest.approx(1 / 0.8)
    assert product_seconds(0.0, 1.0, 10**9, ONE) == pytest.approx(1 / 0.6)
    assert product_seconds(0.0, 1.0, 16, ONE) == pytest.approx(2 / 0.6), "half of it at `half_rows`"
    assert attention_seconds(1.0, 0.0, ONE) == pytest.approx(2)
    assert message_seconds(3.0, 2.0, LinkEfficiency(0.5, 1e-3)) == pytest.approx(6.002)


def test_an_efficiency_above_the_ceiling_is_refused():
    with pytest.raises(AssertionError):
        Efficiency(1.01, 0.5, 0.6, 16, 0.4, 2e-6, 1e-3, 1e-5, 1e-3)


@pytest.mark.parametrize(
    ("model", "tp", "pp", "stage"),
    [("llama-3.1-8b", 1, 1, 0), ("llama-2-70b", 4, 2, 1), ("mistral-7b-v0.1", 1, 1, 0), ("mixtral-8x7b", 2, 1, 0)],
)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 6000))
def test_a_handful_of_products_is_the_work_of_the_description(
    model: str, tp: int, pp: int, stage: int, count: int, new: int, context: int
):
    spec = spec_of(model, tp, pp, stage)
    quick = WorkLines(spec).at(StepUse(1.0, count, new, context))
    asked = step_work(spec, BatchShape.of([(new, context)] * count))
    for name in asked.__dataclass_fields__:
        assert getattr(quick, name) == pytest.approx(getattr(asked, name), rel=1e-9), name


def test_prompts_beside_answers_are_added_to_the_step():
    spec = spec_of("llama-3.1-8b")
    mixed = WorkLines(spec).at(StepUse(1.0, 4, 1, 100, prompts=1.0, prompt_tokens=50))
    asked = step_work(spec, BatchShape.of([(1, 100)] * 4 + [(50, 0)]))
    assert mixed.layer_flops == pytest.approx(asked.layer_flops)
    assert mixed.attention_flops == pytest.approx(asked.attention_flops)
    assert mixed.rows == asked.rows == 54


@given(st.integers(1, 500), st.integers(1, 50_000), st.integers(1, 8192), st.floats(0, 1))
def test_prefill_steps_hold_every_prompt_token_once(prompts: int, length: int, most: int, overlap: float):
    uses = list(prefill_steps(prompts, length, most, overlap))
    assert all(use.count * use.new <= max(most, use.new) and use.new <= most for use in uses)
    assert math.isclose(sum(use.times * use.count * use.new for use in uses), prompts * length, rel_tol=1e-9)


@given(st.integers(1, 1000), st.integers(1, 16))
def test_a_pipeline_s_groups_hold_the_whole_batch(batch: int, stages: int):
    (use,) = decode_steps(1, 100, batch, stages)
    assert batch <= use.times * use.count < batch + stages
    assert use.overlapped == (min(batch, stages) > 1)

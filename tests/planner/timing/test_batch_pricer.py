"""Seconds of a batch from its sums: those of forecast_step, for every kind of model, device and stage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_hardware import round_device, tiny_spec

from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.published_models import find_published
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.timing.batch_pricer import StagePricer, slowest
from farthing.planner.timing.forecast import forecast_step
from farthing.planner.timing.links import RankLink
from farthing.planner.timing.op_lines import BatchSums
from farthing.quantization.base import resolve
from farthing.scheduler.batch import Batch, BatchItem

LINK = RankLink(1e9, 5e-6, "round")


def published(name: str, weight_format: str = "bf16") -> ModelSpec:
    found = find_published(name)
    assert found is not None
    return describe(ConfigReader(found.config, found.name), Precision.of(resolve(weight_format, "cuda")))


STAGES = {
    "one rank": tiny_spec(),
    "narrow weights": tiny_spec("int4"),
    "tp 2": parallelize(tiny_spec(), tp=2)[0],
    "first of two stages": parallelize(tiny_spec(), tp=2, pp=2)[0],
    "last of two stages": parallelize(tiny_spec(), pp=2)[1],
    "a real model": published("llama-3.1-8b"),
    "tied head": published("llama-3.2-1b"),
    "experts": published("mixtral-8x7b"),
}


def batch_of(sizes: list[tuple[int, int, bool]]) -> Batch:
    """(new tokens, context, samples) of each item."""
    return Batch(
        0,
        tuple(
            BatchItem(seq_id, start, (1,) * new, tuple(range(-(-(start + new) // 16))), samples, 0)
            for seq_id, (new, start, samples) in enumerate(sizes)
        ),
    )


SIZES = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 5000), st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, decodes=st.integers(0, 40), eager=st.booleans())
def test_a_batch_costs_what_the_forecast_says(
    name: str, sizes: list[tuple[int, int, bool]], decodes: int, eager: bool
) -> None:
    device = round_device(bandwidth=3.3e11, rate=7e13, overhead_seconds=3e-6, kind="cpu" if eager else "cuda")
    batch = batch_of([*sizes, *[(1, 77 * place, True) for place in range(decodes)]])
    links = (LINK, LINK)
    priced = StagePricer(STAGES[name], device, links).price(batch, BatchSums.of(batch))
    forecast = forecast_step(STAGES[name], batch.shape, device, links)
    assert priced.seconds == pytest.approx(forecast.seconds, rel=1e-9)
    for bound, seconds in forecast.by_bound.items():
        assert getattr(priced, bound) == pytest.approx(seconds, rel=1e-9, abs=1e-15), bound


def test_a_window_is_priced_as_the_forecast_does() -> None:
    spec = published("mistral-7b")
    device = round_device(bandwidth=1e12, rate=1e14)
    batch = batch_of([(500, 4000, True), (1, 9000, True)])
    priced = StagePricer(spec, device, (None, None)).price(batch, BatchSums.of(batch))
    assert priced.seconds == pytest.approx(forecast_step(spec, batch.shape, device, (None, None)).seconds, rel=1e-9)


def test_the_sums_are_those_of_the_shape() -> None:
    batch = batch_of([(5, 10, False), (1, 3, True), (7, 0, True)])
    sums, shape = BatchSums.of(batch), batch.shape
    assert (sums.sequences, sums.tokens, sums.logits) == (3, 13, 2)
    assert (sums.attended, sums.pairs) == (shape.attended_tokens(), shape.attended_pairs())


def test_the_slowest_device_of_a_stage_sets_its_time() -> None:
    batch = batch_of([(1, 100, True)])
    times = [
        StagePricer(tiny_spec(), round_device(bandwidth=bandwidth), (None, None)).price(batch, BatchSums.of(batch))
        for bandwidth in (2e9, 1e9, 4e9)
    ]
    assert slowest(times) == times[1]

"""Seconds of a batch under an engine's profile from its sums: those of `work_seconds`; its pool and its limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import DoesNotFitError
from farthing.hardware.names import parse_hardware
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.engines.engine_pricer import EngineStagePricer, engine_deployment
from farthing.planner.engines.engine_profile import find_engine
from farthing.planner.engines.engine_replica import replica_of
from farthing.planner.simulation.lengths import Lengths
from farthing.planner.simulation.simulator import simulate
from farthing.planner.simulation.workload import by_users
from farthing.planner.timing.op_lines import BatchSums
from farthing.planner.timing.step_work import step_work, work_seconds
from farthing.quantization.base import resolve
from farthing.scheduler.batch import Batch, BatchItem


def published(name: str, weight_format: str = "bf16") -> ModelSpec:
    found = find_published(name)
    assert found is not None
    return describe(ConfigReader(found.config, found.name), Precision.of(resolve(weight_format, "cuda")))


CASES = {
    "one card": ("llama-3.1-8b", "bf16", "h100-sxm", 1, 1),
    "tensor parallel": ("llama-3.1-70b", "fp8", "4x h100-sxm", 4, 1),
    "a pipeline": ("llama-3.1-70b", "int4", "4x4090", 2, 2),
    "experts": ("mixtral-8x7b", "int4", "2x4090", 2, 1),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 700), st.integers(0, 4000)), min_size=1, max_size=10))
def test_a_batch_costs_what_the_profile_says(name: str, sizes: list[tuple[int, int]]):
    model, weight_format, hardware, tp, pp = CASES[name]
    accelerators = parse_hardware(hardware).devices
    replica = replica_of(published(model, weight_format), accelerators, tp, pp, find_engine("vllm"))
    items = tuple(BatchItem(seq_id, start, (1,) * new, (), True, 0) for seq_id, (new, start) in enumerate(sizes))
    batch = Batch(0, items)
    for stage in replica.stages:
        priced = EngineStagePricer(stage).price(batch, BatchSums.of(batch))
        work = step_work(stage.spec, batch.shape)
        seconds = work_seconds(work, stage.speeds, stage.efficiency, stage.link, stage.send)
        assert priced.seconds == pytest.approx(seconds, rel=1e-9)


def test_a_chunk_that_yields_no_token_has_a_price_too():
    (stage,) = replica_of(
        published("llama-3.1-8b"), parse_hardware("h100-sxm").devices, 1, 1, find_engine("vllm")
    ).stages
    batch = Batch(0, (BatchItem(0, 0, (1,) * 512, (), False, 0),))
    priced = EngineStagePricer(stage).price(batch, BatchSums.of(batch))
    assert 0 < priced.seconds < 1


def test_the_pool_and_the_limits_are_those_of_the_engine():
    spec, engine = published("llama-3.1-8b"), find_engine("vllm")
    deployment = engine_deployment(spec, parse_hardware("2x4090").devices, engine, context=4096)
    assert len(deployment.replicas) == 2
    shape = deployment.replicas[0]
    assert (shape.max_num_seqs, shape.max_batch_tokens) == (engine.max_num_seqs, engine.max_batch_tokens)
    room = replica_of(spec, parse_hardware("4090").devices, 1, 1, engine).kv_tokens
    assert room is not None and shape.num_blocks == room // 16
    said = engine_deployment(
        spec, parse_hardware("4090").devices, engine, context=4096, max_num_seqs=8, max_batch_tokens=512, kv_tokens=8192
    )
    assert (said.replicas[0].max_num_seqs, said.replicas[0].max_batch_tokens) == (8, 512)
    assert said.replicas[0].num_blocks == 512
    lengths = Lengths.parse("300", "x"), Lengths.parse("20", "x")
    run = simulate(by_users(4, 0.0, 16, *lengths), said)
    assert sum(outcome.output_tokens for outcome in run.outcomes) == 320


def test_what_leaves_no_room_under_the_engine_does_not_fit():
    with pytest.raises(DoesNotFitError, match="vllm"):
        engine_deployment(published("llama-3.1-70b"), parse_hardware("4090").devices, find_engine("vllm"), context=4096)

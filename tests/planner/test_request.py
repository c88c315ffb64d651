"""What a plan may be asked: every flag within its range, and the context that follows from the lengths."""

import math
from dataclasses import fields

import pytest
from round_hardware import tiny_spec

from farthing.errors import UsageError
from farthing.planner.request import PlanRequest

COUNTS = [field.name for field in fields(PlanRequest) if field.type in (int, int | None)]


def test_every_count_of_the_command_line_is_one_that_is_checked():
    assert {"tp", "pp", "replicas", "batch", "input_tokens", "output_tokens", "context", "block_size"} <= set(COUNTS)
    assert {"max_num_seqs", "max_batch_tokens"} <= set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 10**30])
def test_a_count_out_of_range_names_its_flag(name: str, value: int):
    with pytest.raises(UsageError) as refused:
        PlanRequest(**{name: value})
    assert f"--{name.replace('_', '-')}" in str(refused.value)
    assert refused.value.fix


@pytest.mark.parametrize("price", [-1.0, -1e-9, math.nan, math.inf, -math.inf, 1e308])
def test_a_price_that_is_no_price_is_refused(price: float):
    with pytest.raises(UsageError, match="--price-per-hour"):
        PlanRequest(price_per_hour=price)


def test_what_costs_nothing_is_a_price():
    assert PlanRequest(price_per_hour=0.0).price_per_hour == 0


@pytest.mark.parametrize("network", ["abc", "nan", "0", "-1GB", "", "inf", "1e400"])
def test_a_network_that_is_no_rate_is_refused(network: str):
    with pytest.raises(UsageError, match="--network"):
        PlanRequest(network=network)


@pytest.mark.parametrize("memory", ["abc", "0", "0%", "-5GiB", "101%", "nan%", "inf%", "%", "", "1e-300%"])
def test_memory_that_is_no_size_and_no_share_is_refused(memory: str):
    with pytest.raises(UsageError, match="--memory"):
        PlanRequest(memory=memory)


def test_memory_is_a_size_or_a_share_of_the_device():
    assert PlanRequest(memory="20GiB").budget_bytes(24 * 2**30) == 20 * 2**30
    assert PlanRequest(memory="85%").budget_bytes(1000) == 850
    assert PlanRequest().budget_bytes(1001) == 1001
    assert PlanRequest(memory="20GiB").budget_bytes(None) == 20 * 2**30
    assert PlanRequest(memory="85%").budget_bytes(None) is None


def test_a_step_holds_a_token_of_every_running_sequence():
    with pytest.raises(UsageError, match=r"--max-batch-tokens 100 .*--max-num-seqs 101"):
        PlanRequest(max_batch_tokens=100, max_num_seqs=101)
    PlanRequest(max_batch_tokens=100, max_num_seqs=100)


def test_a_context_that_nobody_says_is_4096_or_what_the_model_has():
    assert PlanRequest().resolve_context(tiny_spec(max_position_embeddings=131072)) == 4096
    assert PlanRequest().resolve_context(tiny_spec(max_position_embeddings=2048)) == 2048


def test_prompt_and_answer_together_are_the_least_context():
    long = PlanRequest(input_tokens=5000, output_tokens=1000)
    assert long.resolve_context(tiny_spec(max_position_embeddings=131072)) == 6000


def test_a_context_that_the_model_does_not_compute_is_refused_with_its_limit():
    spec = tiny_spec(max_position_embeddings=2048)
    for request in (PlanRequest(context=2049), PlanRequest(input_tokens=2000, output_tokens=49)):
        with pytest.raises(UsageError, match=r"2048") as refused:
            request.resolve_context(spec)
        assert "stay within 2048" in refused.value.fix
    assert PlanRequest(context=2048).resolve_context(spec) == 2048


def test_a_context_that_does_not_hold_prompt_and_answer_is_refused_with_the_least():
    with pytest.raises(UsageError, match=r"--context 767 .* - use at least --context 768"):
        PlanRequest(context=767).resolve_context(tiny_spec())
    assert PlanRequest(context=768).resolve_context(tiny_spec()) == 768

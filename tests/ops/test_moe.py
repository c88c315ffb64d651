"""Experts: exact FLOPs, and the expected number of experts that a batch touches, against figures worked out by hand."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.ops.elementwise import Elementwise
from farthing.ops.linear import Linear
from farthing.ops.moe import Experts
from farthing.quantization.base import formats

FORMATS = formats()
SIZES = st.tuples(st.integers(1, 64), st.integers(1, 64)).map(sorted)


def experts(num_experts: int = 8, experts_per_token: int = 2, weight_format: str = "bf16") -> Experts:
    names = ("gate_proj", "up_proj", "down_proj")
    return Experts("mlp.experts", names, num_experts, experts_per_token, 256, 128, FORMATS[weight_format], "bf16")


def dense_cost(weight_format: str, batch: BatchShape) -> Cost:
    """Of one expert, written as a dense MLP."""
    up = Linear("x", 256, 128, FORMATS[weight_format], "bf16").cost(batch)
    down = Linear("x", 128, 256, FORMATS[weight_format], "bf16").cost(batch)
    return up * 2 + Elementwise("x", 128, 2, "bf16").cost(batch) + down


@pytest.mark.parametrize("weight_format", ["bf16", "w8a16", "w4a8"])
@pytest.mark.parametrize("num_tokens", [1, 7])
def test_one_expert_costs_a_dense_mlp_and_a_sum_of_one(weight_format: str, num_tokens: int) -> None:
    batch = BatchShape.prefill(num_tokens)
    weighted_sum = Cost(read_bytes=num_tokens * 256 * 2, write_bytes=num_tokens * 256 * 2)
    assert experts(1, 1, weight_format).cost(batch) == dense_cost(weight_format, batch) + weighted_sum


def test_flops_are_those_of_the_experts_of_each_token() -> None:
    assert experts(8, 2).cost(BatchShape.of([(1, 9), (4, 0)])).flops == {"bf16": 2 * 3 * 5 * 2 * 256 * 128}
    assert experts(8, 2, "w8a8").cost(BatchShape.decode(3)).flops == {"int8": 2 * 3 * 2 * 256 * 128}


@given(SIZES)
def test_one_token_touches_exactly_its_experts_and_many_touch_all(sizes: list[int]) -> None:
    experts_per_token, num_experts = sizes
    op = experts(num_experts, experts_per_token)
    assert op.touched_bytes(BatchShape.decode(5)) == experts_per_token * op.bytes_per_expert
    assert op.touched_bytes(BatchShape.prefill(10_000)) == num_experts * op.bytes_per_expert
    touched = [op.num_touched(num_tokens) for num_tokens in range(1, 20)]
    assert touched == sorted(touched) and touched[-1] <= num_experts


@pytest.mark.parametrize(("num_experts", "experts_per_token", "num_tokens"), [(8, 2, 3), (16, 4, 5), (5, 1, 4)])
def test_expected_experts_are_the_mean_of_uniform_draws(
    num_experts: int, experts_per_token: int, num_tokens: int
) -> None:
    draw, repeats = random.Random(3), 4000
    touched = sum(
        len({expert for _ in range(num_tokens) for expert in draw.sample(range(num_experts), experts_per_token)})
        for _ in range(repeats)
    )
    expected = experts(num_experts, experts_per_token).num_touched(num_tokens)
    assert touched / repeats == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("weight_format", ["bf16", "w8a16", "w4a16"])
def test_every_expert_is_stored_under_its_number(weight_format: str) -> None:
    op = experts(3, 2, weight_format)
    stored = {tensor.suffix: tensor for tensor in op.stored()}
    weights = [f"{e}.{matrix}.weight" for e in range(3) for matrix in ("gate_proj", "up_proj", "down_proj")]
    assert [suffix for suffix in stored if suffix.endswith("weight")] == weights
    assert stored["2.down_proj.weight"].shape[0] == 256 and stored["0.up_proj.weight"].shape[0] == 128
    assert sum(tensor.num_bytes for tensor in stored.values()) == 3 * op.bytes_per_expert
    assert ("1.gate_proj.weight_scale" in stored) == (weight_format != "bf16")

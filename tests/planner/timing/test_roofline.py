"""One op against figures that can be worked out by hand."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_hardware import tiny_spec

from farthing.planner.timing.roofline import StepSize, op_seconds


@dataclass(frozen=True)
class RoundMachine:
    """1 GB/s (10 GB/s for what fits 1 MB), small ops twice as slow; 1 TFLOP/s at best; products 1 GFLOP/s a row up to
    100, half of it in a narrow format; attention 1 GFLOP/s a query that shares keys."""

    overhead_seconds_per_op: float = 1e-3

    def host_seconds(self, num_sequences: int, vocab_size: int) -> float:
        return 0.0

    def read_bandwidth(self, bytes_touched: int) -> float:
        return 10e9 if bytes_touched <= 10**6 else 1e9

    def small_op_bandwidth(self, bytes_moved: float, bytes_touched: int) -> float:
        return self.read_bandwidth(bytes_touched) / 2

    def flops_per_second(self, math: str, rows: float) -> float:
        return 1e9 * min(rows, 100)

    def product_rate(self, weight_format: str, math: str, rows: float, bytes_touched: float) -> float:
        return self.flops_per_second(math, rows) / (2 if weight_format == "w4a16" else 1)

    def attention_rate(self, math: str, queries: float, bytes_attended: float) -> float:
        return 1e9 * queries

    def peak(self, math: str) -> float:
        return 1e12


MACHINE = RoundMachine()
SPEC = tiny_spec()  # 4 query heads to 2 KV heads
LAYER = SPEC.layers[0]
LARGE = StepSize(sequences=2, tokens=20, logits=2, attended=100, working_set_bytes=10**9)
ONE = StepSize(sequences=1, tokens=1, logits=1, attended=1, working_set_bytes=10**9)


def test_an_op_that_mostly_reads_takes_its_bytes_over_the_bandwidth() -> None:
    time = op_seconds(LAYER.q_proj, 4e9, [("bf16", 1e9)], LARGE, MACHINE)
    assert (time.seconds, time.limit, time.bound) == (4.0, 4.0, "bandwidth")


def test_an_op_that_mostly_multiplies_takes_its_flops_over_the_rate_at_its_rows() -> None:
    time = op_seconds(LAYER.q_proj, 1e6, [("bf16", 1e13)], LARGE, MACHINE)
    assert (time.seconds, time.limit, time.bound) == (pytest.approx(1e13 / 20e9), pytest.approx(10.0), "compute")


def test_a_product_that_is_slow_because_it_has_few_rows_is_bound_by_what_limits_it_at_its_best() -> None:
    time = op_seconds(LAYER.q_proj, 1e9, [("bf16", 2e9)], ONE, MACHINE)
    assert (time.seconds, time.limit, time.bound) == (2.0, 1.0, "bandwidth")


def test_a_format_that_is_unpacked_in_the_product_has_a_rate_of_its_own() -> None:
    narrow = tiny_spec("int4").layers[0].q_proj
    wide, packed = (op_seconds(op, 0.0, [("bf16", 1e12)], LARGE, MACHINE).seconds for op in (LAYER.q_proj, narrow))
    assert packed == 2 * wide


def test_the_head_has_the_rows_of_the_logits() -> None:
    assert SPEC.head is not None
    head = op_seconds(SPEC.head, 0.0, [("bf16", 1e12)], LARGE, MACHINE)
    assert head.seconds == pytest.approx(1e12 / 2e9)


def test_attention_has_the_queries_that_share_their_keys() -> None:
    time = op_seconds(LAYER.attention, 0.0, [("bf16", 1e12)], LARGE, MACHINE)
    assert time.seconds == pytest.approx(1e12 / (1e9 * 10 * 2))  # ten rows a sequence, two query heads to a KV head


def test_what_lies_between_the_products_moves_its_bytes_at_a_bandwidth_of_its_own() -> None:
    time = op_seconds(LAYER.mlp_norm, 1e9, [], LARGE, MACHINE)
    assert (time.seconds, time.limit, time.bound) == (2.0, 1.0, "bandwidth")


def test_what_fits_a_cache_is_read_at_the_bandwidth_of_the_cache() -> None:
    small = StepSize(1, 1, 1, 1, 10**6)
    assert (
        op_seconds(LAYER.q_proj, 1e9, [], ONE, MACHINE).seconds
        == 10 * op_seconds(LAYER.q_proj, 1e9, [], small, MACHINE).seconds
    )


@given(
    flops=st.integers(0, 10**15),
    moved=st.integers(0, 10**13),
    rows=st.integers(1, 4096),
    touched=st.integers(1, 10**12),
    at=st.integers(0, 2),
)
def test_no_op_is_faster_than_any_of_its_limits(flops: int, moved: int, rows: int, touched: int, at: int) -> None:
    op = (LAYER.q_proj, LAYER.attention, LAYER.mlp_norm)[at]
    size = StepSize(1, rows, 1, rows, touched)
    time = op_seconds(op, moved, [("bf16", flops)], size, MACHINE)
    assert time.seconds >= time.limit >= moved / MACHINE.read_bandwidth(touched)
    assert time.limit >= min(time.seconds, flops / 1e12)

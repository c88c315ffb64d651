"""The roofline against figures that can be worked out by hand."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ops.cost import Cost
from farthing.planner.timing.roofline import step_time


@dataclass(frozen=True)
class RoundMachine:
    """1 GB/s (10 GB/s for what fits 1 MB), 1 TFLOP/s in int8, 1 GFLOP/s a row up to 100 otherwise, 1 ms a call."""

    overhead_seconds_per_op: float = 1e-3

    def read_bandwidth(self, bytes_touched: int) -> float:
        return 10e9 if bytes_touched <= 10**6 else 1e9

    def flops_per_second(self, math: str, rows: int) -> float:
        return 1e12 if math == "int8" else 1e9 * min(rows, 100)


MACHINE = RoundMachine()


def test_a_step_that_mostly_reads_is_bound_by_bandwidth():
    cost = Cost({"fp32": 10**9}, read_bytes=3 * 10**9, write_bytes=10**9)
    time = step_time(cost, machine=MACHINE, num_kernels=10, rows=1, working_set_bytes=4 * 10**9)
    assert time.bandwidth_seconds == 4.0
    assert time.seconds == pytest.approx(4.0 + 0.01)
    assert time.bound == "bandwidth"


def test_a_step_that_mostly_multiplies_is_bound_by_compute():
    cost = Cost({"fp32": 5 * 10**11}, read_bytes=10**9)
    time = step_time(cost, machine=MACHINE, num_kernels=10, rows=100, working_set_bytes=10**9)
    assert time.compute_seconds == 5.0
    assert time.seconds == pytest.approx(5.0 + 0.01)
    assert time.bound == "compute"


def test_a_tiny_model_is_bound_by_the_overhead_of_its_calls():
    time = step_time(
        Cost({"fp32": 10**6}, read_bytes=10**6), machine=MACHINE, num_kernels=50, rows=1, working_set_bytes=10**6
    )
    assert time.overhead_seconds == pytest.approx(0.05)
    assert time.bound == "latency"


def test_what_fits_a_cache_is_read_at_the_bandwidth_of_the_cache():
    cost = Cost(read_bytes=10**9)
    small = step_time(cost, machine=MACHINE, num_kernels=1, rows=1, working_set_bytes=10**6)
    large = step_time(cost, machine=MACHINE, num_kernels=1, rows=1, working_set_bytes=10**7)
    assert large.bandwidth_seconds == 10 * small.bandwidth_seconds


def test_maths_of_one_step_add_up():
    cost = Cost({"fp32": 10**9, "int8": 10**12})
    time = step_time(cost, machine=MACHINE, num_kernels=1, rows=1, working_set_bytes=1)
    assert time.compute_seconds == 2.0


def test_more_rows_are_multiplied_at_the_rate_of_more_rows():
    cost = Cost({"fp32": 10**9})
    one = step_time(cost, machine=MACHINE, num_kernels=1, rows=1, working_set_bytes=1)
    many = step_time(cost, machine=MACHINE, num_kernels=1, rows=100, working_set_bytes=1)
    assert one.compute_seconds == 100 * many.compute_seconds


def test_communication_on_one_device_is_a_bug_of_the_caller():
    with pytest.raises(AssertionError, match="one device"):
        step_time(Cost(comm_bytes=1), machine=MACHINE, num_kernels=1, rows=1, working_set_bytes=1)


@given(
    flops=st.integers(0, 10**15),
    moved=st.integers(0, 10**13),
    num_kernels=st.integers(1, 10**4),
    rows=st.integers(1, 4096),
    touched=st.integers(1, 10**12),
)
def test_a_step_is_never_faster_than_any_of_its_limits(flops, moved, num_kernels, rows, touched):
    cost = Cost({"fp32": flops}, read_bytes=moved)
    time = step_time(cost, machine=MACHINE, num_kernels=num_kernels, rows=rows, working_set_bytes=touched)
    parts = {
        "bandwidth": time.bandwidth_seconds,
        "compute": time.compute_seconds,
        "latency": time.overhead_seconds,
    }
    assert time.seconds >= max(parts.values()) == parts[time.bound]
    assert time.seconds <= sum(parts.values())

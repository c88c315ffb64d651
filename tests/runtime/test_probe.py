"""One quick probe of this machine: every figure is there and sane. How fast the machine is stays its own affair."""

from pathlib import Path

import pytest
import torch

from farthing.errors import UsageError
from farthing.hardware.calibration import ATTENTION, Calibration, cpu_key, load, save, saved_here
from farthing.kernels.vendor import VendorKernels
from farthing.runtime import probe_graph
from farthing.runtime.probe import device_key, probe

MIB = 2**20


@pytest.fixture(scope="module")
def reports() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def calibration(reports: list[tuple[str, float]]) -> Calibration:
    return probe("cpu", quick=True, progress=lambda what, fraction: reports.append((what, fraction)))


def test_bandwidth_is_measured_by_working_set_with_one_and_with_all_threads(calibration: Calibration):
    reads = [point for point in calibration.bandwidth if point.op == "read"]
    sizes = {point.working_set_bytes for point in reads}
    assert min(sizes) == MIB // 4
    assert len(sizes) >= 4
    for threads in {1, torch.get_num_threads()}:
        assert {p.working_set_bytes for p in reads if p.num_threads == threads} >= {MIB // 4, MIB}


def test_matrix_products_are_measured_in_fp32_from_one_row_up(calibration: Calibration):
    rows = {point.m for point in calibration.gemm if point.math == "fp32"}
    assert {1, 16, 512} <= rows
    assert all(point.n == point.k for point in calibration.gemm if point.format != ATTENTION)


def test_every_point_is_measured_once(calibration: Calibration):
    read = [(point.working_set_bytes, point.num_threads, point.op) for point in calibration.bandwidth]
    multiplied = [(point.kind, point.m, point.n, point.num_threads) for point in calibration.gemm]
    assert len(set(read)) == len(read)
    assert len(set(multiplied)) == len(multiplied)


def test_spreads_are_not_negative(calibration: Calibration):
    assert all(point.spread >= 0 for point in (*calibration.bandwidth, *calibration.gemm))


def test_fixed_memory_is_that_of_a_process_with_torch(calibration: Calibration):
    assert 20 * MIB < calibration.process_bytes < 2**36
    assert calibration.device_context_bytes == 0


def test_the_lookups_answer_from_what_was_measured(calibration: Calibration):
    assert 0 < calibration.overhead_seconds_per_op < 1
    assert calibration.read_bandwidth(64 * MIB) > 0
    assert calibration.flops_per_second("bf16", 16) > 0


def test_a_measured_calibration_is_found_again_by_the_key_of_this_machine(calibration: Calibration, tmp_path: Path):
    save(calibration, tmp_path)
    assert load(device_key(torch.device("cpu"), compiled=True), tmp_path) == calibration
    assert saved_here(tmp_path) == [calibration]


def test_progress_never_goes_back_and_ends_at_one(calibration: Calibration, reports: list[tuple[str, float]]):
    fractions = [fraction for _, fraction in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"memory bandwidth", "matrix products"} <= {what for what, _ in reports}


def test_the_number_of_threads_is_put_back_when_a_probe_is_interrupted():
    before = torch.get_num_threads()

    def interrupt(what: str, fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe("cpu", quick=True, progress=interrupt)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("device", ["", "cpv", "mps", "cuda:99"])
def test_a_device_that_is_not_here_is_a_usage_error(device: str):
    with pytest.raises(UsageError):
        probe(device, quick=True, progress=lambda what, fraction: None)


def test_every_format_has_a_rate_with_weights_in_a_cache_and_in_memory(calibration: Calibration):
    for name in ("bf16", "w8a8", "w4a8"):
        near, far = (calibration.product_rate(name, "int8", 1, size) for size in (MIB, 2**40))
        assert 0 < far < 2 * near
    assert calibration.product_rate("w8a8", "int8", 512, 2**40) <= 1.2 * calibration.peak("int8")


def test_where_nothing_can_be_compiled_torch_is_measured(tmp_path: Path):
    calibration = probe("cpu", quick=True, progress=lambda what, fraction: None, compiled=False)
    assert not calibration.records and calibration.device == cpu_key()
    assert calibration.flops_per_second("bf16", 16) > 0 and calibration.read_bandwidth(64 * MIB) > 0
    save(calibration, tmp_path)
    assert load(device_key(torch.device("cpu"), compiled=True), tmp_path) is None


def test_the_kernels_of_an_engine_are_measured_in_every_format_by_rows() -> None:
    """As on a GPU, but for the graphs."""
    extent = probe_graph.Extent((1, 8), width=256, num_bytes=2**18, product_seconds=1.5)
    kernels = dict.fromkeys(("bf16", "fp8", "w4a16"), VendorKernels())
    points = probe_graph.measure_products(torch.device("cpu"), kernels, extent, lambda what, fraction: None)
    assert {(point.kind, point.m) for point in points} == {(name, rows) for name in kernels for rows in (1, 8)}
    assert all(point.working_set_bytes >= 2**18 and point.flops_per_second > 0 for point in points)
    assert probe_graph.graph_kernels(torch.device("cpu")) == {}

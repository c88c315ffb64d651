"""What `farthing probe` shows of a calibration, and when it says that the machine was busy."""

from dataclasses import replace

import pytest

from farthing.cli.probe import print_tables, was_busy
from farthing.hardware.calibration import (
    ATTENTION,
    SMALL_OPS,
    BandwidthPoint,
    Calibration,
    DeviceKey,
    GemmPoint,
    PeakPoint,
)

MIB = 2**20
CALIBRATION = Calibration(
    device=DeviceKey("cpu", "Example CPU", 8, "torch 2.13.0"),
    date="2026-01-31T12:00:00+00:00",
    bandwidth=(
        BandwidthPoint(MIB, 1, "dot", 90e9, 0.02),
        BandwidthPoint(MIB, 1, "mv", 70e9, 0.02),
        BandwidthPoint(256 * MIB, 1, "dot", 20e9, 0.04),
        BandwidthPoint(256 * MIB, 8, "dot", 45e9, 0.04),
    ),
    gemm=(
        GemmPoint("fp32", 1, 512, 512, 8, 50e9, 0.1),
        GemmPoint("int8", 1, 512, 512, 8, 80e9, 0.1),
        GemmPoint("int8", 128, 512, 512, 8, 2e12, 0.1),
    ),
    links=(),
    overhead_seconds_per_op=7e-7,
    process_bytes=150 * MIB,
    device_context_bytes=0,
)


def test_a_row_of_the_bandwidth_shows_the_best_op_for_each_number_of_threads(capsys: pytest.CaptureFixture[str]):
    print_tables(CALIBRATION)
    lines = capsys.readouterr().out.splitlines()
    [small] = [line for line in lines if line.lstrip().startswith("1.00 MiB")]
    [large] = [line for line in lines if line.lstrip().startswith("256.00 MiB")]
    assert "90 GB/s ±1 %" in small
    assert "70 GB/s" not in small
    assert " - " in small
    assert "20 GB/s ±2 %" in large
    assert "45 GB/s ±2 %" in large
    assert small.count("█") == 2 * large.count("█")


def test_a_product_that_was_not_measured_shows_nothing(capsys: pytest.CaptureFixture[str]):
    print_tables(CALIBRATION)
    lines = capsys.readouterr().out.splitlines()
    [row] = [line.split() for line in lines if line.split()[:1] == ["fp32"]]
    assert row == ["fp32", "50", "GFLOP/s", "-"]


def test_overhead_and_memory_are_shown(capsys: pytest.CaptureFixture[str]):
    print_tables(CALIBRATION)
    out = capsys.readouterr().out
    assert "700 ns" in out
    assert "150.00 MiB" in out
    assert "context on the device" not in out


def test_a_quiet_machine_is_not_called_busy():
    assert not was_busy(CALIBRATION)


def test_repeats_that_differ_a_lot_mean_a_busy_machine():
    restless = tuple(replace(point, spread=0.8) for point in (*CALIBRATION.bandwidth,))
    assert was_busy(replace(CALIBRATION, bandwidth=restless))


def test_all_threads_that_read_slower_than_one_mean_a_busy_machine():
    *others, last = CALIBRATION.bandwidth
    assert was_busy(replace(CALIBRATION, bandwidth=(*others, replace(last, bytes_per_second=5e9))))


def test_all_threads_that_compute_slower_than_one_mean_a_busy_machine():
    quiet = replace(CALIBRATION, peaks=(PeakPoint("int8", 1, 1e12, 0.0), PeakPoint("int8", 8, 7e12, 0.0)))
    assert not was_busy(quiet)
    assert was_busy(replace(quiet, peaks=(quiet.peaks[0], replace(quiet.peaks[1], flops_per_second=1e11))))


def test_formats_and_peaks_have_columns_and_attention_and_small_ops_no_row(capsys: pytest.CaptureFixture[str]):
    recorded = replace(
        CALIBRATION,
        bandwidth=(*CALIBRATION.bandwidth, BandwidthPoint(12345, 8, SMALL_OPS, 3e9, 0.0)),
        gemm=(
            GemmPoint("fp32", 1, 512, 512, 8, 50e9, 0.1),
            GemmPoint("int8", 1, 512, 512, 8, 80e9, 0.1, "w4a8", MIB),
            GemmPoint("fp32", 4096, 64, 64, 8, 7e9, 0.0, ATTENTION, MIB),
        ),
        peaks=(PeakPoint("int8", 8, 7e12, 0.0),),
        records=True,
    )
    print_tables(recorded)
    out = capsys.readouterr().out
    assert "w4a8" in out and "7 TFLOP/s" in out and "recorded call" in out
    assert "3 GB/s" not in out and "7 GFLOP/s" not in out

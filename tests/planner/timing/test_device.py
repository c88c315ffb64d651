"""A device of a plan: what the catalogue or a probe says, times what is reached of it."""

from dataclasses import replace

import pytest
from round_hardware import figure, round_accelerator

from farthing.errors import UnsupportedError
from farthing.hardware.accelerator import Accelerator, Measured, accelerator_ids, load_accelerator
from farthing.hardware.calibration import BandwidthPoint, Calibration, DeviceKey, GemmPoint
from farthing.planner.timing.device import Device, calibrated_device, catalogue_device
from farthing.quantization.base import resolve

SOURCE = ("https://example.com",)


def catalogued(accelerator: Accelerator) -> Device:
    """With all of its memory."""
    return catalogue_device(accelerator, accelerator.memory_bytes)


def test_an_rtx_4090_is_what_was_measured_on_it():
    device = catalogued(load_accelerator("rtx-4090"))
    assert device.kind == "cuda"
    assert device.memory_bytes == 25_757_220_864
    assert device.machine.read_bandwidth(10**9) == pytest.approx(1.008e12 * 0.905)
    assert device.machine.flops_per_second("bf16", 1) == pytest.approx(165.2e12 * 1.082)
    assert device.machine.flops_per_second("fp8", 1) == pytest.approx(330.3e12 * 1.072)
    assert device.machine.overhead_seconds_per_op == 3e-6
    assert device.reserve_bytes == 600 * 2**20


@pytest.mark.parametrize(
    ("memory_type", "share"), [("HBM3", 0.85), ("GDDR7", 0.89), ("LPDDR5X", 0.8), ("DDR5-4800 x8", 0.8), (None, 0.8)]
)
def test_bandwidth_that_nobody_measured_is_the_usual_share_of_its_kind_of_memory(memory_type: str | None, share: float):
    device = catalogued(round_accelerator(memory_type=memory_type))
    assert device.machine.read_bandwidth(1) == pytest.approx(1e12 * share)
    assert any("not measured on it" in note and f"{share:.1%}" in note for note in device.assumptions)


def test_a_measured_copy_goes_before_the_usual_share():
    measured = {"copy": Measured(700e9, 0.7, SOURCE)}
    device = catalogued(round_accelerator(memory_type="HBM3", measured=measured))
    assert device.machine.read_bandwidth(1) == pytest.approx(0.7e12)


@pytest.mark.parametrize(("name", "share"), [("GeForce X", 1.0), ("Radeon RX 1", 1.0), ("Arc B9", 1.0), ("H900", 0.8)])
def test_a_rate_that_nobody_measured_is_the_usual_share_of_its_class(name: str, share: float):
    device = catalogued(round_accelerator(name=name))
    assert device.machine.flops_per_second("bf16", 1) == pytest.approx(100e12 * share)


def test_a_share_measured_in_one_math_serves_for_the_others_and_its_own_goes_first():
    flops = {"bf16": figure(100e12), "fp8": figure(200e12), "int8": figure(400e12)}
    measured = {"matmul_bf16": Measured(50e12, 0.5, SOURCE), "matmul_fp8": Measured(180e12, 0.9, SOURCE)}
    machine = catalogued(round_accelerator(flops=flops, measured=measured)).machine
    rates = [machine.flops_per_second(math, 1) for math in ("bf16", "fp8", "int8")]
    assert rates == pytest.approx([50e12, 180e12, 200e12])


def test_a_math_that_is_not_known_is_refused_by_name():
    machine = catalogued(round_accelerator()).machine
    with pytest.raises(UnsupportedError, match=r"round-1 in fp8.* - .*bf16"):
        machine.flops_per_second("fp8", 1)


def test_memory_that_depends_on_the_machine_must_be_said():
    server = round_accelerator(nominal_bytes=None, kind="cpu")
    with pytest.raises(UnsupportedError, match="--memory 64GiB"):
        catalogued(server)
    device = catalogue_device(server, 2**36)
    assert (device.memory_bytes, device.kind) == (2**36, "cpu")


def test_without_a_bandwidth_there_is_no_time():
    with pytest.raises(UnsupportedError, match="bandwidth of round-1"):
        catalogued(round_accelerator(bandwidth=None)).machine.read_bandwidth(1)


def test_a_nominal_size_is_told_as_an_assumption_and_a_size_that_the_user_says_is_not():
    assert any("nominal size" in note for note in catalogued(round_accelerator()).assumptions)
    assert not any("nominal size" in note for note in catalogue_device(round_accelerator(), 10**8).assumptions)
    usable = round_accelerator(usable_bytes=figure(10**8))
    assert not any("nominal size" in note for note in catalogued(usable).assumptions)


@pytest.mark.parametrize("id", accelerator_ids())
def test_no_entry_of_the_catalogue_reads_faster_than_its_nominal_bandwidth(id: str):
    entry = load_accelerator(id)
    if entry.bandwidth is not None:
        device = catalogue_device(entry, entry.memory_bytes or 2**36)
        assert 0 < device.machine.read_bandwidth(2**30) <= entry.bandwidth.value


def _calibration(kind: str) -> Calibration:
    return Calibration(
        device=DeviceKey(kind, "Some Processor", 4, "torch 2"),
        date="2026-11-22T10:00:00+00:00",
        bandwidth=(BandwidthPoint(2**30, 4, "sum", 20e9, 0.01),),
        gemm=(GemmPoint("fp32", 512, 512, 512, 4, 1e11, 0.01),),
        links=(),
        overhead_seconds_per_op=2e-6,
        process_bytes=300 * 2**20,
        device_context_bytes=500 * 2**20,
    )


@pytest.mark.parametrize(("kind", "reserve_bytes"), [("cpu", 300 * 2**20), ("cuda", 500 * 2**20)])
def test_a_measured_machine_is_the_roofline_itself_and_its_fixed_memory_the_reserve(kind: str, reserve_bytes: int):
    calibration = _calibration(kind)
    device = calibrated_device(calibration, memory_bytes=2**34, accelerator=None)
    assert device.machine is calibration
    assert (device.kind, device.memory_bytes, device.reserve_bytes) == (kind, 2**34, reserve_bytes)
    assert device.assumptions and "2026-11-22" in device.assumptions[0]


@pytest.mark.parametrize(
    ("kind", "records", "widened"),
    [
        ("cpu", False, {"w8a8", "w4a16", "fp8"}),
        ("cpu", True, {"w4a16", "fp8"}),
        ("cuda", False, {"w8a8", "w4a16", "fp8"}),
        ("cuda", True, set()),
    ],
)
def test_an_engine_that_records_its_steps_here_reads_the_formats_of_its_kernels_as_they_are(
    kind: str, records: bool, widened: set[str]
):
    device = calibrated_device(replace(_calibration(kind), records=records), memory_bytes=2**34, accelerator=None)
    formats = [resolve(name, kind) for name in ("bf16", "w8a8", "w4a16", "fp8")]
    assert {weight_format.name for weight_format in formats if device.widens(weight_format)} == widened

"""From a name to devices in nodes: the catalogue, one that was dropped in, and this machine as it was measured."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from round_hardware import tiny_config

from farthing.errors import FarthingError, UnsupportedError, UsageError
from farthing.hardware import calibration
from farthing.hardware.accelerator import CATALOG, accelerator_ids
from farthing.hardware.calibration import BandwidthPoint, Calibration, GemmPoint, cpu_key
from farthing.hardware.names import parse_hardware
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.plan import make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import catalogue_device

USABLE_4090 = 25_757_220_864


def found(on: str, memory: str = "100%") -> Hardware:
    return find_hardware(PlanRequest(on=on, memory=memory))


def test_nodes_of_devices_are_counted_node_by_node():
    hardware = found("2x8xh100-sxm")
    assert [device.name for device in hardware.devices] == ["h100-sxm"] * 16
    assert hardware.nodes == (0,) * 8 + (1,) * 8
    assert hardware.name == "2x8x h100-sxm"


def test_a_mixed_cluster_keeps_its_order_in_one_node():
    hardware = found("4x4090+4x3090")
    assert [device.name for device in hardware.devices] == ["rtx-4090"] * 4 + ["rtx-3090"] * 4
    assert set(hardware.nodes) == {0}


@pytest.mark.parametrize("id", ["m2-ultra", "xeon-8480p", "strix-halo-395"])
def test_whole_machines_are_nodes_of_their_own(id: str):
    assert found(f"3x {id}", "32GiB").nodes == (0, 1, 2)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("100%", USABLE_4090), ("50%", USABLE_4090 // 2), ("20GiB", 20 * 2**30), (" 10 GB ", 10**10)],
)
def test_memory_is_a_share_of_what_is_usable_or_a_size(memory: str, expected: int):
    assert found("rtx-4090", memory).devices[0].memory_bytes == expected


def test_a_server_whose_memory_nobody_knows_needs_a_size_and_no_share():
    assert found("xeon-8480p", "64GiB").devices[0].memory_bytes == 64 * 2**30
    for memory in ("100%", "50%"):
        with pytest.raises(UnsupportedError, match="--memory 64GiB"):
            found("xeon-8480p", memory)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("4099", "did you mean rtx-4090"),
        ("h100", "h100-nvl, h100-pcie, h100-sxm"),
        ("", "farthing hardware lists"),
        ("0x4090", "no number of devices"),
        ("2000x4090", "at most 1,024"),
        ("4090+", "farthing hardware lists"),
        ("\x00", "farthing hardware lists"),
    ],
)
def test_a_name_that_says_nothing_certain_is_one_line_with_a_way_on(name: str, fragment: str):
    with pytest.raises(FarthingError) as refused:
        found(name)
    assert fragment in str(refused.value) and refused.value.fix
    assert "\n" not in str(refused.value)


NEW_CARD = """
name = "Example 9000"
vendor = "example"
kind = "gpu"
sale = "sold"
engines = ["llama.cpp"]
memory_type = "GDDR6"
nominal_bytes = { value = 25_769_803_776, sources = ["https://example.com/sheet.pdf"], known = "vendor" }
bandwidth = { value = 1e12, sources = ["https://example.com/sheet.pdf"], known = "vendor" }
[flops]
bf16 = { value = 100e12, sources = ["https://example.com/sheet.pdf"], known = "vendor" }
[scale_up]
kind = "none"
[host]
kind = "pcie4x16"
bytes_per_second = { value = 31.5e9, sources = ["https://example.com/sheet.pdf"], known = "derived" }
"""


def test_an_accelerator_is_one_file_dropped_into_the_catalogue(tmp_path: Path):
    folder = tmp_path / "catalog"
    shutil.copytree(CATALOG, folder)
    (folder / "example-9000.toml").write_text(NEW_CARD)
    assert set(accelerator_ids(folder)) - set(accelerator_ids()) == {"example-9000"}
    cluster = parse_hardware("2x 9000", folder)
    assert cluster.name == "2x example-9000"
    device = catalogue_device(cluster.devices[0], cluster.devices[0].memory_bytes)
    hardware = Hardware(cluster.name, (device, device), (0, 0))
    plan = make_plan("tiny", tiny_config(), hardware, PlanRequest())
    assert plan.fits and plan.hardware == "2x example-9000"
    assert plan.best.speed.decode.tokens_per_second > 0
    assert any("example-9000" in reason for reason in plan.plan_only)


MEASURED = Calibration(
    device=cpu_key(),
    date="2026-11-22T10:00:00+00:00",
    bandwidth=(BandwidthPoint(2**30, 2, "sum", 20e9, 0.01),),
    gemm=(GemmPoint("fp32", 512, 512, 512, 2, 1e11, 0.01), GemmPoint("bf16", 512, 512, 512, 2, 2e11, 0.01)),
    links=(),
    overhead_seconds_per_op=2e-6,
    process_bytes=300 * 2**20,
    device_context_bytes=0,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_this_machine_is_what_the_probe_measured(home: Path):
    calibration.save(MEASURED)
    hardware = found("here", "8GiB")
    (device,) = hardware.devices
    assert (hardware.name, hardware.nodes, device.kind) == ("here", (0,), "cpu")
    assert (device.memory_bytes, device.reserve_bytes) == (8 * 2**30, 300 * 2**20)
    plan = make_plan("tiny", tiny_config(), hardware, PlanRequest(memory="8GiB"))
    assert plan.fits and plan.price.dollars_per_hour is None


def test_this_machine_s_memory_is_what_can_be_taken(home: Path):
    calibration.save(MEASURED)
    whole, half = (found(" HERE ", memory).devices[0].memory_bytes for memory in ("100%", "50%"))
    assert 2**20 < half < whole < 2**50


def test_a_machine_that_was_not_measured_is_sent_to_the_probe_or_the_catalogue(home: Path):
    with pytest.raises(UsageError, match=r"not been measured - name hardware .*--on rtx-4090, or run farthing probe"):
        found("here")


def test_a_measurement_of_another_machine_is_not_this_one(home: Path):
    other = replace(MEASURED, device=replace(MEASURED.device, num_cores=MEASURED.device.num_cores + 1))
    calibration.save(other)
    with pytest.raises(UsageError, match="not been measured"):
        found("here")

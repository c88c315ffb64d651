"""What is read of NVIDIA's cards, with an NVML that is a table: complete, with gaps, and without a driver."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from nvml import H200, fake_nvml, no_nvml

from farthing import discover
from farthing.errors import UnsupportedError

Load = Callable[..., ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """hardware/nvidia.py over these cards."""

    def _load(*cards: dict[str, Any], nvlink: bool = False, starts: bool = True) -> ModuleType:
        fake_nvml(monkeypatch, *cards, nvlink=nvlink, starts=starts)
        return discover.load("farthing.hardware", "nvidia")

    return _load


def test_a_card_is_read_in_base_units(load: Load):
    (gpu,) = load(H200).read_gpus()
    assert (gpu.index, gpu.name, gpu.driver, gpu.bus_id) == (0, "NVIDIA H200", "575.57.08", "00000000:3B:00.0")
    assert (gpu.total_bytes, gpu.used_bytes) == (150_754_820_096, 4_194_304)
    assert (gpu.power_watts, gpu.power_limit_watts, gpu.default_power_limit_watts) == (74.1, 500.0, 700.0)
    assert gpu.temperature_celsius == 31.0
    assert (gpu.link_width, gpu.link_width_max, gpu.link_generation, gpu.link_generation_max) == (8, 16, 5, 5)
    assert (gpu.uncorrected_ecc_errors, gpu.is_lost) == (2, False)


def test_resting_is_no_throttling(load: Load):
    (gpu,) = load(H200).read_gpus()
    assert gpu.throttle_reasons == ("power_cap", "hardware_thermal")
    (gpu,) = load({**H200, "CurrentClocksEventReasons": 0x001 | 0x002}).read_gpus()
    assert gpu.throttle_reasons == ()


@pytest.mark.parametrize("name", [name for name in H200 if name != "Temperature"])
def test_what_a_card_does_not_tell_is_not_known_and_the_rest_is(load: Load, name: str):
    (gpu,) = load({key: value for key, value in H200.items() if key != name}).read_gpus()
    assert gpu.temperature_celsius == 31.0 and not gpu.is_lost


def test_a_card_that_tells_nothing_is_still_a_card(load: Load):
    nvidia = load({})
    assert nvidia.read_gpus() == (nvidia.GpuReading(0, driver="575.57.08"),)


def test_a_package_without_a_function_is_an_old_one(monkeypatch: pytest.MonkeyPatch):
    nvml = fake_nvml(monkeypatch, H200)
    del nvml.nvmlDeviceGetCurrentClocksEventReasons
    vars(nvml)["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda handle: 0x008
    (gpu,) = discover.load("farthing.hardware", "nvidia").read_gpus()
    assert gpu.throttle_reasons == ("hardware_slowdown",)


def test_a_card_that_fell_off_the_bus_is_lost_and_the_other_is_read(load: Load):
    lost, other = load({"lost": True}, H200).read_gpus()
    assert lost.is_lost and lost.name is None and lost.temperature_celsius is None
    assert not other.is_lost and other.index == 1


def test_links_are_nvlink_or_the_way_over_pcie(load: Load):
    assert [link.kind for link in load(H200, H200, nvlink=True).read_links()] == ["NVLink"]
    links = load(H200, H200, H200).read_links()
    assert [(link.first, link.second) for link in links] == [(0, 1), (0, 2), (1, 2)]
    assert links[0].kind == "PCIe through one host bridge"
    assert links[1].kind == "PCIe through two processors"


def test_without_a_driver_it_says_so_and_what_to_look_at(load: Load):
    nvidia = load(starts=False)
    for read in (nvidia.read_gpus, nvidia.read_links):
        with pytest.raises(UnsupportedError, match=r"Driver Not Loaded.*nvidia-smi"):
            read()


def test_without_the_package_it_is_an_import_error(monkeypatch: pytest.MonkeyPatch):
    no_nvml(monkeypatch)
    with pytest.raises(ImportError):
        discover.load("farthing.hardware", "nvidia")

"""What `farthing doctor` says of NVIDIA's cards, with an NVML and versions of packages that are tables."""

import importlib.metadata
from typing import Any

import pytest
from nvml import H200, fake_nvml, no_nvml

from farthing.cli.doctor_cards import cards
from farthing.cli.finding import Finding, cuda_of_torch

SOUND: dict[str, Any] = {**H200, "CurrPcieLinkWidth": 16, "TotalEccErrors": 0, "CurrentClocksEventReasons": 0}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of the packages that are installed."""
    installed = {"torch": "2.13.0", "nvidia-cuda-runtime-cu12": "12.8.90"}

    def version(package: str) -> str:
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


def found(name: str) -> list[Finding]:
    return [finding for finding in cards() if finding.name == name]


def test_a_sound_card_tells_power_heat_and_link(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]):
    fake_nvml(monkeypatch, SOUND)
    (card,) = found("gpu")
    assert card.mark == "ok" and card.fix == ""
    for part in ("0: NVIDIA H200", "140.40 GiB free", "74 W of 500 W (capped, 700 W by default)", "31 °C"):
        assert part in card.text
    for part in ("PCIe 5.0 x16 of x16", "0 uncorrected memory errors", "driver 575.57.08", "Xid not counted"):
        assert part in card.text


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        ({"lost": True}, "can't reach it", "Xid"),
        ({"CurrPcieLinkWidth": 4}, "PCIe 5.0 x4 of x16", "riser"),
        ({"CurrentClocksEventReasons": 0x44}, "throttled by power_cap and hardware_thermal", "cooling"),
        ({"TotalEccErrors": 3}, "3 uncorrected memory errors", "nvidia-smi -q -d ECC"),
    ],
)
def test_a_card_that_is_not_sound_is_a_problem_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], change: dict[str, Any], says: str, remedy: str
):
    fake_nvml(monkeypatch, SOUND, {**SOUND, **change})
    sound, card = found("gpu")
    assert sound.mark == "ok"
    assert card.mark == "problem" and says in card.text and remedy in card.fix


def test_a_busy_card_at_its_cap_is_as_it_should_be(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]):
    fake_nvml(monkeypatch, {**SOUND, "CurrentClocksEventReasons": 0x4})
    (card,) = found("gpu")
    assert card.mark == "ok" and "power_cap" in card.text


def test_a_card_that_tells_nothing_is_told_without_guesses(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]):
    fake_nvml(monkeypatch, {})
    (card,) = found("gpu")
    assert card.mark == "ok" and card.text.startswith("0: a card without a name, driver")


def test_the_ways_between_cards_are_told_by_kind(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]):
    fake_nvml(monkeypatch, SOUND, SOUND, SOUND)
    (links,) = found("links")
    assert links.text == "PCIe through one host bridge: 0-1 1-2; PCIe through two processors: 0-2"


@pytest.mark.parametrize(
    ("torch", "runtime", "mark", "says"),
    [
        ("2.13.0", "12.8.90", "ok", "CUDA 12.8, and driver 575.57.08 has it"),
        ("2.13.0+cu128", "", "ok", "CUDA 12.8"),
        ("2.13.0+cu130", "", "problem", "CUDA 13.0, which needs a driver of 580 or later"),
        ("2.13.0+cu990", "", "ok", "not known"),
        ("2.13.0+cpu", "12.8.90", "missing", "without CUDA"),
    ],
)
def test_torch_is_compared_with_the_driver(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], torch: str, runtime: str, mark: str, says: str
):
    versions["torch"] = torch
    versions["nvidia-cuda-runtime-cu12"] = runtime or "0"
    if not runtime:
        del versions["nvidia-cuda-runtime-cu12"]
    fake_nvml(monkeypatch, SOUND)
    (cuda,) = found("cuda")
    assert cuda.mark == mark and says in cuda.text and bool(cuda.fix) == (mark != "ok")


def test_without_torch_no_cuda_is_wanted(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]):
    versions.clear()
    fake_nvml(monkeypatch, SOUND)
    assert found("cuda") == [] and cuda_of_torch() is None


def test_without_the_package_or_a_driver_nothing_is_known_and_nothing_is_broken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")  # no nvidia-smi either
    no_nvml(monkeypatch)
    assert [(finding.mark, finding.name) for finding in cards()] == [("ok", "gpu")]
    fake_nvml(monkeypatch, starts=False)
    assert [(finding.mark, finding.name) for finding in cards()] == [("ok", "gpu")]


def test_with_nvidia_smi_alone_it_says_what_is_not_known(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], tmp_path: Any
):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 143000, 535.10, GPU-1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    no_nvml(monkeypatch)
    (gpu,), (unknown,) = found("gpu"), found("cards")
    assert "NVIDIA H200" in gpu.text and gpu.mark == "ok"
    assert unknown.mark == "missing" and unknown.fix == "pip install 'farthing[nvidia]'"
    (cuda,) = found("cuda")
    assert cuda.mark == "ok"

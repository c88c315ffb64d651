"""The machine: what it is and in which state, what its data sheet says, what it reaches, and its calibration file."""

import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from farthing.errors import FarthingError
from farthing.hardware.calibration import cpu_key, save
from farthing.runtime.probe import device_key, probe
from on_gpu.machine import measured_peaks, sheet_peaks
from on_gpu.reporting import Reporter

_PACKAGES = ("farthing", "triton", "transformers", "numpy")


def environment_part(device: torch.device, report: Reporter, *, is_quick: bool) -> None:
    key = cpu_key() if device.type == "cpu" else device_key(device, compiled=False)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    report.row("environment", kind=key.kind, device=key.name, key=key.versions, cores=os.cpu_count(), versions=versions)
    _state(device, "before", report)
    sheet = sheet_peaks(device)
    if sheet is not None:
        report.row("peaks", source="data sheet", **asdict(sheet))
    report.row("peaks", source="measured", **asdict(measured_peaks(device, small=is_quick)))
    _state(device, "after the products", report)


def _state(device: torch.device, when: str, report: Reporter) -> None:
    """Power, limit, temperature, and what slows the card down."""
    if device.type != "cuda":
        return
    try:
        readings: Any = import_module("farthing.hardware.nvidia").read_gpus()
    except ImportError:
        report.problem("power and temperature", "nvidia-ml-py is not installed")
    except FarthingError as error:
        report.problem("power and temperature", str(error))
    else:
        report.row("state", when=when, cards=[asdict(reading) for reading in readings])


def calibration_part(device: torch.device, folder: Path, report: Reporter, *, is_quick: bool) -> None:
    begin, shown = time.monotonic(), ""

    def progress(what: str, fraction: float) -> None:
        nonlocal shown
        if what != shown:
            shown = what
            sys.stderr.write(f"  {fraction:4.0%} {what}\n")

    found = probe(str(device), quick=is_quick, progress=progress)
    path = save(found, folder)
    report.row(
        "calibration",
        file=path.name,
        seconds=time.monotonic() - begin,
        bytes_per_second=max(point.bytes_per_second for point in found.bandwidth),
        flops_per_second={
            math: max(point.flops_per_second for point in found.gemm if point.math == math)
            for math in sorted({point.math for point in found.gemm})
        },
        overhead_seconds_per_op=found.overhead_seconds_per_op,
    )

"""From what a user calls HW to devices: a cluster of the catalogue, or `here`, this machine as it was measured.

Knows no model.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from farthing.errors import FarthingError, UsageError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.calibration import Calibration, saved_here
from farthing.hardware.names import parse_hardware
from farthing.planner.device import Device, calibrated_device, catalogue_device
from farthing.units import parse_bytes

HERE = "here"
MAX_DEVICES = 1024


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a plan runs on: the devices in order, and the number of the node that each of them is in."""

    name: str
    devices: tuple[Device, ...]
    nodes: tuple[int, ...]


def find_hardware(name: str, memory: str = "100%") -> Hardware:
    """`memory`: what may be used of each device, a size or a share. UsageError for an unknown or ambiguous name."""
    if name.strip().lower() == HERE:
        return Hardware(HERE, (_this_machine(memory),), (0,))
    cluster = parse_hardware(name)
    if cluster.num_devices > MAX_DEVICES:
        raise UsageError(
            f"{name!r:.60} is {cluster.num_devices:,} devices; a plan is for at most {MAX_DEVICES:,}",
            fix="plan one replica and multiply",
        )
    distinct = {accelerator.id: accelerator for accelerator in cluster.devices}
    devices = {key: catalogue_device(entry, _budget(memory, entry.memory_bytes)) for key, entry in distinct.items()}
    return Hardware(
        cluster.name,
        tuple(devices[entry.id] for entry in cluster.devices),
        tuple(index for index, node in enumerate(cluster.nodes) for _ in node.accelerators),
    )


def _this_machine(memory: str) -> Device:
    """The measured GPU if there is one, else the processor."""
    measured = saved_here()
    if not measured:
        raise UsageError(
            "this machine has not been measured",
            fix="run farthing probe, or name hardware of the catalogue: --on rtx-4090 (farthing hardware lists it)",
        )
    calibration = next((one for one in measured if one.device.kind == "cuda"), measured[0])
    nearest = _nearest(calibration)
    if calibration.device.kind == "cpu":
        whole: int | None = _available_memory_bytes()
    else:
        whole = nearest.memory_bytes if nearest else None
    budget = _budget(memory, whole) or whole
    if budget is None:
        raise UsageError(f"the memory of {calibration.device.name} is not known", fix="say --memory 24GiB")
    return calibrated_device(calibration, memory_bytes=budget, accelerator=nearest)


def _nearest(calibration: Calibration) -> Accelerator | None:
    try:
        return parse_hardware(calibration.device.name).devices[0]
    except FarthingError:
        return None


def _available_memory_bytes() -> int:
    """Memory that can be taken without swapping (Linux), else all there is."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _budget(memory: str, whole: int | None) -> int | None:
    """Bytes that may be used; None means what the catalogue says."""
    text = memory.strip()
    try:
        if not text.endswith("%"):
            return parse_bytes(text)
        share = float(text[:-1]) / 100
    except ValueError:
        raise UsageError(f"--memory is {memory!r}", fix="write a size such as 20GiB or a share such as 85%") from None
    if not 0 < share <= 1:
        raise UsageError(f"--memory is {memory!r}", fix="a share lies above 0% and at most at 100%")
    return None if share == 1 or whole is None else int(whole * share)

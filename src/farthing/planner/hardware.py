"""From what a user calls HW to devices: a cluster of the catalogue, or `here`, this machine as it was measured.

Knows no model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from farthing.errors import FarthingError, UsageError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.calibration import Calibration, saved_here
from farthing.hardware.cluster import Cluster
from farthing.hardware.machine import freest, gpus, memory_bytes
from farthing.hardware.names import parse_hardware
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import SHARE_HERE, Device, calibrated_device, catalogue_device

HERE = "here"
MAX_DEVICES = 1024
_MACHINES = ("cpu", "vm", "soc", "apu")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a plan runs on: the devices in order, and the number of the node that each of them is in."""

    name: str
    devices: tuple[Device, ...]
    nodes: tuple[int, ...]


def find_hardware(request: PlanRequest) -> Hardware:
    """What `request.on` names. UsageError for an unknown or ambiguous name."""
    name = request.on
    if name.strip().lower() == HERE:
        if request.engine is not None:
            raise UsageError(
                "--engine is a profile for hardware of the catalogue; here, Farthing's own engine is forecast",
                fix="leave it out, or name hardware: --on rtx-4090",
            )
        return Hardware(HERE, (_this_machine(request),), (0,))
    cluster = parse_hardware(name)
    if cluster.num_devices > MAX_DEVICES:
        raise UsageError(
            f"{name!r:.60} is {cluster.num_devices:,} devices; a plan is for at most {MAX_DEVICES:,}",
            fix="plan one replica and multiply",
        )
    distinct = {accelerator.id: accelerator for accelerator in cluster.devices}
    devices = {
        key: catalogue_device(entry, request.budget_bytes(entry.memory_bytes)) for key, entry in distinct.items()
    }
    return Hardware(
        cluster.name,
        tuple(devices[entry.id] for entry in cluster.devices),
        tuple(_node_numbers(cluster)),
    )


def _node_numbers(cluster: Cluster) -> Iterator[int]:
    """The node of each device. A processor with memory of its own is a machine of its own: the network joins it."""
    number = -1
    for node in cluster.nodes:
        for index, accelerator in enumerate(node.accelerators):
            if index == 0 or accelerator.kind in _MACHINES:
                number += 1
            yield number


def _this_machine(request: PlanRequest) -> Device:
    """The measured GPU if there is one, else the processor."""
    measured = saved_here()
    if not measured:
        raise UsageError(
            "this machine has not been measured",
            fix="name hardware of the catalogue, as in --on rtx-4090, or run farthing probe (which needs torch)",
        )
    calibration = next((one for one in measured if one.device.kind == "cuda"), measured[0])
    nearest = _nearest(calibration)
    if calibration.device.kind == "cpu":
        whole: int | None = memory_bytes()[1]
    else:
        found = [gpu for gpu in gpus() if gpu.name == calibration.device.name]
        whole = freest(found).free_bytes if found else nearest.memory_bytes if nearest else None
    budget = request.budget_bytes(whole, SHARE_HERE[calibration.device.kind])
    if budget is None:
        raise UsageError(f"the memory of {calibration.device.name} is not known", fix="say --memory 24GiB")
    return calibrated_device(calibration, memory_bytes=budget, accelerator=nearest)


def _nearest(calibration: Calibration) -> Accelerator | None:
    try:
        return parse_hardware(calibration.device.name).devices[0]
    except FarthingError:
        return None

"""What NVIDIA's driver tells of its cards and of the links between them: power, heat, throttling, PCIe, ECC.

Reads through NVML (package nvidia-ml-py), so it is loaded by name (farthing.discover.load) where that is wanted. Every
figure that a card does not tell is None. Xid errors are not counted here: the kernel's log has them (`dmesg`). Knows no
torch and no catalogue; what needs no package is hardware/machine.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]

from farthing.errors import UnsupportedError

# The bits of nvmlDeviceGetCurrentClocksEventReasons that slow a card which has work (nvml.h). "power_cap" is everyday
# life of a busy card; the others are not.
THROTTLE_REASONS = {
    0x004: "power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "power_brake",
    0x200: "board_limit",
    0x400: "reliability",
}
_PATHS = {
    0: "on one board",
    10: "PCIe through one switch",
    20: "PCIe through several switches",
    30: "PCIe through one host bridge",
    40: "PCIe through one processor",
    50: "PCIe through two processors",
}
_NVLINK = 2  # NVML_P2P_CAPS_INDEX_NVLINK


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One card at one moment. None is "not known". `bus_id` is what the kernel's log calls it; `is_lost`: the driver
    knows it and can't reach it any more. `throttle_reasons` are words of THROTTLE_REASONS. The link's generation falls
    while a card rests; its width does not. `uncorrected_ecc_errors`: since the driver was loaded."""

    index: int
    is_lost: bool = False
    name: str | None = None
    bus_id: str | None = None
    driver: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    default_power_limit_watts: float | None = None
    temperature_celsius: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    link_width: int | None = None
    link_width_max: int | None = None
    link_generation: int | None = None
    link_generation_max: int | None = None
    uncorrected_ecc_errors: int | None = None


@dataclass(frozen=True, slots=True)
class GpuLink:
    """How two cards reach each other: "NVLink", or the way over PCIe in words."""

    first: int
    second: int
    kind: str


def read_gpus() -> tuple[GpuReading, ...]:
    """Every card, in the driver's order. UnsupportedError if no driver answers."""
    count = _start()
    driver = _text(_ask("nvmlSystemGetDriverVersion"))
    return tuple(_read(index, driver) for index in range(count))


def read_links() -> tuple[GpuLink, ...]:
    """The way between each pair of cards, as far as NVML tells. UnsupportedError if no driver answers."""
    handles = [(index, _ask("nvmlDeviceGetHandleByIndex", index)) for index in range(_start())]
    return tuple(_links([(index, handle) for index, handle in handles if handle is not None]))


def _start() -> int:
    """Ask the driver in, which costs nothing if it is there already; how many cards it has."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        fix = "nvidia-smi must work first; in a container the driver is handed in (--gpus all)"
        raise UnsupportedError(f"the NVIDIA driver does not answer: {error}", fix=fix) from None


def _read(index: int, driver: str | None) -> GpuReading:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError:
        return GpuReading(index, is_lost=True, driver=driver)
    memory = _ask("nvmlDeviceGetMemoryInfo", handle)
    reasons = _ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # the name that older drivers and packages know
        reasons = _ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    temperature = _ask("nvmlDeviceGetTemperature", handle, 0)
    return GpuReading(
        index,
        is_lost=_is_lost(handle),
        name=_text(_ask("nvmlDeviceGetName", handle)),
        bus_id=_text(getattr(_ask("nvmlDeviceGetPciInfo", handle), "busId", None)),
        driver=driver,
        total_bytes=None if memory is None else int(memory.total),
        used_bytes=None if memory is None else int(memory.used),
        power_watts=_watts(_ask("nvmlDeviceGetPowerUsage", handle)),
        power_limit_watts=_watts(_ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
        default_power_limit_watts=_watts(_ask("nvmlDeviceGetPowerManagementDefaultLimit", handle)),
        temperature_celsius=None if temperature is None else float(temperature),
        throttle_reasons=tuple(name for bit, name in THROTTLE_REASONS.items() if (reasons or 0) & bit),
        link_width=_ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
        link_width_max=_ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        link_generation=_ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        link_generation_max=_ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        uncorrected_ecc_errors=_ask("nvmlDeviceGetTotalEccErrors", handle, 1, 0),
    )


def _is_lost(handle: Any) -> bool:
    """A card that fell off the bus keeps its handle; whatever is asked of it fails with this error."""
    try:
        pynvml.nvmlDeviceGetTemperature(handle, 0)
    except pynvml.NVMLError as error:
        return bool(getattr(error, "value", None) == 15)  # NVML_ERROR_GPU_IS_LOST
    return False


def _links(handles: list[tuple[int, Any]]) -> Iterator[GpuLink]:
    for (first, one), (second, other) in combinations(handles, 2):
        if _ask("nvmlDeviceGetP2PStatus", one, other, _NVLINK) == 0:
            yield GpuLink(first, second, "NVLink")
        elif (level := _ask("nvmlDeviceGetTopologyCommonAncestor", one, other)) in _PATHS:
            yield GpuLink(first, second, _PATHS[level])


def _ask(name: str, *arguments: object) -> Any:
    """What a function of NVML says; None where the card, the driver or the package does not know it."""
    try:
        return getattr(pynvml, name)(*arguments)
    except (pynvml.NVMLError, AttributeError):
        return None


def _text(value: str | bytes | None) -> str | None:
    """Older packages give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000

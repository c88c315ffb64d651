"""What `farthing doctor` finds of NVIDIA's cards: power and its cap, heat, throttling, PCIe, errors, links, the driver.

Reads through hardware/nvidia.py where its package is installed, else what nvidia-smi tells. Imports no torch.
"""

import re
from collections.abc import Iterator
from typing import Any

from farthing import discover
from farthing.cli.finding import Finding, cuda_of_torch, version_of
from farthing.errors import UnsupportedError
from farthing.hardware.machine import gpus
from farthing.units import format_bytes

# The first driver that runs programs of each CUDA, by its own number (CUDA Toolkit release notes, table 2: minor
# versions of one CUDA run on the first driver of it).
_FIRST_DRIVER = {11: 450, 12: 525, 13: 580}
_EVERYDAY = "power_cap"  # a busy card at its cap is as it should be


def cards() -> Iterator[Finding]:
    """A finding for each card, then the ways between them and the driver."""
    try:
        nvidia = discover.load("farthing.hardware", "nvidia")
        readings, links = nvidia.read_gpus(), nvidia.read_links()
    except (ImportError, UnsupportedError) as error:
        yield from _without_nvml(error)
        return
    for reading in readings:
        yield Finding(*_judged(reading))
    if not readings:
        yield Finding("ok", "gpu", "none that the NVIDIA driver knows; models run on the processor")
        return
    if links:
        yield Finding("ok", "links", "; ".join(_by_kind(links)))
    yield from _driver(readings[0].driver)


def _without_nvml(error: Exception) -> Iterator[Finding]:
    found = gpus()
    if not found:
        yield Finding("ok", "gpu", "none that nvidia-smi knows; models run on the processor")
        return
    for gpu in found:
        free = f"{format_bytes(gpu.free_bytes)} of {format_bytes(gpu.total_bytes)} free"
        yield Finding("ok", "gpu", f"{gpu.name}, {free}, driver {gpu.driver}")
    why = "nvidia-ml-py is not installed" if isinstance(error, ImportError) else str(error)
    install = "pip install 'farthing[nvidia]'"
    yield Finding("missing", "cards", f"power, heat, throttling and links are not known: {why}", install)
    yield from _driver(found[0].driver)


def _judged(gpu: Any) -> tuple[str, str, str, str]:
    """A finding's fields. The first thing that is wrong has its remedy; the text tells all."""
    if gpu.is_lost:
        fix = "look for Xid in dmesg, then reset the card or restart the machine"
        return "problem", "gpu", f"{gpu.index}: the driver can't reach it any more", fix
    throttled = [reason for reason in gpu.throttle_reasons if reason != _EVERYDAY]
    narrow = None not in (gpu.link_width, gpu.link_width_max) and gpu.link_width < gpu.link_width_max
    fix = ""
    if gpu.uncorrected_ecc_errors:
        fix = "restart the machine; if it comes again, have the card exchanged (nvidia-smi -q -d ECC)"
    elif throttled:
        fix = "look after its cooling and its power supply (nvidia-smi -q -d PERFORMANCE)"
    elif narrow:
        fix = "seat the card or its riser anew; loading and several cards are slower until then"
    return "problem" if fix else "ok", "gpu", ", ".join(_told(gpu)), fix


def _told(gpu: Any) -> Iterator[str]:
    """What is known of a card, in the order of interest."""
    yield f"{gpu.index}: {gpu.name or 'a card without a name'}"
    if gpu.total_bytes is not None:
        yield f"{format_bytes(gpu.total_bytes - gpu.used_bytes)} of {format_bytes(gpu.total_bytes)} free"
    if gpu.power_watts is not None or gpu.power_limit_watts is not None:
        yield f"{_watts(gpu.power_watts)} of {_watts(gpu.power_limit_watts)}{_capped(gpu)}"
    if gpu.temperature_celsius is not None:
        yield f"{gpu.temperature_celsius:.0f} °C"
    if gpu.link_width is not None:
        generation = "" if gpu.link_generation_max is None else f" {gpu.link_generation_max}.0"
        yield f"PCIe{generation} x{gpu.link_width} of x{gpu.link_width_max or '?'}"
    if gpu.throttle_reasons:
        yield f"throttled by {' and '.join(gpu.throttle_reasons)}"
    if gpu.uncorrected_ecc_errors is not None:
        yield f"{gpu.uncorrected_ecc_errors} uncorrected memory errors"
    yield f"driver {gpu.driver or 'unknown'}"
    yield "Xid not counted (dmesg has them)"


def _watts(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f} W"


def _capped(gpu: Any) -> str:
    """A cap below the card's own is somebody's choice, or a leftover of one."""
    cap, default = gpu.power_limit_watts, gpu.default_power_limit_watts
    return f" (capped, {_watts(default)} by default)" if cap and default and cap < default - 0.5 else ""


def _by_kind(links: Any) -> Iterator[str]:
    for kind in dict.fromkeys(link.kind for link in links):
        yield f"{kind}: {' '.join(f'{link.first}-{link.second}' for link in links if link.kind == kind)}"


def _driver(driver: str | None) -> Iterator[Finding]:
    """The installed torch against the driver."""
    if version_of("torch") is None:
        return
    cuda = cuda_of_torch()
    if cuda is None:
        yield Finding("missing", "cuda", "torch is built without CUDA", "pip install --force-reinstall torch")
        return
    first, number = _FIRST_DRIVER.get(int(cuda.split(".")[0])), re.match(r"\d+", driver or "")
    if first is None or number is None:
        yield Finding("ok", "cuda", f"torch wants CUDA {cuda}; whether driver {driver} has it is not known")
    elif int(number[0]) < first:
        text = f"torch wants CUDA {cuda}, which needs a driver of {first} or later, and this one is {driver}"
        yield Finding("problem", "cuda", text, "install a newer driver, or a torch built for an older CUDA")
    else:
        yield Finding("ok", "cuda", f"torch wants CUDA {cuda}, and driver {driver} has it")

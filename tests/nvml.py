"""An NVML that is a table of cards, in the place of the package nvidia-ml-py: complete, with gaps, or without a driver.

`fake_nvml(monkeypatch, H200, {...})` puts it there for one test; farthing.hardware.nvidia is then loaded over it.
"""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

_READER = "farthing.hardware.nvidia"


class NVMLError(Exception):
    """As in nvidia-ml-py: `value` is NVML's code."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 9: "Driver Not Loaded", 15: "GPU is lost"}[value])
        self.value = value


H200: dict[str, Any] = {
    "Name": "NVIDIA H200",
    "PciInfo": SimpleNamespace(busId="00000000:3B:00.0"),
    "MemoryInfo": SimpleNamespace(total=150_754_820_096, used=4_194_304),
    "PowerUsage": 74_100,
    "EnforcedPowerLimit": 500_000,
    "PowerManagementDefaultLimit": 700_000,
    "Temperature": 31,
    "CurrentClocksEventReasons": 0x001 | 0x004 | 0x040,
    "CurrPcieLinkWidth": 8,
    "MaxPcieLinkWidth": 16,
    "CurrPcieLinkGeneration": 5,
    "MaxPcieLinkGeneration": 5,
    "TotalEccErrors": 2,
}


def fake_nvml(
    monkeypatch: pytest.MonkeyPatch, *cards: dict[str, Any], nvlink: bool = False, starts: bool = True
) -> ModuleType:
    """Each card tells what its table has; {"lost": True} is one that fell off the bus."""
    module = ModuleType("pynvml")

    def fail(code: int) -> Any:
        raise NVMLError(code)

    def answer(name: str) -> Callable[..., Any]:
        def of_card(index: int, *_: object) -> Any:
            card = cards[index]
            return fail(15) if card.get("lost") else card[name] if name in card else fail(3)

        return of_card

    functions: dict[str, Any] = {f"nvmlDeviceGet{name}": answer(name) for name in H200}
    functions |= {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None if starts else fail(9),
        "nvmlDeviceGetCount": lambda: len(cards),
        "nvmlSystemGetDriverVersion": lambda: b"575.57.08",
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetP2PStatus": lambda first, second, what: 0 if nvlink and what == 2 else 3,
        "nvmlDeviceGetTopologyCommonAncestor": lambda first, second: 30 if abs(first - second) == 1 else 50,
    }
    vars(module).update(functions)
    _put(monkeypatch, module)
    return module


def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nvidia-ml-py were not installed."""
    _put(monkeypatch, None)


def _put(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setitem(sys.modules, _READER, None)  # so that what is loaded in its place goes with the test
    del sys.modules[_READER]

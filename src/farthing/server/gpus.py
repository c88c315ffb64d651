"""NVIDIA's cards as metrics and page show them: power, heat, throttling, link; nothing where there is none.

Readings are kept for a few seconds: a driver takes milliseconds to answer. Knows no metrics' names.
"""

import time
from dataclasses import asdict
from typing import Any

from farthing import discover
from farthing.errors import FarthingError

_KEPT_SECONDS = 5.0


class _Readings:
    """Of the last few seconds."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._read_at = float("-inf")

    def rows(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        if now - self._read_at > _KEPT_SECONDS:
            self._read_at = now
            try:
                readings = discover.load("farthing.hardware", "nvidia").read_gpus()
                self._rows = [asdict(reading) for reading in readings]
            except (ImportError, FarthingError):
                self._rows = []
        return self._rows


_READINGS = _Readings()


def gpu_rows(device_kind: str) -> list[dict[str, Any]]:
    """The fields of hardware.nvidia.GpuReading, a card each; () where the engine runs on no GPU or nothing is known."""
    return _READINGS.rows() if device_kind == "cuda" else []

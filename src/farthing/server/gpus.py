"""NVIDIA's cards as metrics and page show them: power, heat, throttling, link; nothing where there is none.

A thread of its own asks the driver: usually that takes milliseconds, where a card is lost it may take for ever. Knows
no metrics' names.
"""

import threading
import time
from dataclasses import asdict
from typing import Any

from farthing import discover
from farthing.errors import FarthingError

_EVERY_SECONDS = 5.0
_KEPT_SECONDS = 15.0


class Gpus:
    """Nothing is known before `start`."""

    def __init__(self) -> None:
        self._read_at, self._rows = float("-inf"), list[dict[str, Any]]()

    def start(self) -> None:
        """Read from now on, until the process ends."""
        threading.Thread(target=self._watch, name="farthing-gpus", daemon=True).start()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The fields of hardware.nvidia.GpuReading, a card each; none where the driver has not answered lately."""
        return self._rows if time.monotonic() - self._read_at < _KEPT_SECONDS else []

    def _watch(self) -> None:
        try:
            read_gpus = discover.load("farthing.hardware", "nvidia").read_gpus
        except (ImportError, FarthingError):  # farthing[nvidia] is not installed
            return
        while True:
            try:
                self._rows = [asdict(reading) for reading in read_gpus()]
                self._read_at = time.monotonic()
            except FarthingError:
                pass  # the driver does not answer: what it said grows old
            time.sleep(_EVERY_SECONDS)

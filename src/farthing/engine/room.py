"""The memory of a device as an engine finds it, and which part of it the user gives.

Knows no model.
"""

from dataclasses import dataclass

from farthing.engine.config import resolve_budget
from farthing.units import format_bytes

_WORTH_SAYING = 2**30  # held by others; drivers and desktops always hold something


@dataclass(frozen=True, slots=True)
class Room:
    """`available_bytes`: what this process may take in all, `reserve_bytes` of it for what is there before any model.
    `total_bytes`: of the device, whoever holds it."""

    kind: str
    total_bytes: int
    available_bytes: int
    reserve_bytes: int

    def budget(self, memory: str) -> int:
        """Bytes for `--memory`. A GPU has no more than is free; a computer may swap, and is asked for what was said."""
        asked = resolve_budget(memory, available_bytes=self.available_bytes, device_kind=self.kind)
        return min(asked, self.available_bytes) if self.kind == "cuda" else asked

    @property
    def held_text(self) -> str:
        """What others hold of a GPU; empty if that is little."""
        held_bytes = self.total_bytes - self.available_bytes
        if self.kind != "cuda" or held_bytes < _WORTH_SAYING:
            return ""
        return f"other processes hold {format_bytes(held_bytes)} of its {format_bytes(self.total_bytes)}"

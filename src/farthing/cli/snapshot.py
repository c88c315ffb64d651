"""What a server says of itself, read as what it is: somebody else's answer, in which anything may be missing or odd.

Knows JSON values and no field of any schema.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A JSON object. Every question has an answer: None, "", no entries where there is nothing of that kind."""

    value: Any

    def at(self, *path: str) -> "Snapshot":
        """The value behind these names, one in the other."""
        value = self.value
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return Snapshot(value)

    def number(self, *path: str) -> float | None:
        """A finite number, or None."""
        value = self.at(*path).value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18:
            return float(value) if math.isfinite(value) else None
        return None

    def text(self, *path: str) -> str:
        """One line that is safe to print: no control character of it reaches the terminal."""
        value = self.at(*path).value
        if not isinstance(value, str):
            return ""
        return "".join(letter if letter.isprintable() else " " for letter in value[:_MAX_TEXT]).strip()

    def is_true(self, *path: str) -> bool:
        return self.at(*path).value is True

    def numbers(self, *path: str) -> dict[str, float]:
        """The numbers of an object, by name."""
        value = self.at(*path).value
        names = list(value) if isinstance(value, Mapping) else []
        return {name: number for name in names if (number := self.at(*path).number(name)) is not None}

    def entries(self, *path: str) -> Iterator["Snapshot"]:
        """The elements of a list."""
        value = self.at(*path).value
        if isinstance(value, list):
            yield from map(Snapshot, value)

"""Typed, checked access to the keys of a config.json: every wrong value is one line that names key, value and range.

Knows JSON types. Knows no family: what a key means is said in models/families.
"""

from collections.abc import Mapping

from farthing.errors import ConfigError

MAX_SIZE = 2**24  # no published model has a dimension near it; it keeps products inside 64 bits
MAX_NUMBER = 1e15  # nor a number outside 1e-15..1e15: within, no product or quotient of a few of them overflows


class ConfigReader:
    """`source` names the file in errors. A key that is absent or null takes the default; without one it is an error."""

    def __init__(self, values: Mapping[str, object], source: str) -> None:
        self.values = values
        self.source = source

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def fail(self, key: str, expected: str) -> ConfigError:
        found = f"is {self.values[key]!r:.80}" if key in self.values else "is missing"
        return ConfigError(f"{self.source}: {key} {found}", fix=f"expected {expected}; use the model's original file")

    def size(self, key: str, default: int | None = None, *, maximum: int = MAX_SIZE) -> int:
        """A whole number from 1 to `maximum`."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
            raise self.fail(key, f"a whole number from 1 to {maximum}")
        return value

    def number(self, key: str, default: float | None = None, *, positive: bool = True) -> float:
        """A number of at most MAX_NUMBER, at least 1 / MAX_NUMBER, or also zero if `positive` is False."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        low = 1 / MAX_NUMBER if positive else 0.0
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= MAX_NUMBER:
            raise self.fail(key, f"a number from {low:g} to {MAX_NUMBER:g}")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.fail(key, "a string")
        return value

    def section(self, key: str) -> "ConfigReader":
        """An object under `key`; an empty one if absent."""
        value = self.values.get(key)
        if value is None:
            return ConfigReader({}, f"{self.source}: {key}")
        if not isinstance(value, dict):
            raise self.fail(key, "an object")
        return ConfigReader(value, f"{self.source}: {key}")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "a list of strings")
        return tuple(value)

    def token_ids(self, key: str) -> frozenset[int]:
        """One token id or a list of them; empty if absent."""
        value = self.values.get(key)
        listed = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31 for item in listed):
            raise self.fail(key, "a token id or a list of token ids")
        return frozenset(listed)

"""A figure with its sources and how it is known, the sources themselves, and strict reading of the TOML of hardware/.

A key that is missing, unknown or of the wrong type, a number that is not finite and positive, or a source that nobody
named ends in one line that names file and key. Knows no accelerator: hardware/accelerator.py does.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from farthing.errors import FarthingError

KNOWN = ("vendor", "via", "third", "derived", "inferred", "measured")
_SOURCES_FILE = Path(__file__).with_name("sources.toml")
_KINDS = {str: "a text", dict: "a table", list: "a list", bool: "true or false", int: "a whole number"}
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")

Value = TypeVar("Value", covariant=True)


@dataclass(frozen=True, slots=True)
class Figure(Generic[Value]):
    """A value in base SI units, the keys (or addresses) of its sources and how it is known, a word of KNOWN:

    vendor: the maker's document; via: the maker's figure as another prints it; third: a database, the maker's page was
    not seen; derived: arithmetic, formula in the note; inferred: likely, check it first; measured: somebody ran it.
    """

    value: Value
    sources: tuple[str, ...]
    known: str | None = None
    date: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from. `url` is None where the address was not kept or the source is arithmetic."""

    what: str
    url: str | None = None
    date: str | None = None
    trust: str | None = None


@cache
def sources() -> Mapping[str, Source]:
    """Every source of sources.toml by its key."""
    table = read_toml(_SOURCES_FILE)
    found: dict[str, Source] = {}
    for key in table:
        entry = table.table(key)
        found[key] = Source(
            what=entry.text("what"),
            url=entry.optional_text("url"),
            date=entry.optional_text("date"),
            trust=entry.optional_text("trust"),
        )
        entry.close()
    return found


def read_toml(path: Path) -> "TomlTable":
    """The top table of a TOML file. FarthingError if it can't be read or is no TOML."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FarthingError(f"{path} can't be read: {error.strerror}", fix="check the file") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise FarthingError(f"{path} is no TOML: {error}", fix="correct the line") from None
    return TomlTable(content, path.name)


class TomlTable:
    """A table that is read key by key; `close()` complains of what nobody asked for."""

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self._left = dict(content)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        """The keys that were not read yet."""
        return iter(tuple(self._left))

    def close(self) -> None:
        if self._left:
            raise self.mistake(next(iter(self._left)), "is no key that is known here")

    def mistake(self, key: str, what: str) -> FarthingError:
        return FarthingError(f"{self.where}: {key} {what}", fix="the format is described in hardware/catalog/README.md")

    def text(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        """A text that is not empty; one of `allowed`, where any are given."""
        text = self._take(key, str)
        if not text.strip() or (allowed and text not in allowed):
            raise self.mistake(key, f"is {text!r:.60}, not " + (" or ".join(allowed) or "a text"))
        return str(text)

    def optional_text(self, key: str, allowed: tuple[str, ...] = ()) -> str | None:
        return self.text(key, allowed) if key in self else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where there is no such key."""
        texts = self._take(key, list) if key in self else []
        if not all(type(text) is str and text.strip() for text in texts):
            raise self.mistake(key, "is not a list of texts")
        return tuple(texts)

    def switch(self, key: str) -> bool:
        """true or false."""
        return bool(self._take(key, bool))

    def counts(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers from 1 up."""
        numbers = self._take(key, list)
        if not all(type(number) is int and number > 0 for number in numbers):
            raise self.mistake(key, "is not a list of whole numbers from 1 up")
        return tuple(numbers)

    def count(self, key: str) -> int:
        """A whole number from 1 up; 1 where there is no such key."""
        return int(self._positive(key, self._take(key, int))) if key in self._left else 1

    def positive(self, key: str) -> float:
        """A finite number above zero, whole or not."""
        return float(self._positive(key, self._take(key, int, float)))

    def fraction(self, key: str) -> float | None:
        return self.positive(key) if key in self else None

    def table(self, key: str) -> "TomlTable":
        """The table under `key`; empty where there is none."""
        content = self._take(key, dict) if key in self else {}
        return TomlTable(content, f"{self.where}: {key}")

    def tables(self, key: str) -> tuple["TomlTable", ...]:
        """The tables of the list under `key`; none where there is no such key."""
        contents = self._take(key, list) if key in self else []
        if not all(type(content) is dict for content in contents):
            raise self.mistake(key, "is not a list of tables")
        return tuple(TomlTable(content, f"{self.where}: {key} {n}") for n, content in enumerate(contents, start=1))

    def date(self, key: str) -> str:
        """A year, a month or a day: 2026, 2026-03 or 2026-03-10."""
        date = self.text(key)
        if not _DATE.fullmatch(date):
            raise self.mistake(key, f"is {date!r:.30}, not a date like 2026, 2026-03 or 2026-03-10")
        return date

    def sources(self, key: str = "sources") -> tuple[str, ...]:
        """At least one source: a key of sources.toml or an address."""
        keys = self.texts(key)
        if not keys:
            raise self.mistake(key, "is missing: every figure has a source")
        for name in keys:
            if name not in sources() and not name.startswith(("https://", "http://")):
                raise self.mistake(key, f"has {name!r:.60}, neither a key of sources.toml nor an address")
        return keys

    def whole(self, key: str) -> Figure[int] | None:
        """A figure that is a whole number above zero; None where there is no such key. So the others below."""
        return self._figure(key, int)

    def number(self, key: str) -> Figure[float] | None:
        """A figure that is a number above zero, as a float."""
        figure = self._figure(key, int, float)
        return None if figure is None else replace(figure, value=float(figure.value))

    def flag(self, key: str) -> Figure[bool] | None:
        """A figure that is true or false."""
        return self._figure(key, bool)

    def words(self, key: str) -> Figure[str] | None:
        """A figure that is a text."""
        return self._figure(key, str)

    def number_or_numbers(self, key: str) -> Figure[Any]:
        """A figure that is a number or a table of numbers; it must be there."""
        figure = self._figure(key, int, float, dict)
        if figure is None:
            raise self.mistake(key, "is missing")
        return figure

    def _figure(self, key: str, *types: type) -> Figure[Any] | None:
        if key not in self:
            return None
        table = self.table(key)
        value = table._take("value", *types)
        if type(value) is dict:
            inner = TomlTable(value, f"{table.where}: value")
            value = {name: inner.positive(name) for name in inner}
        elif type(value) in (int, float):
            value = table._positive("value", value)
        figure = Figure(
            value,
            table.sources(),
            table.optional_text("known", KNOWN),
            table.date("date") if "date" in table else None,
            table.optional_text("note"),
        )
        table.close()
        return figure

    def _positive(self, key: str, value: Any) -> Any:
        if not (math.isfinite(value) and value > 0):
            raise self.mistake(key, f"is {value}, not a finite number above zero")
        return value

    def _take(self, key: str, *types: type) -> Any:
        if key not in self:
            raise self.mistake(key, "is missing")
        value = self._left.pop(key)
        if type(value) not in types:
            wanted = "a number" if float in types else _KINDS[types[0]]
            raise self.mistake(key, f"is {value!r:.60}, not {wanted}")
        return value

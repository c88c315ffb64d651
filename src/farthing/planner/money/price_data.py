"""Figures that prices are made of where the user says nothing: planner/money/prices/*.toml, each with date and source.

Knows how such a file is written, not what its figures are for. A figure that is nobody's is `assumed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from farthing.hardware.figure import KNOWN, TomlTable, read_toml

FOLDER = Path(__file__).with_name("prices")


@dataclass(frozen=True, slots=True)
class Given:
    """A number with its date and where it is from; without sources it is assumed."""

    value: float
    date: str
    sources: tuple[str, ...] = ()
    assumed: bool = False
    note: str | None = None

    @property
    def origin(self) -> str:
        """ "BOJIE, 2023-09; hyperscalers take 6 years" or "assumed; ..."."""
        where = "assumed" if self.assumed and not self.sources else f"{', '.join(self.sources)}, {self.date}"
        return f"{where}; {self.note}" if self.note else where


def given(table: TomlTable, key: str) -> Given:
    """The figure under `key`. FarthingError if it is not one, or has neither a source nor the word "assumed"."""
    entry = table.table(key)
    value = entry.positive("value")
    figure = _origin(entry, value)
    entry.close()
    return figure


def _origin(entry: TomlTable, value: float) -> Given:
    known = entry.optional_text("known", (*KNOWN, "assumed"))
    assumed = known == "assumed"
    sources = entry.sources() if "sources" in entry or not assumed else ()
    return Given(value, entry.date("date"), sources, assumed, entry.optional_text("note"))


@cache
def owning_figures() -> Mapping[str, Given]:
    """What owning.toml says, by name; `all_in_kw` is per_device_kw()'s."""
    table = read_toml(FOLDER / "owning.toml")
    return {name: given(table, name) for name in table if name != "all_in_kw"}


@cache
def per_device_kw() -> Mapping[str, Given]:
    """kW of a device with its share of server, network and cooling, by id."""
    entry = read_toml(FOLDER / "owning.toml").table("all_in_kw")
    values = entry.table("value")
    figures = {id: values.positive(id) for id in values}
    origin = _origin(entry, 1.0)
    entry.close()
    return {id: Given(value, origin.date, origin.sources, origin.assumed, origin.note) for id, value in figures.items()}


def read_prices(name: str) -> TomlTable:
    """A file of the folder, to be read key by key."""
    return read_toml(FOLDER / name)

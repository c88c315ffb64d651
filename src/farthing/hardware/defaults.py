"""What a plan assumes where nothing was measured: efficiency factors, latencies and reserves, each with its source.

Read from defaults.toml. A figure measured on the accelerator itself (`Accelerator.measured`) or on this machine
(hardware/calibration.py) goes before these. Knows no model and no plan.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from farthing.hardware.figure import Figure, read_toml

_FILE = Path(__file__).with_name("defaults.toml")


def default(name: str) -> Figure[Any]:
    """The figure of this name; its value is a number or a table of numbers, as defaults.toml has it."""
    assert name in defaults(), f"defaults.toml has no {name}; it has {', '.join(defaults())}"
    return defaults()[name]


@cache
def defaults(file: Path = _FILE) -> Mapping[str, Figure[Any]]:
    """Every figure of the file by name."""
    table = read_toml(file)
    return {name: table.number_or_numbers(name) for name in table}

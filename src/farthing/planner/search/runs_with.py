"""Which engines run a model in a format and division on an accelerator: the column *runs with*.

Formats and divisions are runs_with.toml's, the accelerators of an engine the catalogue's. Knows no speed.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from farthing.errors import UsageError
from farthing.hardware.accelerator import OWN_ENGINE, Accelerator
from farthing.hardware.figure import read_toml
from farthing.models.spec import ModelSpec, Precision

_FILE = Path(__file__).with_name("runs_with.toml")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine takes."""

    name: str
    formats: frozenset[str]
    kv_formats: frozenset[str]
    tensor_parallel: bool
    pipeline: bool


@cache
def abilities() -> tuple[Abilities, ...]:
    """In the order in which engines are chosen."""
    table = read_toml(_FILE)
    found = []
    for name in table.texts("order"):
        entry = table.table(name)
        found.append(
            Abilities(
                name,
                frozenset(entry.texts("formats")),
                frozenset(entry.texts("kv_formats")),
                entry.switch("tensor_parallel"),
                entry.switch("pipeline"),
            )
        )
    return tuple(found)


def check_engine(name: str) -> str:
    """The engine as the catalogue calls it. UsageError for one of which nothing is known here."""
    known = [one.name for one in abilities()]
    wanted = name.strip().lower()
    if wanted not in known:
        raise UsageError(f"--engine {name!r:.40} drives nothing that is known here", fix=f"use {', '.join(known)}")
    return wanted


def runs_with(accelerator: Accelerator, model: ModelSpec, tp: int, pp: int) -> tuple[str, ...]:
    """The engines that take it, the one to forecast first; empty: it can be planned, not run. `model`: undivided."""
    return tuple(
        one.name
        for one in abilities()
        if one.name in accelerator.engines
        and _takes(one, model.precision)
        and (tp == 1 or one.tensor_parallel)
        and (pp == 1 or one.pipeline)
        and not (one.name == OWN_ENGINE and model.plan_only)
    )


def _takes(one: Abilities, precision: Precision) -> bool:
    return precision.format.name in one.formats and precision.kv_dtype in one.kv_formats

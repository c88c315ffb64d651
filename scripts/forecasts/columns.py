"""Measured rows as columns of numbers: each step behind a figure with its work, its device and the class it belongs to.

What fit_forecasts.py evaluates thousands of times. The arithmetic is the planner's own (step_work.work_seconds), called
with columns. Knows no optimiser.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy

from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.timing.device_class import device_class, format_class, link_class
from farthing.planner.timing.step_work import Speeds, StepWork, work_seconds
from farthing.planner.validation.measured_row import SUSPECT, Row, Setting, SkippedRowError, setting_of
from farthing.planner.validation.row_forecast import Recipe, recipe_of
from forecasts.halves import half_of

Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True)
class Measured:
    """A row that the planner can forecast. `value`: in tokens/s or seconds. `half`: 0 is fitted to, 1 is the test."""

    row: Row
    setting: Setting
    value: float
    half: int


def measured(rows: Iterable[Row]) -> list[Measured]:
    """Without what the data call suspect and what the planner has no setting for."""
    found = []
    for row in rows:
        if SUSPECT in row["quality"]:
            continue
        try:
            setting = setting_of(row)
        except SkippedRowError:
            continue
        value = float(row["value"]) / (1000 if row["unit"] == "ms" else 1)
        found.append(Measured(row, setting, value, half_of(row)))
    return found


@dataclass
class Columns:
    """One entry a step and stage: `owner` is the row that it belongs to, `times` how often it comes."""

    rows: list[Measured]
    measured: Array
    tokens: Array
    share: Array
    owner: Array
    times: Array
    work: StepWork
    speeds: Speeds
    device: Array
    form: Array
    link: Array
    send: Array
    waits: Array
    has_request: Array


@dataclass(frozen=True)
class Keys:
    """Names behind the numbers of the class columns."""

    devices: tuple[str, ...]
    formats: tuple[str, ...]
    links: tuple[str, ...]


def columns_of(rows: Sequence[Measured], engine: Callable[[Measured], EngineProfile], keys: Keys) -> Columns:
    """The steps of every row under the engine's present constants (they decide how many run at a time)."""
    kept, recipes, entries = [], [], []
    for one in rows:
        try:
            recipe = recipe_of(replace(one.setting, engine=engine(one)))
        except SkippedRowError:
            continue
        index = len(kept)
        kept.append(one)
        recipes.append(recipe)
        stages = recipe.replica.stages
        size = one.setting.tp
        for use in recipe.uses:
            seconds = recipe.replica.stage_seconds(use) if use.overlapped else []
            for number, stage in enumerate(stages):
                if use.overlapped and number != seconds.index(max(seconds)):
                    continue
                device = one.setting.accelerators[number * size]
                joined = link_class(device, size)
                onward = link_class(device, 2 if "bridge" in device.scale_up.kind else max(2, size))
                entries.append(
                    (
                        index,
                        use.times,
                        *astuple(stage.work.at(use)),
                        *astuple(stage.speeds),
                        keys.devices.index(device_class(device)),
                        keys.formats.index(format_class(stage.spec.precision.format)),
                        keys.links.index(joined),
                        keys.links.index(onward),
                    )
                )
    table = numpy.array(entries, dtype=float).T
    num_work, num_speeds = len(fields(StepWork)), len(fields(Speeds))
    return Columns(
        rows=kept,
        measured=numpy.array([one.value for one in kept]),
        tokens=numpy.array([numpy.nan if one.tokens is None else one.tokens for one in recipes]),
        share=numpy.array([one.share for one in recipes]),
        owner=table[0].astype(int),
        times=table[1],
        work=StepWork(*table[2 : 2 + num_work]),
        speeds=Speeds(*table[2 + num_work : 2 + num_work + num_speeds]),
        device=table[-4].astype(int),
        form=table[-3].astype(int),
        link=table[-2].astype(int),
        send=table[-1].astype(int),
        waits=numpy.array([_wait(recipe) for recipe in recipes]),
        has_request=numpy.array([1.0 if recipe.has_request else 0.0 for recipe in recipes]),
    )


class Values:
    """Columns of constants where an Efficiency has numbers."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            setattr(self, name, value)


def _wait(recipe: Recipe) -> float:
    """Seconds before the steps that are not the engine's own for a request."""
    own = recipe.replica.stages[0].efficiency.request_seconds if recipe.has_request else 0.0
    return recipe.before - own


def row_seconds(columns: Columns, one: Any, link: Any, send: Any) -> Array:
    """Seconds of all steps of each row."""
    steps = work_seconds(columns.work, columns.speeds, one, link, send)
    return numpy.bincount(columns.owner, weights=columns.times * steps, minlength=len(columns.measured))


def figures(columns: Columns, seconds: Array, before: Array) -> Array:
    """From seconds to what was measured, in tokens/s or seconds."""
    total = seconds + before
    rates = columns.tokens / numpy.maximum(total, 1e-12)
    return numpy.where(numpy.isnan(columns.tokens), columns.share * total, rates)

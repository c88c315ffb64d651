"""Forecasts beside measurements: every row of a table forecast from its columns alone, and how far off that was.

The error is |forecast / measured - 1|, signed without the bars. Rows that the data call suspect are forecast and not
scored; engines without a profile of their own are scored apart. Knows no terminal: cli/validate.py prints.
"""

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from farthing.errors import UsageError
from farthing.planner.claims.factcheck import factcheck
from farthing.planner.validation.measured_row import (
    SUSPECT,
    Row,
    Setting,
    SkippedRowError,
    is_known,
    number,
    setting_of,
    text,
)
from farthing.planner.validation.row_claim import claim_of
from farthing.planner.validation.row_forecast import forecast, recipe_of, tail_of

COLUMNS = ("predicted", "predicted_low", "predicted_high", "reason")
NEEDED = ("model", "gpu", "metric")
MAX_BYTES = 256 * 2**20
_SECONDS = {"ms": 1e3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """`predicted`, `low` and `high` in the row's own unit, None where `reason` says why. `measured`: None where the row
    states no number. `ceiling`: what physics allows, where the measured figure is above it."""

    row: Row
    predicted: float | None
    low: float | None
    high: float | None
    reason: str
    measured: float | None
    engine_known: bool
    is_known: bool
    ceiling: float | None

    @property
    def is_scored(self) -> bool:
        return self.predicted is not None and bool(self.measured) and SUSPECT not in text(self.row, "quality")

    @property
    def ratio(self) -> float:
        """Forecast / measured."""
        assert self.predicted is not None and self.measured
        return self.predicted / self.measured

    @property
    def is_inside(self) -> bool:
        """Whether the measurement lies in the interval of eight in ten."""
        assert self.low is not None and self.high is not None and self.measured is not None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class Score:
    """Of some rows: median and ninth decile of the error, median of the signed error, share inside the intervals."""

    rows: int
    median_error: float
    p90_error: float
    signed_error: float
    inside: float


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV. UsageError names what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES // 2**20} MiB", fix="split it")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            header = list(reader.fieldnames or ())
            rows = [{key: value for key, value in row.items() if isinstance(value, str)} for row in reader]
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", fix="name a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no CSV: {error}", fix="save it as UTF-8 with commas") from None
    missing = [column for column in NEEDED if column not in header]
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}",
            fix="the first line names the columns: model, gpu, num_gpus, engine, scenario, metric, value ...",
        )
    if len(set(header)) != len(header):
        raise UsageError(f"{path} names a column twice", fix="give each column one name")
    return header, rows


def write_table(path: Path, header: Sequence[str], rows: Iterable[ForecastRow]) -> None:
    """Every row and column as it was, and the forecast behind."""
    columns = [column for column in header if column not in COLUMNS]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*columns, *COLUMNS])
            for one in rows:
                figures = ("" if value is None else f"{value:.6g}" for value in (one.predicted, one.low, one.high))
                writer.writerow([*(one.row.get(column, "") for column in columns), *figures, one.reason])
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}", fix="name another file") from None


def forecast_row(row: Row) -> ForecastRow:
    """From the columns of the row but for the value, which is only compared."""
    try:
        measured: float | None = number(row, "value") or None
    except SkippedRowError:
        measured = None
    setting: Setting | None = None
    predicted = low = high = None
    reason = ""
    try:
        setting = setting_of(row)
        recipe = recipe_of(setting)
        predicted = forecast(recipe) * tail_of(text(row, "metric")) * _unit(row)
        interval = setting.engine.interval(recipe.group)
        low, high = predicted * interval.low, predicted * interval.high
    except SkippedRowError as skipped:
        reason = str(skipped)
    return ForecastRow(
        row=row,
        predicted=predicted,
        low=low,
        high=high,
        reason=reason,
        measured=measured,
        engine_known=setting is not None and setting.engine_known,
        is_known=is_known(row),
        ceiling=ceiling_above(row),
    )


def _unit(row: Row) -> float:
    """From seconds to the row's unit; rates are in tokens/s."""
    metric, unit = text(row, "metric"), text(row, "unit")
    if "tok_s" in metric:
        if unit not in ("", "tok/s", "tokens/s", "token/s", "t/s"):
            raise SkippedRowError("a unit that is not known here")
        return 1.0
    if not unit:
        unit = "ms" if metric.endswith("_ms") else "s"
    if unit not in _SECONDS:
        raise SkippedRowError("a unit that is not known here")
    return _SECONDS[unit]


def ceiling_above(row: Row) -> float | None:
    """What physics allows, where the row states more (of a time: less); None where it does not, or nothing is known."""
    claim = claim_of(row)
    if claim is None:
        return None
    try:
        findings = factcheck(claim).findings
    except UsageError:  # a row that claims what can't be meant: no tokens, no sequences
        return None
    above = [one for one in findings if one.unit != "B" and one.closeness > 1]
    if not above:
        return None
    value = number(row, "value")
    furthest = max(one.closeness for one in above)
    is_time = "tok_s" not in text(row, "metric")
    return value * furthest if is_time else value / furthest


def score(rows: Sequence[ForecastRow]) -> Score | None:
    """None of no rows."""
    if not rows:
        return None
    errors = sorted(abs(one.ratio - 1) for one in rows)
    return Score(
        rows=len(rows),
        median_error=median(errors),
        p90_error=errors[math.ceil(0.9 * len(errors)) - 1],
        signed_error=median(one.ratio - 1 for one in rows),
        inside=sum(one.is_inside for one in rows) / len(rows),
    )


def scores_by(rows: Iterable[ForecastRow], key: Callable[[ForecastRow], str]) -> dict[str, Score]:
    groups: dict[str, list[ForecastRow]] = {}
    for one in rows:
        groups.setdefault(key(one) or "not stated", []).append(one)
    return {name: found for name in sorted(groups) if (found := score(groups[name])) is not None}


def column(name: str) -> Callable[[ForecastRow], str]:
    return lambda one: (one.row.get(name) or "").strip()


def skipped(rows: Iterable[ForecastRow]) -> dict[str, int]:
    """Rows without a forecast by reason, the most frequent first."""
    return dict(Counter(one.reason for one in rows if one.predicted is None).most_common())

"""farthing validate: forecasts beside measurements of a table, and how far off they are.

The scores are planner/validation/validate.py's; here they become lines or one JSON object. A row that can't be forecast
is counted with its reason, never an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from farthing.cli import output
from farthing.planner.validation.measured_row import SUSPECT, text
from farthing.planner.validation.validate import (
    ForecastRow,
    Score,
    column,
    forecast_row,
    read_table,
    score,
    scores_by,
    skipped,
    write_table,
)

_GROUPS = ("metric", "gpu", "engine", "source")
_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class ValidateFlags:
    """What `farthing validate` is told beside the file."""

    out: Annotated[Path | None, Parameter(help="Write every row with its forecast and interval here, as CSV.")] = None
    json: Annotated[bool, Parameter(help="Print the scores as one JSON object.")] = False


_DEFAULTS = ValidateFlags()


def validate(file: Path, /, *, flags: Annotated[ValidateFlags, Parameter(name="*")] = _DEFAULTS) -> None:
    """Score forecasts against the measurements of a table.

    Parameters
    ----------
    file
        A CSV whose first line names the columns: model, gpu, num_gpus, engine, scenario, metric, value and others.
    """
    header, rows = read_table(file)
    forecasts = [forecast_row(row) for row in rows]
    if flags.out is not None:
        write_table(flags.out, header, forecasts)
    if flags.json:
        output.print_json(to_json_object(forecasts))
    else:
        output.stdout.print("\n".join(_lines(forecasts)), soft_wrap=True)


def to_json_object(forecasts: Sequence[ForecastRow]) -> dict[str, Any]:
    """Errors are parts of one; `inside`: the share of measurements in the interval of eight in ten."""
    scored = [one for one in forecasts if one.is_scored]
    own, strange = _by_engine(scored)
    known = [one for one in forecasts if one.is_known]
    return {
        "schema": "farthing.validate/1",
        "rows": len(forecasts),
        "forecast": sum(one.predicted is not None for one in forecasts),
        "scored": len(scored),
        "suspect": sum(SUSPECT in text(one.row, "quality") for one in forecasts),
        "coverage": {"all": _share(forecasts), "known": _share(known), "known_rows": len(known)},
        "score": _object(score(own)),
        "unknown_engines": _object(score(strange)),
        **{f"by_{name}": {key: asdict(one) for key, one in _scores(own, name).items()} for name in _GROUPS},
        "skipped": skipped(forecasts),
        "above_ceiling": [
            {"row": name, "measured": one.measured, "ceiling": one.ceiling} for name, one in _above_ceiling(forecasts)
        ],
    }


def _by_engine(scored: Sequence[ForecastRow]) -> tuple[list[ForecastRow], list[ForecastRow]]:
    """Rows of engines with a profile of their own, and the others."""
    return [one for one in scored if one.engine_known], [one for one in scored if not one.engine_known]


def _scores(rows: Sequence[ForecastRow], name: str) -> Mapping[str, Score]:
    return scores_by(rows, column(name))


def _share(rows: Sequence[ForecastRow]) -> float | None:
    return sum(one.predicted is not None for one in rows) / len(rows) if rows else None


def _object(one: Score | None) -> dict[str, Any] | None:
    return None if one is None else asdict(one)


def _above_ceiling(forecasts: Sequence[ForecastRow]) -> Iterator[tuple[str, ForecastRow]]:
    """Measured rows that physics does not allow, by name (or number where they have none)."""
    for number, one in enumerate(forecasts, start=1):
        if one.ceiling is not None:
            yield column("id")(one) or f"row {number}", one


def _lines(forecasts: Sequence[ForecastRow]) -> Iterator[str]:
    scored = [one for one in forecasts if one.is_scored]
    own, strange = _by_engine(scored)
    known = [one for one in forecasts if one.is_known]
    num_forecast = sum(one.predicted is not None for one in forecasts)
    yield f"{num_forecast:,} of {len(forecasts):,} rows have a forecast{_percent(_share(forecasts))}"
    if known:
        yield f"of the {len(known):,} whose model, hardware and engine are known{_percent(_share(known))}"
    if own:
        yield ""
        yield f"{'':40}{'rows':>6} {'median':>8} {'p90':>8} {'signed':>8} {'inside':>8}"
        yield _line("all engines with a profile", score(own))
        for name in _GROUPS:
            yield ""
            scores = _scores(own, name)
            for key in list(scores)[:_MOST_LINES]:
                yield _line(key, scores[key])
            if len(scores) > _MOST_LINES:
                yield f"and {len(scores) - _MOST_LINES} more; --json has all"
    if strange:
        yield ""
        yield _line("engines without a profile (generic)", score(strange))
    yield ""
    yield "median, p90: of |forecast / measured - 1|; signed: median of it with its sign; inside: the 80 % interval"
    reasons = skipped(forecasts)
    if reasons:
        yield ""
        yield from (f"  {count:>5} rows without a forecast: {reason}" for reason, count in reasons.items())
    suspect = sum(SUSPECT in text(one.row, "quality") for one in forecasts)
    if suspect:
        yield f"  {suspect:>5} rows are called suspect by the table, and not scored"
    for name, one in _above_ceiling(forecasts):
        yield f"  above what physics allows: {name}: {one.measured:g}, the ceiling is {one.ceiling:.4g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f": {share:.1%}"


def _line(name: str, one: Score | None) -> str:
    assert one is not None
    figures = (one.median_error, one.p90_error, one.signed_error, one.inside)
    return f"{name[:39]:40}{one.rows:>6} " + " ".join(
        f"{value:>+8.1%}" if index == 2 else f"{value:>8.1%}" for index, value in enumerate(figures)
    )

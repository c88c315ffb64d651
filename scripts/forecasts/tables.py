"""The tables of benchmarks/forecasts.md: errors by figure and source, the rows furthest off, single operators.

Knows forecasts and scores (planner/validation/validate.py) and what the fit wrote down; no file and no planner of its
own.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from farthing.planner.validation.measured_row import text
from farthing.planner.validation.validate import ForecastRow, Score, score
from forecasts.halves import half_of

NUM_WORST = 20
FEWEST = 8  # test rows of a source, from which it counts in an average
SATURATED = "throughput, saturated"
TARGETS: Mapping[str, tuple[float | None, float | None]] = {
    SATURATED: (0.15, 0.40),
    "time per token": (0.12, 0.40),
    "one stream, decode and prefill": (0.12, 0.35),
    "latency of a whole batch": (0.20, None),
    "throughput, other loads": (None, None),
    "time to first token": (None, None),
    "latency of a request": (None, None),
}
# The figure as the fit calls it, in `left_out` of planner/engines/fitted.toml.
LEFT_OUT = {
    SATURATED: ("saturated",),
    "time per token": ("tpot",),
    "one stream, decode and prefill": ("decode", "prefill"),
    "latency of a whole batch": ("batch",),
    "throughput, other loads": ("throughput",),
    "time to first token": ("ttft",),
    "latency of a request": ("e2e",),
}


def figure_of(one: ForecastRow) -> str:
    metric = text(one.row, "metric")
    if metric == "output_tok_s_total":
        return SATURATED if text(one.row, "scenario") == "offline-saturated" else "throughput, other loads"
    if metric in ("decode_tok_s", "prefill_tok_s"):
        return "one stream, decode and prefill"
    kind = metric.partition("_")[0]
    return {
        "tpot": "time per token",
        "ttft": "time to first token",
        "e2e": "latency of a request",
        "batch": "latency of a whole batch",
    }[kind]


def grouped(
    rows: Iterable[ForecastRow], key: Callable[[ForecastRow], tuple[str, ...]]
) -> dict[tuple[str, ...], list[ForecastRow]]:
    found: dict[tuple[str, ...], list[ForecastRow]] = {}
    for one in rows:
        found.setdefault(key(one), []).append(one)
    return dict(sorted(found.items()))


def tested(rows: Iterable[ForecastRow]) -> list[ForecastRow]:
    """The scored rows of the half that nothing was fitted to."""
    return [one for one in rows if one.is_scored and half_of(one.row) == 1]


def head(rows: Sequence[ForecastRow]) -> list[str]:
    """Averages over sources of the test half, beside what they were to be."""
    lines = ["| figure | sources | median error | target | p90 | target |", "|---|---|---|---|---|---|"]
    for figure, (median_target, p90_target) in TARGETS.items():
        scores = [one for one in _by_source(rows, figure).values() if one.rows >= FEWEST]
        if not scores:
            continue
        middle = fmean(one.median_error for one in scores)
        ninth = fmean(one.p90_error for one in scores)
        wanted = ["" if target is None else f"{target:.0%}" for target in (median_target, p90_target)]
        lines.append(f"| {figure} | {len(scores)} | **{middle:.1%}** | {wanted[0]} | {ninth:.1%} | {wanted[1]} |")
    return lines


def _by_source(rows: Iterable[ForecastRow], figure: str) -> dict[str, Score]:
    groups = grouped((one for one in rows if figure_of(one) == figure), lambda one: (one.row["source"],))
    return {source: found for (source,), group in groups.items() if (found := score(group)) is not None}


def by_source(rows: Sequence[ForecastRow], left_out: Mapping[str, Any]) -> list[str]:
    """Every figure and source of the test half, and the same rows by constants fitted without the source."""
    lines = [
        "| figure | source | rows | median error | p90 | signed | inside | without the source | p90 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for figure in TARGETS:
        for source, one in _by_source(rows, figure).items():
            found = [left_out[source][group] for group in LEFT_OUT[figure] if group in left_out.get(source, {})]
            without = [" / ".join(f"{values[index]:.1%}" for values in found) for index in (0, 1)]
            lines.append(
                f"| {figure} | {source} | {one.rows} | {one.median_error:.1%} | {one.p90_error:.1%} | "
                f"{one.signed_error:+.1%} | {one.inside:.0%} | {without[0]} | {without[1]} |"
            )
    return lines


def worst(rows: Iterable[ForecastRow]) -> list[str]:
    """Of each figure, engine and hardware of the test half the row furthest off; the largest first."""
    groups = grouped(rows, lambda one: (figure_of(one), *(one.row[key] for key in ("engine", "num_gpus", "gpu"))))
    furthest = sorted((max(group, key=_distance) for group in groups.values()), key=_distance, reverse=True)
    lines = ["| row | setting | measured | forecast | forecast / measured |", "|---|---|---|---|---|"]
    for one in furthest[:NUM_WORST]:
        assert one.predicted is not None and one.measured is not None
        unit = one.row["unit"]
        lines.append(
            f"| {one.row['id']} | {_setting(one.row)} | {one.measured:.4g} {unit} | {one.predicted:.4g} {unit} | "
            f"{one.ratio:.2f} |"
        )
    return lines


def _distance(one: ForecastRow) -> float:
    return abs(math.log(one.ratio))


def _setting(row: Mapping[str, str]) -> str:
    batch = f", batch {row['batch_or_concurrency']}" if row["batch_or_concurrency"] else ""
    rate = f", {row['request_rate']}/s" if row["request_rate"] else ""
    lengths = f"{row['input_len'] or 0} in, {row['output_len'] or 0} out"
    dtype = row["weight_dtype"].split(" ")[0]
    where = f"{row['num_gpus']}x {row['gpu']}, {row['engine']}"
    return f"{row['metric']}: {row['model']} {dtype} on {where}{batch}{rate}, {lengths}"


def operators(table: Mapping[str, Any]) -> list[str]:
    lines = ["| operator, class of devices | rows | median error | p90 |", "|---|---|---|---|"]
    for name, (rows, middle, ninth) in table["errors"].items():
        lines.append(f"| {name} | {rows} | {middle:.1%} | {ninth:.1%} |")
    return lines


def floor_of(rows: Iterable[ForecastRow]) -> float | None:
    """The median error of the best forecast that knows nothing but the columns: of rows that say the same, the middle
    one is told for all. None where no two rows say the same."""
    columns = ("model", "weight_dtype", "gpu", "num_gpus", "tp", "pp", "engine", "engine_version", "scenario", "metric")
    more = ("input_len", "batch_or_concurrency", "request_rate")
    groups = grouped(rows, lambda one: tuple(one.row[key] for key in (*columns, *more)))
    errors = []
    for group in groups.values():
        if len(group) > 1:
            logs = sorted(math.log(one.measured or 1) for one in group)
            middle = math.exp(logs[len(logs) // 2])
            errors += [abs(middle / (one.measured or 1) - 1) for one in group]
    return sorted(errors)[len(errors) // 2] if errors else None

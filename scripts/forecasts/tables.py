"""The tables of benchmarks/forecasts.md: errors by metric, engine and device, and the rows furthest off.

Knows outcomes (forecasts/rows.py), no file and no planner.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from forecasts.rows import FORECASTS, PER_TOKEN, PREFILL, SATURATED, STEP, Outcome, num_tokens

NUM_WORST = 15


def summary(outcomes: Sequence[Outcome]) -> str:
    """Rows, median and 90th percentile of the error, median of forecast / measured: four cells of a table."""
    errors = sorted(outcome.error for outcome in outcomes)
    ratio = statistics.median(outcome.ratio for outcome in outcomes)
    ninth = errors[math.ceil(0.9 * len(errors)) - 1]
    return f"{len(errors)} | {statistics.median(errors):.0%} | {ninth:.0%} | {ratio:.2f}"


def grouped(outcomes: Iterable[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[key(outcome)].append(outcome)
    return dict(sorted(found.items()))


def head(outcomes: Sequence[Outcome]) -> list[str]:
    """The table of metrics and engines."""
    lines = [
        "| what | engine | rows | median error | p90 | median forecast / measured |",
        "|---|---|---|---|---|---|",
    ]
    for metric in FORECASTS:
        engines = grouped((one for one in outcomes if one.metric == metric), lambda one: one.row["engine"])
        alike = [one for group in engines.values() for one in group]
        lines.append(f"| **{metric}** | all | {summary(alike)} |")
        lines += [f"| | {engine} | {summary(group)} |" for engine, group in engines.items()]
    return lines


def by_hardware(outcomes: Iterable[Outcome]) -> list[str]:
    """A metric's table of devices, one apart from several."""
    groups = grouped(outcomes, lambda one: f"{one.on} | {'one' if one.row['num_gpus'] == '1' else 'several'}")
    return [
        "| device | number | rows | median error | p90 | median forecast / measured |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {summary(group)} |" for name, group in groups.items()),
    ]


def worst(outcomes: Iterable[Outcome]) -> list[str]:
    """The row furthest off of each metric, engine and hardware, with what lies behind it; the largest first."""
    groups = grouped(
        (one for one in outcomes if one.metric != STEP),
        lambda one: " ".join((one.metric, one.row["engine"], one.row["num_gpus"], one.on)),
    )
    furthest = [(max(group, key=_distance), group) for group in groups.values()]
    furthest.sort(key=lambda pair: _distance(pair[0]), reverse=True)
    lines = [
        "| row | setting | measured, tok/s | forecast | forecast / measured | rows alike | reading |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, group in furthest[:NUM_WORST]:
        median = statistics.median(other.ratio for other in group)
        lines.append(
            f"| {one.row['id']} | {_setting(one)} | {one.measured:.4g} | {one.forecast:.4g} | {one.ratio:.2f} | "
            f"{len(group)} rows, median {median:.2f} | {reading(one)} |"
        )
    return lines


def _distance(one: Outcome) -> float:
    return abs(math.log(one.ratio))


def _setting(one: Outcome) -> str:
    row = one.row
    batch = f", batch {row['batch_or_concurrency']}" if row["batch_or_concurrency"] else ""
    lengths = f"{num_tokens(row['input_len'])}/{num_tokens(row['output_len'])}"
    layout = f" PP{row['pp']}" if row["pp"] != "1" else f" TP{row['tp']}" if row["tp"] != "1" else ""
    dtype = row["weight_dtype"].split(" ")[0]
    where = f"{row['num_gpus']}x {one.on}{layout}, {row['engine']}"
    return f"{one.metric}: {row['model']} {dtype} on {where}{batch}, {lengths}"


def reading(one: Outcome) -> str:
    """What most likely made the difference; nobody measured it."""
    return next(text for holds, text in READINGS if holds(one))


def _is_at_the_edge(one: Outcome) -> bool:
    """Fewer sequences run than were asked for, or so few that a GiB more or less decides."""
    asked = int(one.row["batch_or_concurrency"] or 1)
    return one.choice.speed.batch < asked or (one.metric == SATURATED and one.choice.full.batch < 32)


READINGS: tuple[tuple[Callable[[Outcome], bool], str], ...] = (
    (
        lambda one: one.on == "l40s" and int(one.row["tp"]) > 2,
        "the link: the catalogue holds one host's all-reduce, said to be suspect; these rows need several times that",
    ),
    (
        _is_at_the_edge,
        "the memory edge: the plan takes all memory, engines about 0.9 of it, and here that leaves next to no KV",
    ),
    (
        lambda one: one.on == "mi300x",
        "the engine: of 2024 on ROCm; on one card at batch 1, too, it is far below what the bandwidth allows",
    ),
    (
        lambda one: one.metric == PREFILL and one.row["engine"] == "llama.cpp",
        "the engine: of May 2024, it reaches a fraction of the matrix units, least on data-centre and workstation "
        "cards",
    ),
    (lambda one: one.row["engine"].startswith("HF "), "the engine: eager, Python starts every kernel"),
    (
        lambda one: one.metric == PER_TOKEN and one.ratio < 1,
        "the measurement: nearer a decode step alone, as if prompts were cached or computed elsewhere",
    ),
    (
        lambda one: one.metric == PREFILL and int(one.row["tp"]) > 1,
        "TP over PCIe: host staging reaches less than the share assumed, and nothing overlaps with it",
    ),
    (lambda one: one.row["engine"] == "SGLang", "the engine: the host's work per step, which the plan does not count"),
    (lambda one: int(one.row["tp"]) > 1, "TP: all-reduces and the host's work per step cost more than assumed"),
    (
        lambda one: one.row["engine"] == "llama.cpp" and one.on.startswith(("a100", "h100")),
        "the engine: at batch 1 it reaches about half of the bandwidth of HBM",
    ),
    (lambda one: True, "the engine's own efficiency"),
)

"""The last incident for people: when, what, why, what to do, the last steps as a table, the last lines of the log.

Reads files by engine/accounts/incident.py, which trusts none of them. Knows no flag.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Any

from farthing.cli.finding import Finding
from farthing.engine.accounts.incident import Incident, incident_folder, incidents
from farthing.engine.accounts.remedy import longest_step_seconds, remedy, signal_name, step_seconds

SCHEMA = "farthing.last-incident/1"
_YOUNG_SECONDS = 24 * 3600.0
_NUM_STEPS = 10
_NUM_SLOWEST = 3
_NUM_LINES = 10
_WHAT = {
    "crash": "the engine ended",
    "stall": "the engine stood still",
    "failed": "the engine was given up for good",
}


def last_incidents() -> Iterator[Finding]:
    """The last one; a young one is a problem. Files that are damaged are named."""
    found, damaged = incidents()
    if damaged:
        names = ", ".join(path.name for path in damaged)
        yield Finding("missing", "incidents", f"can't be read: {names} in {incident_folder()}", "remove them")
    if not found:
        yield Finding("ok", "incident", "none")
        return
    last = found[0]
    text = f"{_WHAT[last.kind]} {_ago(last)}: {last.reason}"
    if 0 <= _age_seconds(last) < _YOUNG_SECONDS:
        yield Finding("problem", "incident", text, f"{remedy(last)} (farthing doctor --last)")
    else:
        yield Finding("ok", "incident", text)


def document(incident: Incident | None) -> dict[str, Any]:
    """The JSON object of `farthing doctor --last --json`; `incident` is null where there is none."""
    if incident is None:
        return {"schema": SCHEMA, "incident": None, "remedy": None}
    content = {**asdict(incident), "path": str(incident.path), "time": incident.time.isoformat()}
    return {"schema": SCHEMA, "incident": content, "remedy": remedy(incident)}


def lines(incident: Incident) -> Iterator[str]:
    """All that a person needs of it."""
    restarts = f"{incident.num_restarts} restart{'' if incident.num_restarts == 1 else 's'} before it"
    up = f"after {_duration(incident.uptime_seconds)}"
    yield f"{_WHAT[incident.kind]} ({incident.kind}), {incident.time:%Y-%m-%d %H:%M:%S} UTC, {_ago(incident)}"
    yield ""
    yield f"why     {incident.reason}{_exit(incident)}"
    yield f"do      {remedy(incident)}"
    yield f"when    {up} of serving, {restarts}, Farthing {incident.version}"
    if incident.plan_line or incident.model:
        yield f"what    {incident.plan_line or incident.model}"
    if incident.device:
        yield f"on      {incident.device}"
    if any(incident.status.values()):
        yield f"status  {_status(incident.status)}"
    yield f"file    {incident.path}"
    yield from _steps(incident)
    if incident.log:
        yield ""
        yield f"The last lines of the log, {min(_NUM_LINES, len(incident.log))} of {len(incident.log)}:"
        yield from (f"  {line}" for line in incident.log[-_NUM_LINES:])


def _steps(incident: Incident) -> Iterator[str]:
    """The last steps, and the slowest of those before them."""
    if not incident.steps:
        yield ""
        yield "No step was finished."
        return
    last, earlier = incident.steps[-_NUM_STEPS:], incident.steps[:-_NUM_STEPS]
    slowest = sorted(earlier, key=step_seconds)[-_NUM_SLOWEST:][::-1]
    usual = median(map(step_seconds, incident.steps))
    yield ""
    yield (
        f"The last {len(last)} of {len(incident.steps)} steps; half took less than {usual:.3g} s, "
        f"the longest {longest_step_seconds(incident):.3g} s:"
    )
    rows = [_HEAD, *(_cells(step, incident) for step in last)]
    if slowest:
        rows += [("and the slowest before them:",), *(_cells(step, incident) for step in slowest)]
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(len(_HEAD))]
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)).rstrip()


_HEAD = ("before it", "phase", "sequences", "tokens", "waiting", "seconds", "forecast", "KV used")


def _cells(step: Mapping[str, Any], incident: Incident) -> tuple[str, ...]:
    ended, forecast = _number(step, "time"), _number(step, "forecast_seconds")
    used, blocks = _number(step, "used_blocks"), _number(incident.status, "num_blocks")
    return (
        "" if ended is None else f"{max(0.0, incident.time.timestamp() - ended):.2f} s",
        str(step.get("phase", "")),
        _count(step, "num_sequences"),
        _count(step, "num_tokens"),
        _count(step, "num_waiting"),
        f"{step_seconds(step):.4f}",
        "" if forecast is None else f"{forecast:.4f}",
        "" if used is None or not blocks else f"{used / blocks:.0%}",
    )


def _status(status: Mapping[str, Any]) -> str:
    blocks, available = _number(status, "num_blocks"), _number(status, "num_available_blocks")
    parts = [
        f"{_count(status, 'num_steps')} steps",
        f"{_count(status, 'num_running')} sequences running",
        f"{_count(status, 'num_waiting')} waiting",
    ]
    if blocks and available is not None:
        parts.append(f"{blocks - available:.0f} of {blocks:.0f} KV blocks used")
    return ", ".join(parts)


def _exit(incident: Incident) -> str:
    name = signal_name(incident.exit_code)
    return f" ({name})" if name and name not in incident.reason else ""


def _count(values: Mapping[str, Any], name: str) -> str:
    return "" if (value := _number(values, name)) is None else f"{value:.0f}"


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _age_seconds(incident: Incident) -> float:
    return (datetime.now(UTC) - incident.time).total_seconds()


def _ago(incident: Incident) -> str:
    seconds = _age_seconds(incident)
    return f"{_duration(seconds)} ago" if seconds >= 0 else "in the future, by its clock"


def _duration(seconds: float) -> str:
    """The two largest units of it, roughly."""
    whole = max(0, round(seconds))
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, unit), (smaller, other) in pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {other}" if rest else "")
    return f"{whole} s"

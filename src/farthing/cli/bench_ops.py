"""The ops of a step as `farthing bench` shows them: what each was forecast to take, what it took, and its limit.

A value and its table; bench_measure.py finds the seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from farthing.units import format_seconds


@dataclass(frozen=True, slots=True)
class OpRow:
    """`count` equal ops of a step, or several kinds of them; all seconds are of all of them together. `limit`: at the
    measured bandwidth and peaks alone."""

    name: str
    count: int
    predicted: float
    measured: float
    limit: float

    @property
    def share_of_limit(self) -> float:
        return self.limit / self.measured


@dataclass(frozen=True, slots=True)
class StepOps:
    """The ops of one step of a figure."""

    figure: str
    rows: tuple[OpRow, ...]


def ops_table(step: StepOps) -> Table:
    """A row an op, the longest first, and their sum."""
    title = f"{step.figure}: the ops of a step, each started alone"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for heading in ("", "count", "predicted", "measured", "measured limit", "share of it"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
    for row in (*sorted(step.rows, key=lambda row: -row.measured), _sum(step.rows)):
        seconds = (format_seconds(value) for value in (row.predicted, row.measured, row.limit))
        table.add_row(row.name, str(row.count), *seconds, f"{row.share_of_limit:.0%}")
    return table


def _sum(rows: Sequence[OpRow]) -> OpRow:
    return OpRow(
        "all",
        sum(row.count for row in rows),
        sum(row.predicted for row in rows),
        sum(row.measured for row in rows),
        sum(row.limit for row in rows),
    )

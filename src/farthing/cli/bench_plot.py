"""A load as a picture: what share of the requests waited how long, and tokens a second over time. Knows no flags.

matplotlib is imported here and nowhere else; the command loads this file by name.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farthing.client.load_report import LoadReport
from farthing.spread import Spread
from farthing.units import format_seconds

_MEASURED, _FORECAST, _OBJECTIVE = "#1f5fa8", "#c75b12", "#5c5c5c"
_WIDTH, _HEIGHT, _DOTS = 10.0, 7.0, 120  # inches; dots an inch
_BEHIND_TEXT = {"fc": "white", "ec": "none", "pad": 1, "alpha": 0.8}
_LEVELS = (50, 90, 99)
_LONG_RANGE = 20.0  # from the shortest to the longest; beyond it a linear axis shows nothing of the short ones


def draw(report: LoadReport, path: Path) -> None:
    """Writes the picture; its kind follows from the file's name."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DOTS, layout="constrained")
    figure.suptitle(_title(report), fontsize=12)
    panels = figure.subplot_mosaic([["ttft", "tpot"], ["tokens", "tokens"]])
    answered = [record for record in report.records if record.outcome == "answered"]
    summary, ledger, goodput = report.summary, report.ledger, report.summary.goodput
    _distribution(
        panels["ttft"],
        "time to first token",
        [record.ttft_seconds for record in answered],
        summary.ttft_seconds,
        objective=None if goodput is None else goodput.ttft,
        forecast=None if ledger is None else ledger.prefill.forecast_step_seconds,
        forecast_of="a prefill step",
    )
    _distribution(
        panels["tpot"],
        "time per output token",
        [own for record in answered if (own := record.tpot_seconds) is not None],
        summary.tpot_seconds,
        objective=None if goodput is None else goodput.tpot,
        forecast=None if ledger is None else ledger.decode.forecast_step_seconds,
        forecast_of="a decode step",
    )
    _over_time(panels["tokens"], report)
    figure.savefig(path)


def _title(report: LoadReport) -> str:
    summary = report.summary
    counts = f"{summary.sent:,} requests: {summary.answered:,} answered"
    for number, name in ((summary.refused, "refused"), (summary.failed, "failed"), (summary.cut, "cut")):
        if number:
            counts += f", {number:,} {name}"
    return f"{report.model} · {report.asked.line}\n{counts}"


def _distribution(
    axes: Axes,
    name: str,
    seconds: Iterable[float],
    spread: Spread,
    *,
    objective: float | None,
    forecast: float | None,
    forecast_of: str,
) -> None:
    """The share of requests that took at most so long."""
    values = sorted(seconds)
    axes.set_title(name, fontsize=11)
    axes.set_ylabel("share of the answered requests")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    _grid(axes)
    if not values:
        axes.text(0.5, 0.5, "no answers", ha="center", va="center", transform=axes.transAxes)
        return
    shares = [(rank + 1) / len(values) for rank in range(len(values))]
    axes.step([values[0], *values], [0.0, *shares], where="post", color=_MEASURED, linewidth=2, label="measured")
    for level, value in zip(_LEVELS, (spread.p50, spread.p90, spread.p99), strict=True):
        assert value is not None
        axes.plot(value, level / 100, "o", color=_MEASURED, markersize=5)
        axes.annotate(
            f"p{level} {format_seconds(value)}", (value, level / 100), xytext=(-8, -3),
            textcoords="offset points", fontsize=9, ha="right", bbox=_BEHIND_TEXT,
        )  # fmt: skip
    marks = [value for value in (objective, forecast) if value is not None]
    if objective is not None:
        axes.axvline(objective, color=_OBJECTIVE, linestyle=":", label=f"objective {format_seconds(objective)}")
    if forecast is not None:
        label = f"forecast of {forecast_of}, {format_seconds(forecast)}"
        axes.axvline(forecast, color=_FORECAST, linestyle="--", label=label)
    _set_range(axes, [*values, *marks])
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        ncols=3,
        fontsize=8,
        frameon=False,
        columnspacing=1,
        handlelength=1.5,
    )


def _set_range(axes: Axes, values: Sequence[float]) -> None:
    """From left of the first value, so that its label has room, to right of the last."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _LONG_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.3, high * (high / low) ** 0.05)
    else:
        width = max(high - low, 0.02 * high)
        axes.set_xlim(max(0.0, low - 0.45 * width), high + 0.05 * width)
    axes.xaxis.set_major_formatter(lambda value, _: format_seconds(value) if value > 0 else "0")


def _over_time(axes: Axes, report: LoadReport) -> None:
    rates, width = report.output_tokens_over_time, report.bin_seconds
    axes.set_title("output tokens a second", fontsize=11)
    axes.set_xlabel("seconds since the beginning")
    _grid(axes)
    edges = [width * index for index in range(len(rates) + 1)]
    if rates:
        axes.stairs(rates, edges, fill=True, color=_MEASURED, alpha=0.3)
        axes.stairs(rates, edges, color=_MEASURED, linewidth=1.5, label="measured")
    mean = report.summary.output_tokens_per_second
    axes.axhline(mean, color=_MEASURED, linestyle=":", label=f"mean {mean:,.0f}")
    forecast = None if report.ledger is None else report.ledger.forecast_tokens_per_second
    if forecast is not None and math.isfinite(forecast):
        axes.axhline(forecast, color=_FORECAST, linestyle="--", label=f"forecast, never idle: {forecast:,.0f}")
    axes.set_ylim(0, 1.25 * max([*rates, mean, forecast or 0.0, 1.0]))
    axes.set_xlim(0, max(report.summary.seconds, edges[-1], width))
    axes.legend(loc="upper right", fontsize=9, ncols=3)


def _grid(axes: Axes) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

"""The plots of a report, with matplotlib: as SVG for its page, or as one picture in a file.

Loaded by name, and only where somebody asks for a plot. The same report gives the same bytes. In the page, colours are
the page's own (`var(--p-1)`), so that a plot is light or dark as the page is. Knows no flags.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from farthing.planner.page import figures
from farthing.planner.page.report_page import Curve, ReportPage
from farthing.planner.page.report_sources import Option
from farthing.planner.page.words import Words
from farthing.units import format_count

_TEXT, _FAINT, _LINE, _GROUND = "#211c16", "#675e52", "#d8cfc1", "#fffdfa"
_SERIES = ("#97501c", "#2f7391", "#6f7a2c")
_AS_PAGE = {_TEXT: "text", _FAINT: "faint", _LINE: "line", _GROUND: "ground"} | {
    colour: str(number) for number, colour in enumerate(_SERIES, start=1)
}
_CHINESE = (  # fonts that have the characters, the best first: how their names begin
    *("Noto Sans CJK", "Noto Sans SC", "Source Han Sans", "PingFang", "Hiragino Sans GB", "Microsoft YaHei", "SimHei"),
    *("WenQuanYi", "Sarasa", "LXGW", "Droid Sans Fallback", "Noto Serif CJK", "Arial Unicode MS"),
)
_SIZE = (4.5, 3.5)  # inches of 72 points: as wide as a phone, so that the text is not shrunk there
_DPI = 160
_NAME_ROOM = (0.5, 0.09)  # decades of money and of time around a name

Draw = Callable[[Axes, ReportPage, Words], None]


def page_plots(page: ReportPage, words: Words) -> dict[str, str]:
    """SVG by name: curve, roofline, and pareto where there are options."""
    wanted: dict[str, Draw] = {}
    if page.curves:
        wanted["curve"] = draw_curves
    if page.roof is not None:
        wanted["roofline"] = draw_roof
    if page.options:
        wanted["pareto"] = draw_options
    return {name: _svg(name, draw, page, words) for name, draw in wanted.items()}


def save_plot(page: ReportPage, words: Words, path: Path) -> None:
    """Curve and roofline side by side; the kind of file is its ending. Only of a page that has curves. OSError."""
    with matplotlib.rc_context(_rc(words, "path")):
        figure = Figure(figsize=(10.4, 4.7), facecolor=_GROUND, layout="constrained")
        drawn = [("curve", draw_curves)] + ([("roofline", draw_roof)] if page.roof else [])
        for number, (name, draw) in enumerate(drawn):
            axes = figure.add_subplot(1, len(drawn), number + 1)
            draw(axes, page, words)
            axes.set_title(_title(name, page, words), loc="left", fontsize=11, color=_TEXT, fontweight="bold", pad=28)
        figure.suptitle(_head(page, words), x=0.01, ha="left", fontsize=12.5, color=_TEXT)
        figure.savefig(path, dpi=_DPI, metadata=_undated(path.suffix))


def can_write_chinese() -> bool:
    """Whether a font of this machine has the characters."""
    return _chinese_font() is not None


def _chinese_font() -> str | None:
    names = sorted({font.name for font in fontManager.ttflist})
    return next((name for wanted in _CHINESE for name in names if name.startswith(wanted)), None)


def _undated(suffix: str) -> dict[str, Any]:
    """Metadata without what changes from run to run."""
    return {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(suffix.lower(), {"Software": None})


def _rc(words: Words, svg_text: str) -> dict[Any, Any]:
    chinese = _chinese_font() if words.language == "zh" else None
    fonts = ["DejaVu Sans"] if chinese is None else ["DejaVu Sans", chinese]
    return {
        "svg.hashsalt": "farthing",
        "svg.fonttype": svg_text,
        "pdf.fonttype": 42,
        "font.family": fonts,
        "font.size": 9.5,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": _GROUND,
        "grid.color": _LINE,
        "grid.linewidth": 0.6,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "text.color": _TEXT,
        "legend.frameon": False,
        "legend.labelcolor": _TEXT,
        "axes.unicode_minus": False,
        "text.parse_math": False,  # a dollar sign in a name is no formula
    }


def _svg(name: str, draw: Draw, page: ReportPage, words: Words) -> str:
    """For the page: no ids that another plot has, no size, no address, the page's fonts and colours."""
    with matplotlib.rc_context(_rc(words, "none")):
        figure = Figure(figsize=_SIZE, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes, page, words)
        written = StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    label = _title(name, page, words).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    text = re.sub(r"<svg[^>]*>", f'<svg {box[0]} role="img" aria-label="{label}">', text, count=1)
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{name}-", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    for colour, variable in _AS_PAGE.items():
        text = text.replace(colour, f"var(--p-{variable})")
    return text.strip()


def _title(name: str, page: ReportPage, words: Words) -> str:
    if name == "roofline" and page.roof is not None:
        return words.say("plots.roofline", {"device": page.roof.ceiling.device, "math": page.roof.ceiling.math})
    return words[f"plots.{name}"]


def _head(page: ReportPage, words: Words) -> str:
    plan = page.plan
    title = words.say("page.title", {"model": plan.model, "hardware": plan.hardware})
    return f"{title} · {plan.spec.precision.format.name}".encode("utf-8", "replace").decode()


def draw_curves(axes: Axes, page: ReportPage, words: Words) -> None:
    """Output tokens/s against time per token, a line for each layout, its batches at the dots."""
    for number, curve in enumerate(page.curves):
        milliseconds = [point.speed.decode.seconds * 1e3 for point in curve.points]
        rates = [point.speed.output_tokens_per_second for point in curve.points]
        colour = _SERIES[number % len(_SERIES)]
        first = number == 0
        axes.plot(
            milliseconds,
            rates,
            color=colour,
            linewidth=2.2 if first else 1.4,
            marker="o",
            markersize=5 if first else 3.5,
            label=figures.split(curve.layout) or words["plots.one_rank"],
        )
    _label_batches(axes, page.curves)
    points = [point.speed for curve in page.curves for point in curve.points]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, values in (
        (axes.xaxis, [speed.decode.seconds for speed in points]),
        (axes.yaxis, [speed.output_tokens_per_second for speed in points]),
    ):
        _logarithmic(axis, min(values), max(values))
    axes.margins(x=0.14, y=0.12)
    axes.set_xlabel(words["plots.tpot"])
    axes.set_ylabel(words["plots.throughput"])
    _legend_above(axes, len(page.curves))


def _logarithmic(axis: Any, lowest: float, highest: float) -> None:
    """Ticks at round numbers, more of them where the range is short."""
    steps = (1.0, 2.0, 5.0) if highest / lowest > 12 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """500, 1K, 2.5M; 0.5."""
    return format_count(value).replace(" ", "") if value >= 1000 else f"{value:.4g}"


def _legend_above(axes: Axes, columns: int) -> None:
    """Where no line can cross it."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        fontsize=8.5,
        columnspacing=1.2,
        handlelength=1.6,
        borderaxespad=0.2,
    )


def _label_batches(axes: Axes, curves: Sequence[Curve]) -> None:
    """Above the last dot of every line, and left of every other dot of the first one."""
    for number, curve in enumerate(curves):
        last = len(curve.points) - 1
        colour = _SERIES[number % len(_SERIES)]
        for index, point in enumerate(curve.points):
            if index != last and (number or index % 2 or index == last - 1):
                continue
            axes.annotate(
                f"{point.batch:,}",
                (point.speed.decode.seconds * 1e3, point.speed.output_tokens_per_second),
                xytext=(0, 7) if index == last else (-7, 2),
                textcoords="offset points",
                ha="center" if index == last else "right",
                va="bottom" if index == last else "center",
                fontsize=8.5,
                color=colour,
                fontweight="bold" if index == last else "normal",
            )


def draw_roof(axes: Axes, page: ReportPage, words: Words) -> None:
    """The roof that is reached and the data sheet's, and the steps under it."""
    roof = page.roof
    assert roof is not None
    ceiling = roof.ceiling
    xs = [point.intensity for point in roof.points] + [roof.ridge]
    low, high = min(xs) / 2.5, max(xs) * 4
    _roof_line(axes, ceiling.bandwidth, ceiling.rate, low, high, words["plots.reached"], "-")
    if ceiling.peak_bandwidth and ceiling.peak_rate:
        _roof_line(axes, ceiling.peak_bandwidth, ceiling.peak_rate, low, high, words["plots.sheet"], "--")
    for phase, colour, marker in (("prefill", _SERIES[1], "s"), ("decode", _SERIES[0], "o")):
        points = [point for point in roof.points if point.phase == phase]
        axes.plot(
            [point.intensity for point in points],
            [point.flops_per_second for point in points],
            linestyle="none",
            marker=marker,
            markersize=7,
            color=colour,
            label=words[f"plots.{phase}"],
        )
        for number, point in enumerate(points):
            left = phase == "prefill" and number < len(points) - 1  # of two that are close, away from the next
            axes.annotate(
                ", ".join(f"{batch:,}" for batch in point.batches),
                (point.intensity, point.flops_per_second),
                xytext=(-1 if left else 5, -5),
                textcoords="offset points",
                ha="right" if left else "left",
                va="top",
                fontsize=8.5,
                color=colour,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    rates = [point.flops_per_second for point in roof.points] + [low * ceiling.bandwidth]
    axes.set_ylim(min(rates) / 2, max(ceiling.rate, ceiling.peak_rate or 0) * 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(words["plots.intensity"])
    axes.set_ylabel(words["plots.flops"])
    _legend_above(axes, 4)


def _roof_line(axes: Axes, bandwidth: float, rate: float, low: float, high: float, label: str, style: str) -> None:
    ridge = rate / bandwidth
    color, width = (_TEXT, 1.8) if style == "-" else (_FAINT, 1.1)
    axes.plot([low, ridge, high], [low * bandwidth, rate, rate], style, color=color, linewidth=width, label=label)


def draw_options(axes: Axes, page: ReportPage, words: Words) -> None:
    """Money a month against time per token; what none beats as a line."""
    factor = page.currency.per_dollar
    front = [one for one in page.options if one.on_front]
    others = [one for one in page.options if not one.on_front]
    chosen = [one for one in page.options if one.is_chosen]
    for options, colour, size, label in (
        (others, _FAINT, 3.5, words["plots.dominated"]),
        (front, _SERIES[0], 6.0, words["plots.front"]),
        (chosen, _SERIES[1], 8.0, words["plots.chosen"]),
    ):
        if options:
            axes.plot(
                [one.dollars_per_month * factor for one in options],
                [one.tpot_seconds * 1e3 for one in options],
                linestyle="none",
                marker="o",
                markersize=size,
                color=colour,
                label=label,
            )
    for one in _apart(front):
        axes.annotate(
            one.name,
            (one.dollars_per_month * factor, one.tpot_seconds * 1e3),
            xytext=(6, 2),
            textcoords="offset points",
            va="bottom",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, values in (
        (axes.xaxis, [one.dollars_per_month * factor for one in page.options]),
        (axes.yaxis, [one.tpot_seconds * 1e3 for one in page.options]),
    ):
        _logarithmic(axis, min(values), max(values))
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel(words.say("plots.monthly", {"currency": page.currency.code}))
    axes.set_ylabel(words["plots.tpot"])
    _legend_above(axes, 3)


def _apart(options: Sequence[Option]) -> Iterator[Option]:
    """Those whose names do not cover each other: each name once, with room around it."""
    kept: list[Option] = []
    for one in options:
        near = (
            abs(math.log10(one.tpot_seconds / other.tpot_seconds)) < _NAME_ROOM[1]
            and abs(math.log10(one.dollars_per_month / other.dollars_per_month)) < _NAME_ROOM[0]
            for other in kept
        )
        if one.dollars_per_month > 0 and one.name not in {other.name for other in kept} and not any(near):
            kept.append(one)
            yield one

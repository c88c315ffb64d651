"""The page's table as a picture: a bar for each ratio, with the spread of its rounds and what is wanted."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from peers.results import Outcome

_COLOURS = {True: "#1f5fa8", False: "#c75b12", None: "#8fa3b8"}
_MEANINGS = {True: "met", False: "missed", None: "reported"}
_WIDTH, _ROW_HEIGHT, _MARGIN, _DOTS = 10.0, 0.27, 1.4, 120  # inches; dots an inch
_TICKS = (0.25, 0.5, 1, 2, 3, 5, 10, 20, 50)


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    rows = [comparison for outcome in outcomes for comparison in outcome.comparisons()]
    figure = Figure(figsize=(_WIDTH, _ROW_HEIGHT * len(rows) + _MARGIN), dpi=_DOTS, layout="constrained")
    axes = figure.subplots()
    axes.set_title("tokens/s of Farthing / tokens/s of the peer, median and spread of the rounds", fontsize=11)
    for row, one in enumerate(rows):
        axes.barh(row, one.ratio - 1, left=1, height=0.62, color=_COLOURS[one.met])
        axes.plot([min(one.ratios), max(one.ratios)], [row, row], color="#222222", linewidth=1)
        axes.text(max(1.0, *one.ratios) * 1.03, row, f"{one.ratio:.2f}x", va="center", fontsize=8)
        if one.wanted is not None:
            axes.plot([one.wanted] * 2, [row - 0.42, row + 0.42], color="#222222", linewidth=2)
    axes.set_yticks(range(len(rows)), [_label(one.outcome, one.peer) for one in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    lowest, highest = (edge(ratio for one in rows for ratio in one.ratios) for edge in (min, max))
    axes.set_xlim(min(0.5, lowest * 0.8), max(2.0, highest * 1.3))
    axes.set_xticks(_TICKS, [f"{tick:g}x" for tick in _TICKS])
    axes.minorticks_off()
    axes.set_xlim(min(0.5, lowest * 0.8), max(2.0, highest * 1.3))
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    present = [kind for kind in _COLOURS if any(one.met is kind for one in rows)]
    legend = [Patch(color=_COLOURS[kind], label=_MEANINGS[kind]) for kind in present]
    wanted = Line2D([], [], color="#222222", linewidth=2, label="wanted")
    axes.legend(handles=[*legend, wanted], loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=4, frameon=False)
    figure.savefig(path)


def _label(outcome: Outcome, peer: str) -> str:
    return f"{outcome.group.name}: {outcome.case.title} / {peer}"

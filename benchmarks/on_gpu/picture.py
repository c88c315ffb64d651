"""The shares as a picture: a bar for each case by the data sheet, and a mark at what the measured peaks would allow."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from on_gpu.results import MEASURED, SHEET, Results, Row

_COLOURS = {"decode": "#1f5fa8", "prefill": "#c75b12", "mixed": "#3d8f5f"}
_WIDTH, _ROW_HEIGHT, _MARGIN, _DOTS = 10.0, 0.27, 1.5, 120  # inches; dots an inch


def draw(results: Results, path: Path) -> bool:
    """False if there is nothing to draw. A machine without a data sheet has bars of the measured peaks."""
    source = SHEET if results.one("peaks", source=SHEET) else MEASURED
    rows = [
        (section, row, share)
        for section in _COLOURS
        for row in results.of(section)
        if (share := results.share(row, source)) is not None
    ]
    if not rows:
        return False
    figure = Figure(figsize=(_WIDTH, _ROW_HEIGHT * len(rows) + _MARGIN), dpi=_DOTS, layout="constrained")
    axes = figure.subplots()
    axes.set_title(
        f"floor / measured, floor by the {'data sheet' if source == SHEET else 'measured peaks'}", fontsize=11
    )
    for place, (section, row, share) in enumerate(rows):
        axes.barh(place, share, height=0.62, color=_COLOURS[section])
        axes.text(share + 0.01, place, f"{share:.1%}", va="center", fontsize=8)
        peak, own = results.floor(row, MEASURED), results.floor(row, SHEET)
        if source == SHEET and peak and own:
            axes.plot([own / peak] * 2, [place - 0.42, place + 0.42], color="#222222", linewidth=2)
    axes.set_yticks(range(len(rows)), [_label(section, row) for section, row, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, *(share for _, _, share in rows)) * 1.1)
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles: list[Patch | Line2D] = [Patch(color=colour, label=section) for section, colour in _COLOURS.items()]
    if source == SHEET:
        handles.append(Line2D([], [], color="#222222", linewidth=2, label="at the measured peaks"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=4, frameon=False)
    figure.savefig(path)
    return True


def _label(section: str, row: Row) -> str:
    if section == "mixed":
        return f"{row['format']}: continuous batching"
    if section == "prefill":
        return f"{row['format']}: prefill of {row['tokens']:,}"
    return f"{row['format']}: decode, batch {row['batch']}, context {row['context']:,}"

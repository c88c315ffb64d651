"""How far measurements of cells that a fit never saw lie from its forecasts: the intervals of each engine and figure.

The half that constants are fitted to is dealt into folds by cell; each fold is forecast by constants fitted to the
others. Knows no file.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy

from farthing.planner.engines.engine_profile import GENERIC
from forecasts.columns import Measured
from forecasts.fitting import Fitted, fit_all, predictions
from forecasts.halves import cell_of

NUM_FOLDS = 4
ENOUGH = 12  # rows of an engine, from which it has an interval of its own
INSIDE = 0.8
WIDEST = 4.0  # of an engine that nobody measured; beyond it a forecast says nothing

Ratios = dict[tuple[str, str], list[float]]


def unseen(rows: Sequence[Measured], operators: Fitted) -> list[tuple[Measured, float, str]]:
    """Forecasts of every row by constants that were fitted without its cell."""
    found = []
    for fold in range(NUM_FOLDS):
        fitted = fit_all([one for one in rows if _fold(one) != fold], operators)
        found += predictions([one for one in rows if _fold(one) == fold], fitted)
    return found


def _fold(one: Measured) -> int:
    return zlib.crc32(f"fold|{cell_of(one.row)}".encode()) % NUM_FOLDS


def add_intervals(fitted: Fitted, rows: Sequence[Measured], operators: Fitted) -> None:
    """The factor up and down that holds eight of ten, for each engine and figure with enough rows. The generic profile
    has those of all engines together: it stands for engines that nobody measured, where a forecast by another engine's
    constants is the best guess."""
    ratios: Ratios = defaultdict(list)
    for one, value, group in unseen(rows, operators):
        for engine in (one.setting.engine.name, GENERIC):
            for figure in (group, "any"):
                ratios[engine, figure].append(one.value / value)
    for (engine, figure), values in sorted(ratios.items()):
        if engine not in fitted["engines"] or (len(values) < ENOUGH and engine != GENERIC):
            continue
        factor = float(numpy.exp(numpy.quantile(numpy.abs(numpy.log(values)), INSIDE)))
        table = fitted["engines"][engine].setdefault("intervals", {})
        table[figure] = [max(1 / factor, 1 / WIDEST), min(factor, WIDEST)]
    fitted["engines"][GENERIC]["intervals"].setdefault("any", [1 / WIDEST, WIDEST])

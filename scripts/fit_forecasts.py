"""Fits the constants of the engine profiles to half of the measured rows: planner/engines/fitted.toml.

    python scripts/fit_forecasts.py --data ../shared/data

`--data` is the folder with measured_calibration.csv and the two files of operators, which stay out of the repository.
The other half of the rows, by cells of source, model, GPU and number, no constant is fitted to; its error is told by
compare_forecasts.py, and here, of each source, by constants fitted without the source. The same rows give the same
file. A minute or two; needs numpy.
"""

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from forecasts.columns import Measured, measured
from forecasts.fitting import KEYS, Fitted, fit_all, fit_operators, predictions
from forecasts.intervals import add_intervals
from forecasts.operators import operator_columns

from farthing.planner.engines import engine_profile
from farthing.planner.engines.engine_profile import GENERIC, find_engine

FILE = Path(engine_profile.__file__).with_name("fitted.toml")
FEWEST = 8  # test rows of a source that is left out
HEAD = """\
# Written by scripts/fit_forecasts.py: constants of engines, fitted to half of the published rows that each `sources`
# names. A constant is the base times the factors of the class of device and of format (planner/timing/efficiency.py
# says what each is; seconds, and shares of nominal figures). `median_error`: of the rows it was fitted to. `intervals`:
# measured over forecast, between which eight of ten rows of cells lie that a fit did not see.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with measured_calibration.csv")
    parser.add_argument("--output", type=Path, default=FILE, metavar="FILE")
    arguments = parser.parse_args()
    with (arguments.data / "measured_calibration.csv").open(newline="", encoding="utf-8") as file:
        every = measured(csv.DictReader(file))
    rows = [one for one in every if one.half == 0]
    operators = fit_operators(operator_columns(arguments.data, KEYS))
    fitted = fit_all(rows, operators)
    add_intervals(fitted, rows, operators)
    fitted["left_out"] = leave_one_source_out(rows, every, operators)
    fitted["operators"] = operators
    arguments.output.write_text(to_toml(fitted), encoding="utf-8")
    for name, table in sorted(fitted["engines"].items()):
        print(f"{name}: {table['rows']} rows, median error {table['median_error']:.1%}")


def leave_one_source_out(
    rows: Sequence[Measured], every: Sequence[Measured], operators: Fitted
) -> dict[str, dict[str, Any]]:
    """The error on the test rows of each source, by constants that were fitted without that source."""
    found: dict[str, dict[str, Any]] = {}
    for source in sorted({one.row["source"] for one in every}):
        tested = [one for one in every if one.half == 1 and one.row["source"] == source]
        if len(tested) < FEWEST:
            continue
        fitted = fit_all([one for one in rows if one.row["source"] != source], operators)
        errors: dict[str, list[float]] = defaultdict(list)
        for one, value, group in predictions(tested, fitted):
            errors[group].append(abs(value / one.value - 1))
        found[source] = {
            group: [median(values), sorted(values)[math.ceil(0.9 * len(values)) - 1]]
            for group, values in sorted(errors.items())
        }
    return found


def to_toml(fitted: Fitted) -> str:
    lines = [HEAD]
    for name, table in sorted(fitted["engines"].items()):
        lines += [f'[engines."{name}"]', f"rows = {table['rows']}", f"sources = {_texts(table['sources'])}"]
        lines += [f"{key} = {_number(table[key])}" for key in ("median_error", "lockstep", "prompt_share")]
        lines.append(f"base = {_inline(table['base'])}")
        parent = {} if name == GENERIC else fitted["engines"].get(find_engine(name).like, fitted["engines"][GENERIC])
        for key in ("classes", "formats", "links"):
            entries = {inner: values for inner, values in table[key].items() if _adds(parent, key, inner, values)}
            if entries:
                lines += [f'[engines."{name}".{key}]']
                lines += [f'"{inner}" = {_inline(values)}' for inner, values in entries.items()]
        lines.append(f'[engines."{name}".intervals]')
        lines += [f"{key} = [{low:.3g}, {high:.3g}]" for key, (low, high) in sorted(table.get("intervals", {}).items())]
        lines.append("")
    operators = fitted["operators"]
    lines += ["# What single kernels reach: the generic profile starts here.", "[operators]"]
    lines += [f"rows = {operators['rows']}", f"median_error = {_number(operators['median_error'])}"]
    lines += ['sources = ["operators_vidur_sample.csv", "operators_extra_sample.csv"]']
    lines.append(f"base = {_inline(operators['base'])}")
    lines.append("[operators.classes]")
    lines += [f'"{name}" = {_inline(values)}' for name, values in operators["classes"].items()]
    lines.append("[operators.links]")
    lines += [f'"{name}" = {_inline(operators["links"][name])}' for name in operators["measured_links"]]
    lines.append("[operators.errors]  # rows, median error, ninth decile")
    lines += [
        f'"{name}" = [{rows}, {middle:.3g}, {ninth:.3g}]' for name, (rows, middle, ninth) in operators["errors"].items()
    ]
    lines.append("")
    for source, errors in fitted["left_out"].items():
        lines.append(f'[left_out."{source}"]  # median error and ninth decile on its test rows, fitted without it')
        lines += [f"{group} = [{middle:.3g}, {ninth:.3g}]" for group, (middle, ninth) in errors.items()]
        lines.append("")
    return "\n".join(lines)


def _adds(parent: Mapping[str, Any], key: str, inner: str, values: Mapping[str, float]) -> bool:
    """Whether an entry says anything that the parent's does not."""
    known = parent.get(key, {}).get(inner, {})
    return any(abs(value / known.get(name, 1.0) - 1) > 5e-3 for name, value in values.items())


def _inline(values: Mapping[str, float]) -> str:
    return "{ " + ", ".join(f"{key} = {_number(value)}" for key, value in values.items()) + " }"


def _number(value: float) -> str:
    text = f"{value:.3g}"
    return text if any(sign in text for sign in ".e") else f"{text}.0"


def _texts(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


if __name__ == "__main__":
    main()

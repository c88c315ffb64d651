"""Forecasts beside published measurements, written to benchmarks/forecasts.md.

    python scripts/compare_forecasts.py --data ../shared/data

`--data` is the folder with measured_calibration.csv and memory_fit_logs.csv, whose rows carry no licence to be copied
here. Nothing is fitted here (scripts/fit_forecasts.py does that, to one half of the rows): the page tells the error on
the other half as it is. Prints the table of averages. Needs neither torch nor numpy.
"""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from forecasts.pools import Pool, pools
from forecasts.tables import NUM_WORST, by_source, figure_of, floor_of, head, operators, tested, worst

from farthing.planner.engines import engine_profile
from farthing.planner.validation.validate import ForecastRow, forecast_row, read_table, score, skipped

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "forecasts.md"
FITTED = Path(engine_profile.__file__).with_name("fitted.toml")
COMMAND = "python scripts/compare_forecasts.py --data DIR"

INTRODUCTION = """\
{num_forecast} of {num_rows} measured rows (vendors' tables, READMEs, issues) have a forecast, {coverage:.1%}; of those
whose model, hardware and engine are known {known:.1%}. The measurements are other people's and are not in the
repository. Constants of engines (`planner/engines/fitted.toml`) are fitted to one half of the rows, dealt by cells of
source, model, GPU and number of GPUs; this page is about the other half, {num_tested} rows, and about rows that the
data call suspect it says nothing. The test half was looked at while the model was made: the choice between two ways of
modelling may owe it something, no constant does.

The error is |forecast / measured - 1|; p90: nine of ten errors are no larger; signed: the median of it with its sign;
inside: the measurement lies in the interval that eight of ten should. An average counts each source with at least 8
test rows once. "Without the source": the same rows, by constants that were fitted to the other sources' rows alone -
what to expect of a setting that nobody published (where no row of its engine is left, by those of the generic
profile)."""


def page(rows: Sequence[ForecastRow], found: Sequence[Pool], fitted: Mapping[str, Any]) -> str:
    test, known = tested(rows), [one for one in rows if one.is_known]
    own = [one for one in test if one.engine_known]
    strange = score([one for one in test if not one.engine_known])
    every = score(own)
    assert every is not None
    above = [one for one in rows if one.ceiling is not None]
    floor = floor_of(one for one in test if figure_of(one) == "time per token" and one.row["source"] == "dstack-405b")
    assert floor is not None
    return "\n".join(
        [
            "# Forecasts beside published measurements",
            "",
            f"{datetime.now(UTC):%Y-%m-%d} · command: `{COMMAND}`",
            "",
            INTRODUCTION.format(
                num_forecast=sum(one.predicted is not None for one in rows),
                num_rows=len(rows),
                coverage=sum(one.predicted is not None for one in rows) / len(rows),
                known=sum(one.predicted is not None for one in known) / len(known),
                num_tested=len(test),
            ),
            "",
            *head(own),
            "",
            f"All {every.rows} test rows of engines with a profile: median {every.median_error:.1%}, p90 "
            f"{every.p90_error:.1%}, {every.inside:.0%} inside their interval."
            + (f" Of engines without one: {strange.rows} rows, median {strange.median_error:.1%}." if strange else ""),
            "",
            "## What this says",
            "",
            what_it_says(own, floor),
            "",
            "## By figure and source, test half",
            "",
            *by_source(own, fitted["left_out"]),
            "",
            f"## The {NUM_WORST} settings furthest off, test half",
            "",
            *worst(own),
            "",
            "## Measured rows above what physics allows",
            "",
            *(f"- {one.row['id']}: {one.measured:g}, the ceiling is {one.ceiling:.4g}" for one in above),
            *(
                []
                if above
                else ["None, of all rows. No forecast is, either (`tests/planner/engines/test_engines.py`)."]
            ),
            "",
            "## Single operators",
            "",
            f"{fitted['operators']['rows']} measured products, attentions and all-reduces, to which the curves of the "
            "classes of devices are fitted; the generic profile starts from them.",
            "",
            *operators(fitted["operators"]),
            "",
            "## KV pools",
            "",
            *of_pools(found),
            "",
            "## Rows without a forecast",
            "",
            "| reason | rows |",
            "|---|---|",
            *(f"| {reason} | {count} |" for reason, count in skipped(rows).items()),
            "",
        ]
    )


def what_it_says(test: Sequence[ForecastRow], floor: float) -> str:
    rocm = score([one for one in test if one.row["source"] == "dstack-405b" and figure_of(one) == "time per token"])
    other = score([one for one in test if one.row["source"] != "dstack-405b" and figure_of(one) == "time per token"])
    assert rocm is not None and other is not None
    return (
        "Throughput of a full server, one stream and whole batches are within their targets. The time per token misses "
        f"its median because of one source of three, vLLM and TGI of 2024 with a 405B model on eight MI300X: there it "
        f"is {rocm.median_error:.0%} off, everywhere else {other.median_error:.0%}. Rows of that source that say the "
        "same in every column (they differ in how the checkpoint was quantized and in a scheduler flag) differ so "
        f"much that the best single answer for them would still be {floor:.0%} off. Tried: a token budget for steps "
        "of mixed phases, which that version has for models of long context; curves for the class of devices that "
        "may lie further from the others' - better on whole batches, worse there. Next: the jump that steps take "
        "between 32 and 64 rows on that software, which needs measured products of it. A time to the first token "
        "under load is a queue, and is reported, not promised: closed loops start together or not, overloads last as "
        "long as they last."
    )


def of_pools(found: Sequence[Pool]) -> list[str]:
    own = [one for one in found if one.known]
    new = [one for one in own if one.engine == "vllm"]
    lines = [
        f"{len(found)} starts whose memory, share and tokens are known (`memory_fit_logs.csv`): median error "
        f"{median(one.error for one in found):.1%}; of vLLM 0.19 {median(one.error for one in new):.2%}, at most "
        f"{max(one.error for one in new):.1%}. Reserve and activations of vLLM are those of facts that were taken from "
        "logs of the same origin, so this is a check of the arithmetic more than a forecast. Furthest off:",
        "",
        "| start | setting | measured | forecast | error |",
        "|---|---|---|---|---|",
    ]
    for one in sorted(found, key=lambda one: -one.error)[:4]:
        row = one.row
        setting = f"{row['model']} {row['weight_dtype']}, {row['engine']} {row['engine_version']}, tp {row['tp']}"
        lines.append(f"| {row['id']} | {setting} | {one.measured:,.0f} | {one.forecast:,.0f} | {one.error:.1%} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with measured_calibration.csv")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE")
    arguments = parser.parse_args()
    _, table = read_table(arguments.data / "measured_calibration.csv")
    rows = [forecast_row(row) for row in table]
    fitted = tomllib.loads(FITTED.read_text(encoding="utf-8"))
    found = list(pools(arguments.data))
    arguments.output.write_text(page(rows, found, fitted), encoding="utf-8")
    print("\n".join(head([one for one in tested(rows) if one.engine_known])))


if __name__ == "__main__":
    main()

"""`farthing bench`: how fast a model is on this machine, beside the forecast; and whether an upgrade made it slower.

Knows flags, the order of things and the tables. bench_measure.py times the engine and is loaded when it is needed;
bench_compare.py has the rule by which a loss is told from noise. `farthing bench serve` is bench_serve.py.
"""

import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from farthing import __version__, discover
from farthing.cli import output
from farthing.cli.bench_compare import LEAST_ROUNDS, Comparison
from farthing.cli.bench_ops import ops_table
from farthing.cli.bench_result import BenchResult, Figure, Subject, compare_results, read_result
from farthing.cli.doctor_cards import cards
from farthing.cli.model_argument import DownloadFlags, model_and_config, obtain
from farthing.cli.said import may_be_unsaid, said
from farthing.cli.saved_file import check_writable, save_json
from farthing.engine.config import EngineConfig
from farthing.errors import UsageError

_EXIT_LOSS = 1
_ROUNDS, _QUICK_ROUNDS = 5, 3
_SECONDS, _QUICK_SECONDS = 0.5, 0.1  # of a round of one figure, about
_NOISY_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class BenchFlags:
    """How long to measure, and what to do with the figures."""

    rounds: Annotated[int | None, Parameter(help="Each figure so many times, in turn. Default: 5, with --quick 3.")] = (
        None
    )
    quick: Annotated[bool, Parameter(help="Shorter rounds, and fewer.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False
    save: Annotated[Path | None, Parameter(help="Keep the figures in this file, to compare with later.")] = None
    against: Annotated[
        Path | None,
        Parameter(help="Compare with the figures of this file; exit code 1 if one is slower, beyond the noise."),
    ] = None
    force: Annotated[bool, Parameter(help="Compare even with another machine, model or format.")] = False

    def __post_init__(self) -> None:
        least = 1 if self.against is None else LEAST_ROUNDS
        if self.rounds is not None and self.rounds < least:
            raise UsageError(f"--rounds is {self.rounds}", fix=f"it must be at least {least} here")
        if self.force and self.against is None:
            raise UsageError("--force is about a comparison", fix="say with what: --against FILE")

    @property
    def num_rounds(self) -> int:
        return self.rounds or (_QUICK_ROUNDS if self.quick else _ROUNDS)


SaidConfig = may_be_unsaid(EngineConfig, __name__)
_FLAGS, _CONFIG, _DOWNLOAD = BenchFlags(), SaidConfig(), DownloadFlags()

app = App(
    name="bench",
    help_epilogue="""Examples:
  farthing bench                          the bundled model, beside the forecast
  farthing bench --save before.json       keep it; after an upgrade:
  farthing bench --against before.json
  farthing bench serve --rate 4           load on a server: farthing bench serve --help""",
)
app.command(
    "farthing.cli.bench_serve:bench_serve",
    name="serve",
    help="Load a server, and tell what its users wait.",
    help_epilogue="""Examples:
  farthing bench serve --rate 4 --ttft 0.5 --tpot 0.05       goodput
  farthing bench serve http://gpu-box:8000 --key-file key.txt --concurrency 16
  farthing bench serve --trace day.csv --plot day.png        arrivals from a file""",
)


@app.default
def bench(
    model: Annotated[
        str, Parameter(name="MODEL", help="Folder, .gguf file, alias, org/name or plan file. Default: bundled.")
    ] = "bundled",
    /,
    *,
    flags: Annotated[BenchFlags, Parameter(name="*")] = _FLAGS,
    engine: Annotated[SaidConfig, Parameter(name="*")] = _CONFIG,
    download: Annotated[DownloadFlags, Parameter(name="*")] = _DOWNLOAD,
) -> int:
    """Measure prefill and decode of a model here."""
    before = None if flags.against is None else read_result(flags.against)
    if before is not None and min(len(figure.rounds) for figure in before.figures) < LEAST_ROUNDS:
        raise UsageError(f"{flags.against} has fewer than {LEAST_ROUNDS} rounds", fix="measure with more: --rounds 5")
    check_writable("--save", flags.save)
    name, config = model_and_config(model, engine)
    obtain(name, config, download)
    result = _measure(name, config, said(engine), flags, before)
    comparisons = {} if before is None else compare_results(before, result)
    if flags.json:
        output.print_json(_json_object(result, before, comparisons))
    else:
        _print(result, comparisons)
    _say_noise(result)
    if flags.save is not None:
        save_json(flags.save, result.to_json_object())
    if before is not None and (missing := [one.name for one in before.figures if one.name not in comparisons]):
        output.stderr.print(f"caution - not measured this time: {'; '.join(missing)}", soft_wrap=True)
    lost = [figure for figure, comparison in comparisons.items() if comparison.verdict == "loss"]
    if lost:
        output.stderr.print(f"slower than {flags.against}: {'; '.join(lost)}", soft_wrap=True)
    return _EXIT_LOSS if lost else 0


def _measure(
    name: str, config: EngineConfig, options: dict[str, Any], flags: BenchFlags, before: BenchResult | None
) -> BenchResult:
    """Plan, refuse what can't be compared, load, and time all figures in turn."""
    said_plan = discover.load("farthing.engine", "plan_line")
    timing = discover.load("farthing.cli", "bench_measure")
    plan = said_plan.measured(discover.load("farthing.engine", "plan").plan_engine(name, config))
    subject: Subject = timing.subject_of(plan)
    if before is not None:
        _check_comparable(before, subject, flags)
    output.stderr.print(said_plan.plan_line(plan), soft_wrap=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal) as bar:
        task = bar.add_task("loading")
        running = timing.EngineBench(
            plan,
            seconds=_QUICK_SECONDS if flags.quick else _SECONDS,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        try:
            bar.update(task, description="warming up", completed=0, total=None)
            works = running.works(() if before is None else [figure.work for figure in before.figures])
            found: list[list[float]] = [[] for _ in works]
            bar.update(task, total=flags.num_rounds * len(works))
            for _ in range(flags.num_rounds):
                for work, speeds in zip(works, found, strict=True):
                    bar.update(task, description=work.name, advance=1)
                    speeds.append(running.round(work))
            figures = tuple(running.figure(work, speeds) for work, speeds in zip(works, found, strict=True))
            ops = tuple(step for work in works if (step := running.ops(work)) is not None)
            if plan.device.type == "cuda":  # warm from it: power, heat and what slows a card show now
                for finding in cards():
                    if finding.name == "gpu":
                        output.stderr.print(f"GPU {finding.text}", soft_wrap=True)
        finally:
            running.close()
    return BenchResult(
        version=__version__,
        command=shlex.join(["farthing", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        subject=subject,
        options=options,
        num_threads=plan.num_threads,
        figures=figures,
        ops=ops,
    )


def _check_comparable(before: BenchResult, subject: Subject, flags: BenchFlags) -> None:
    differences = before.subject.differences(subject)
    if differences and not flags.force:
        raise UsageError(
            f"{flags.against} is of something else: {'; '.join(differences)}", fix="--force compares all the same"
        )
    if differences:
        output.stderr.print(f"caution - compared all the same: {'; '.join(differences)}", soft_wrap=True)
    if before.subject.versions != subject.versions:
        output.stderr.print(f"note: {before.subject.versions} then, {subject.versions} now", soft_wrap=True)


def _json_object(result: BenchResult, before: BenchResult | None, comparisons: dict[str, Comparison]) -> dict[str, Any]:
    if before is None:
        return result.to_json_object()
    rows = [
        {
            "name": name,
            "before": one.before,
            "after": one.after,
            "ratio": one.ratio,
            "interval": [one.low, one.high],
            "noticed": one.noticed,
            "verdict": one.verdict,
        }
        for name, one in comparisons.items()
    ]
    return {**result.to_json_object(), "against": {"date": before.date, "version": before.version, "figures": rows}}


def _print(result: BenchResult, comparisons: dict[str, Comparison]) -> None:
    show, subject = output.stdout.print, result.subject
    rounds = len(result.figures[0].rounds)
    threads = f", {result.num_threads} thread{'s' * (result.num_threads > 1)}" * (subject.device_kind == "cpu")
    show(f"{subject.model} · {subject.format} on {subject.device}{threads} · {subject.versions} · "
         f"medians of {rounds} rounds", soft_wrap=True)  # fmt: skip
    show()
    table = _table("", "tokens/s", "spread", "forecast", "of the forecast", "of the measured limit")
    for figure in result.figures:
        table.add_row(figure.name, *_speeds(figure))
    show(table)
    for step in result.ops:
        show()
        show(ops_table(step))
    if comparisons:
        show()
        table = _table("", "before", "now", "ratio", "95 % interval", "noise up to", "")
        for name, one in comparisons.items():
            table.add_row(
                name,
                _speed(one.before),
                _speed(one.after),
                f"{one.ratio:.3f}",
                f"{one.low:.3f} to {one.high:.3f}",
                f"{one.noticed:.1%}",
                {"loss": "LOSS", "gain": "gain", "same": "same"}[one.verdict],
            )
        show(table)


def _speeds(figure: Figure) -> tuple[str, ...]:
    return (
        _speed(figure.median),
        f"{figure.spread:.1%}",
        _speed(figure.forecast),
        f"{figure.speed_to_forecast:.0%}",
        f"{figure.share_of_limit:.0%}",
    )


def _speed(tokens_per_second: float) -> str:
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 1000 else f"{tokens_per_second:.4g}"


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
    return table


def _say_noise(result: BenchResult) -> None:
    noisiest = max(result.figures, key=lambda figure: figure.spread)
    if noisiest.spread > _NOISY_SPREAD:
        output.stderr.print(
            f"caution - rounds of {noisiest.name} spread by {noisiest.spread:.0%} of the median: something else was at "
            "work; measure on an idle machine",
            soft_wrap=True,
        )

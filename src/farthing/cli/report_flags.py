"""Flags of `plan` that write its report: a page, a picture. Loads matplotlib only where one of them is said.

Knows nothing of what a report shows: planner/page and cli/report_plots.py do.
"""

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from cyclopts import Parameter

from farthing import discover
from farthing.cli import output
from farthing.errors import FarthingError, MissingExtraError, UsageError
from farthing.models.config_reader import ConfigReader
from farthing.planner.hardware import Hardware
from farthing.planner.plan import Plan

_ENDINGS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True)
class ReportFlags:
    """Where the report of the plan goes."""

    html: Annotated[Path | None, Parameter(help="Write the plan as one page to FILE.html.")] = None
    plot: Annotated[Path | None, Parameter(help="Draw speed and roofline to FILE.png, .svg or .pdf.")] = None
    lang: Annotated[Literal["en", "zh"] | None, Parameter(help="Language of the page and the plot; by default en.")] = (
        None
    )

    @property
    def wanted(self) -> bool:
        return self.html is not None or self.plot is not None


def check(flags: ReportFlags) -> None:
    """Before the plan is made: UsageError for a file of another kind, and for a language of nothing; MissingExtraError
    without matplotlib."""
    if flags.lang is not None and not flags.wanted:
        raise UsageError("--lang is the language of a page or a plot", fix="add --html FILE.html or --plot FILE.png")
    if flags.html is not None and flags.html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {flags.html} is no .html file", fix=f"name it {flags.html}.html")
    if flags.plot is not None and flags.plot.suffix.lower() not in _ENDINGS:
        raise UsageError(f"--plot {flags.plot} is no picture", fix=f"let it end in {', '.join(_ENDINGS)}")
    if flags.wanted:
        _plots()


def write_reports(
    plan: Plan,
    flags: ReportFlags,
    config: ConfigReader | None = None,
    hardware: Hardware | None = None,
    search: object = None,
    book: object = None,
) -> None:
    """Writes what was asked for, and says so on stderr. UsageError where a plan has nothing to draw.

    `config` of the model and `hardware`, as make_plan had them; `search`: the Search that found the plan, if one did.
    `book`: the PriceBook of the flags of prices.
    """
    if not flags.wanted:
        return
    plots = _plots()
    # The page is loaded by name: a plan without a report does not need it.
    pages = discover.load("farthing.planner.page", "report_page")
    report = pages.report_page(
        plan, date.today().isoformat(), config=config, hardware=hardware, search=search, book=book
    )
    language = discover.load("farthing.planner.page", "words")
    words = language.words_of(flags.lang or "en")
    if flags.html is not None:
        document = discover.load("farthing.planner.page", "document")
        _write(flags.html, document.page_html(report, words, plots.page_plots(report, words)))
    if flags.plot is not None and report.curves:
        if flags.lang == "zh" and not plots.can_write_chinese():
            output.stderr.print("no font for Chinese was found: the plot is in English", soft_wrap=True)
            words = language.words_of("en")
        _draw(plots, report, words, flags.plot)
    elif flags.plot is not None:
        reason = plan.untimed or "the plan does not fit"
        raise UsageError(f"{flags.plot} was not drawn: {reason}", fix="--html writes what is known")


def _plots() -> ModuleType:
    try:
        return discover.load("farthing.cli", "report_plots")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingExtraError(
            "--html and --plot draw with matplotlib, which is not installed", fix="pip install 'farthing[report]'"
        ) from None


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise _cannot(path, error) from None
    output.stderr.print(f"wrote {path}", soft_wrap=True)


def _draw(plots: ModuleType, report: object, words: object, path: Path) -> None:
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        plots.save_plot(report, words, unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise _cannot(path, error) from None
    output.stderr.print(f"drew {path}", soft_wrap=True)


def _cannot(path: Path, error: OSError) -> FarthingError:
    return FarthingError(f"{path} can't be written: {error.strerror}", fix="name a file in a writable folder")

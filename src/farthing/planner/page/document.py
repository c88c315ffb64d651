"""The whole page: one HTML file that needs nothing else, no network and no script. For screens, phones and paper."""

from collections.abc import Mapping
from pathlib import Path

from farthing.models.config_reader import ConfigReader
from farthing.planner.page.advice_section import options_section, remedy_section, would_fit_section
from farthing.planner.page.basis_section import basis_section, foot, lever_section
from farthing.planner.page.cost_section import cost_section
from farthing.planner.page.head import cautions, head
from farthing.planner.page.html import Html, element
from farthing.planner.page.memory_section import memory_section
from farthing.planner.page.report_page import ReportPage, report_page
from farthing.planner.page.speed_section import layouts_section, speed_section, time_section
from farthing.planner.page.words import Words, words_of
from farthing.planner.plan import Plan

_STYLE = Path(__file__).with_name("style.css")
_NOTHING: Mapping[str, str] = {}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page_html(page: ReportPage, words: Words, plots: Mapping[str, str] = _NOTHING) -> str:
    """`plots`: SVG that cli/report_plots.py drew, by name (curve, roofline, pareto); else tables only."""
    sections: list[Html] = [head(page, words), cautions(page, words)]
    if not page.plan.fits:
        sections.append(would_fit_section(page, words))
    sections.append(memory_section(page, words))
    if page.best is not None:
        sections += [speed_section(page, words, plots), time_section(page, words)]
        sections += [remedy_section(page, words), layouts_section(page, words), cost_section(page, words)]
    if page.levers:
        sections.append(lever_section(page, words))
    sections += [options_section(page, words, plots), basis_section(page, words), foot(page, words)]
    title = words.say("page.title", {"model": page.plan.model, "hardware": page.plan.hardware})
    top = [
        element("meta", "", {"charset": "utf-8"}),
        element("meta", "", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("meta", "", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", "", {"name": "color-scheme", "content": "light dark"}),
        element("title", f"{title} · Farthing"),
        element("style", Html(_STYLE.read_text(encoding="utf-8"))),
    ]
    body = element("body", element("main", sections))
    whole = element("html", [element("head", top), body], {"lang": words["language"]})
    return f"<!doctype html>\n{whole}\n"


def report_html(plan: Plan, lang: str, date: str, config: ConfigReader | None = None) -> str:
    """The page of a plan without plots: what a server shows. UsageError for a language that it does not have."""
    return page_html(report_page(plan, date, config=config), words_of(lang))

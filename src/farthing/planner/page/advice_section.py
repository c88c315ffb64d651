"""What would make a plan better, what would fit where it does not, and what a search found beside it."""

from collections.abc import Iterator, Mapping

from farthing.planner.explain import MIN_GAIN, Remedy
from farthing.planner.page import figures
from farthing.planner.page.html import Html, element, listed, table
from farthing.planner.page.report_page import ReportPage
from farthing.planner.page.speed_section import figure
from farthing.planner.page.words import Words

_MAX_REMEDIES = 8
_MAX_OPTIONS = 15


def would_fit_section(page: ReportPage, words: Words) -> Html:
    """Of a plan that does not fit."""
    heading = element("h2", words["remedy.would_fit"])
    if not page.plan.would_fit:
        return element("section", [heading, element("p.lead", words["remedy.none"])])
    return element("section", [heading, listed(words.note(phrase) for phrase in page.plan.would_fit)])


def remedy_section(page: ReportPage, words: Words) -> Html:
    """Of a plan that was explained and can be bettered; else empty."""
    found = page.explanation
    if found is None or not found.remedies:
        return Html()
    starved: Html | str = ""
    if found.starvation is not None:
        one = found.starvation
        said = {"running": f"{one.running:,}", "seats": f"{one.seats:,}", "gain": f"{one.gain:.3g}"}
        starved = element("p.starved", words.say("remedy.starved", said))
    items = [_remedy(remedy, words) for remedy in found.remedies[:_MAX_REMEDIES]]
    return element(
        "section.remedies",
        [element("h2", words["remedy.title"]), element("p.lead", words["remedy.lead"]), starved, listed(items)],
    )


def _remedy(remedy: Remedy, words: Words) -> list[Html]:
    what = [element("b", words[f"remedy.{remedy.kind}"]), " ", words.say("remedy.detail", {"what": remedy.what})]
    flag = element("code", remedy.flag) if remedy.flag else ""
    losses = list(_losses(remedy, words))
    told = [element("span.gain", " · ".join(_gains(remedy, words)))]
    told += [element("span.loss", " · ".join(losses))] if losses else []
    told += [element("span.faint", words.note(remedy.note))] if remedy.note else []
    return [element("div.what", [*what, " ", flag]), element("div.told", told)]


def _gains(remedy: Remedy, words: Words) -> Iterator[str]:
    for key, gain in (
        ("answers", remedy.answer_gain),
        ("tokens_batch" if remedy.kind == "batch" else "tokens", remedy.throughput_gain),
        ("energy", remedy.energy_gain),
    ):
        if gain >= MIN_GAIN:
            yield words.say(f"remedy.{key}", {"gain": f"{gain:.3g}"})


def _losses(remedy: Remedy, words: Words) -> Iterator[str]:
    if remedy.answer_gain <= 1 / MIN_GAIN:
        yield words.say("remedy.slower", {"gain": f"{1 / remedy.answer_gain:.3g}"})
    if remedy.throughput_gain <= 1 / MIN_GAIN:
        yield words.say("remedy.fewer", {"gain": f"{remedy.throughput_gain:.3g}"})
    if remedy.cost_factor is None:
        yield words["remedy.price_unknown"]
    elif remedy.cost_factor > 1:
        yield words.say("remedy.price", {"factor": f"{remedy.cost_factor:g}"})


def options_section(page: ReportPage, words: Words, plots: Mapping[str, str]) -> Html:
    """What a search found; empty without one. The table has the cheapest of each hardware first, then what
    none beats."""
    if not page.options:
        return Html()
    cheapest = {one.name: one for one in sorted(page.options, key=lambda one: -one.dollars_per_month)}
    shown = sorted(
        page.options,
        key=lambda one: (not one.is_chosen, one is not cheapest[one.name], not one.on_front, one.dollars_per_month),
    )
    shown = sorted(shown[:_MAX_OPTIONS], key=lambda one: one.dollars_per_month)
    rows = [
        [
            one.name,
            one.format,
            one.split or words["shape.one"],
            one.engine,
            page.currency.text(one.dollars_per_month),
            figures.seconds(one.ttft_seconds),
            figures.seconds(one.tpot_seconds),
            "✓" if one.on_front else "",
        ]
        for one in shown
    ]
    keys = ("name", "format", "split", "engine", "month", "first", "tpot", "front")
    heads = [words[f"options.{key}"] for key in keys]
    drawn = figure(plots["pareto"], words["plots.pareto"], words["plots.pareto_lead"]) if "pareto" in plots else ""
    marked = [number for number, one in enumerate(shown) if one.is_chosen]
    return element("section", [element("h2", words["options.title"]), drawn, table(heads, rows, marked=marked)])

"""What it costs: a bar of a month for each way to have the box, the figures beside each other, and their basis.

Knows no plan's seconds; amounts are written in the report's currency.
"""

from farthing.planner.money.cost import Cost, break_even_line
from farthing.planner.money.monthly import HOURS
from farthing.planner.page.bars import Segment, stacked
from farthing.planner.page.html import Html, element, listed, table
from farthing.planner.page.report_page import ReportPage
from farthing.planner.page.words import Words

_COLOURS = ("weights", "activations", "compute", "link", "kv", "latency")


def cost_section(page: ReportPage, words: Words) -> Html:
    heading = element("h2", words["cost.title"])
    if not page.costs:
        return element(
            "section",
            [
                heading,
                element("p.lead", words["cost.unknown"]),
                listed(words.note(note) for note in page.costs_unknown),
            ],
        )
    whole = max(cost.dollars_per_month for cost in page.costs)
    bars: list[Html] = []
    for cost in page.costs:
        way, text = words[f"cost.{cost.monthly.way}"], page.currency.text
        parts = cost.monthly.parts_at(cost.busy)
        title = element("p.bar-title", [element("b", way), element("span.faint", text(cost.dollars_per_month))])
        segments = [
            Segment(part.dollars, colour, f"{part.name}: {text(part.dollars)}")
            for part, colour in zip(parts, _cycled(len(parts)), strict=True)
        ]
        keys = [
            element("span.key", [element(f"i.c-{colour}"), f"{_name(part.name, words)} {text(part.dollars)}"])
            for part, colour in zip(parts, _cycled(len(parts)), strict=True)
        ]
        bars += [title, stacked(segments, whole, words.say("cost.label", {"way": way})), element("p.legend", keys)]
    rate = page.currency.note
    return element(
        "section",
        [
            heading,
            element("p.lead", words.say("cost.lead", {"hours": f"{HOURS:g}"})),
            *bars,
            _figures(page, words),
            *_against(page, words),
            element("p.note", words.say("cost.rate", {"note": rate})) if rate else "",
            _basis(page, words),
        ],
    )


def _cycled(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _name(part: str, words: Words) -> str:
    """Parts that have a word; devices have their own names."""
    return words.named("cost", part) if part in ("power", "space", "network", "servers") else words.note(part)


def _figures(page: ReportPage, words: Words) -> Html:
    costs, text = page.costs, page.currency.text
    rows = [
        [words["cost.month"], *(text(cost.dollars_per_month) for cost in costs)],
        [words["cost.hour"], *(text(cost.dollars_per_month / HOURS) for cost in costs)],
        [words["cost.full"], *(text(cost.saturated_dollars_per_million_tokens) for cost in costs)],
    ]
    for language in ("en", "zh"):
        if all(language in cost.characters for cost in costs):
            rows.append([words[f"cost.characters_{language}"], *(text(cost.characters[language]) for cost in costs)])
    rows.append([words["cost.joules"], *(_joules(cost, words) for cost in costs)])
    if any(cost.monthly.capital_dollars for cost in costs):
        paid = [cost.monthly.capital_dollars for cost in costs]
        rows.append([words["cost.capital"], *(text(dollars) if dollars else "–" for dollars in paid)])
    return table(["", *(words[f"cost.{cost.monthly.way}"] for cost in costs)], rows, marked=[2])


def _against(page: ReportPage, words: Words) -> list[Html]:
    """Each way beside the API that --against names; empty without one."""
    lines = [(cost.monthly.way, break_even_line(cost, page.currency)) for cost in page.costs]
    return [element("p.note", f"{words[f'cost.{way}']}: {words.note(line)}") for way, line in lines if line]


def _joules(cost: Cost, words: Words) -> str:
    joules = cost.saturated_joules_per_token
    if joules is None:
        return words["page.unknown"]
    return f"{joules:,.0f} J" if joules >= 10 else f"{joules:.2g} J"


def _basis(page: ReportPage, words: Words) -> Html:
    """Where each part is from; folded on a screen."""
    rows = [
        [f"{words[f'cost.{cost.monthly.way}']}: {_name(part.name, words)}", words.note(part.note)]
        for cost in page.costs
        for part in cost.monthly.parts
    ]
    notes = list(dict.fromkeys(note for cost in page.costs for note in cost.monthly.notes))
    return element(
        "details",
        [
            element("summary", words["cost.parts"]),
            table([words["cost.part"], words["cost.basis"]], rows),
            listed(words.note(note) for note in (*notes, *page.costs_unknown)),
        ],
    )

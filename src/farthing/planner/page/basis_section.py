"""What moves the answer, and what it rests on: levers, lengths, assumptions, data sheets, sources, the command.

Knows no plot.
"""

from farthing.hardware.figure import sources
from farthing.planner.page import figures
from farthing.planner.page.bars import ranged
from farthing.planner.page.html import Html, element, listed, table
from farthing.planner.page.report_levers import Lever, LeverEnd
from farthing.planner.page.report_page import ReportPage
from farthing.planner.page.words import Words


def lever_section(page: ReportPage, words: Words) -> Html:
    """Of a plan that has levers: a bar for each, widest first, and what longer prompts do."""
    in_dollars = page.plan.price.dollars_per_hour is not None

    def answer(end: LeverEnd) -> float:
        return end.dollars_per_million or 0.0 if in_dollars else end.tokens_per_second

    def text(number: float) -> str:
        return page.currency.text(number) if in_dollars else figures.rate(number)

    spans = [(lever, [answer(end) for end in (lever.base, *lever.ends)]) for lever in page.levers]
    spans.sort(key=lambda pair: min(pair[1]) - max(pair[1]))
    whole = max(max(answers) for _, answers in spans) * 1.02 or 1.0
    parts: list[Html] = []
    for lever, answers in spans:
        moves = [f"{_moved(page, lever, end)} → {text(answer(end))}" for end in sorted(lever.ends, key=answer)]
        name = f"{words[f'lever.{lever.name}']}: {_moved(page, lever, lever.base)}"
        parts.append(element("p.bar-title", [element("b", name), element("span.faint", " · ".join(moves))]))
        parts.append(ranged(min(answers), answers[0], max(answers), whole, " · ".join(moves)))
    lead = words["lever.dollars_lead" if in_dollars else "lever.rate_lead"]
    return element(
        "section", [element("h2", words["lever.title"]), element("p.lead", lead), *parts, *_lengths(page, words)]
    )


def _moved(page: ReportPage, lever: Lever, end: LeverEnd) -> str:
    return page.currency.text(end.moved_to) if lever.name == "price" else f"{end.moved_to:,.0f}"


def _lengths(page: ReportPage, words: Words) -> list[Html]:
    rows = []
    for row in page.lengths:
        cells = [words["lever.too_long"], "–", "–", "–"]
        if row.full is not None:
            dollars = row.dollars_per_million
            cells = [
                f"{row.full.batch:,}",
                figures.seconds(row.full.decode.seconds),
                figures.rate(row.full.output_tokens_per_second),
                words["page.unknown"] if dollars is None else page.currency.text(dollars),
            ]
        rows.append([f"{row.prompt_tokens:,}", *cells])
    heads = [words["lever.length"], *(words[f"table.{key}"] for key in ("batch", "tpot", "output", "dollars"))]
    answer = {"answer": f"{page.plan.request.answer_tokens:,}"}
    marked = [number for number, row in enumerate(page.lengths) if row.is_asked]
    return [
        element("h3", words["lever.lengths"]),
        element("p.lead", words.say("lever.lengths_lead", answer)),
        table(heads, rows, marked=marked),
    ]


def basis_section(page: ReportPage, words: Words) -> Html:
    """Assumptions, data sheets of the devices, and who says so."""
    parts: list[Html] = [
        element("h3", words["basis.assumptions"]),
        listed(words.note(note) for note in page.plan.assumptions),
    ]
    named: dict[str, None] = {}
    for facts in page.facts:
        rows = []
        for name, value, unit, known, keys in facts.figures:
            kind, _, what = name.partition(" ")
            label = f"{words.named('fact', kind)} {what}".strip()
            rows.append([label, figures.value(value, unit), words.named("known", known), ", ".join(keys)])
            named.update(dict.fromkeys(keys))
        heads = [words[f"basis.{key}"] for key in ("figure", "value", "known", "sources")]
        parts += [element("h3", words.say("basis.facts", {"name": facts.name})), table(heads, rows)]
    known_sources = sources()
    listed_sources = []
    for key in named:
        source = known_sources.get(key)
        about = (source.what, source.date or "", source.url or words["basis.no_address"]) if source else ("", "", key)
        listed_sources.append([element("b", key), " ", " · ".join(text for text in about if text)])
    if listed_sources:
        heading = element("summary", words["basis.source_list"])
        parts.append(element("details", [heading, listed(listed_sources)]))
    return element("section.basis", [element("h2", words["basis.title"]), *parts])


def foot(page: ReportPage, words: Words) -> Html:
    made = words.say("page.made", {"date": page.date, "version": page.version})
    return element(
        "footer", [element("p", words["page.again"]), element("pre", element("code", page.command)), element("p", made)]
    )

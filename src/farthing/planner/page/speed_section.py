"""How fast: the plots where somebody drew them, the curve as a table, what the time goes to, ways to split.

Knows no matplotlib: a plot comes as SVG, by its name.
"""

from collections.abc import Iterator, Mapping

from farthing.planner.page import figures
from farthing.planner.page.bars import Segment, legend, stacked
from farthing.planner.page.html import Html, element, joined, table
from farthing.planner.page.report_page import Curve, ReportPage, shares
from farthing.planner.page.words import Words
from farthing.planner.speed import Speed

_PARTS = ("weights", "kv_cache", "activations", "compute", "link", "latency")
_MAX_OPS = 8


def figure(svg: str, title: str, lead: str) -> Html:
    """A plot with its title above; `svg` is the program's own."""
    return element("figure", [element("h3", title), Html(svg), element("figcaption", lead)])


def speed_section(page: ReportPage, words: Words, plots: Mapping[str, str]) -> Html:
    """Of a plan that has choices."""
    drawn: list[Html] = []
    if "curve" in plots:
        drawn.append(figure(plots["curve"], words["plots.curve"], words["plots.curve_lead"]))
    if "roofline" in plots and page.roof is not None:
        ceiling = page.roof.ceiling
        title = words.say("plots.roofline", {"device": ceiling.device, "math": ceiling.math})
        drawn.append(figure(plots["roofline"], title, words["plots.roofline_lead"]))
    return element(
        "section",
        [
            element("h2", words["plots.title"]),
            element("div.pair", drawn) if drawn else "",
            _curve_table(page, page.curves[0], words),
            element("p.note", words["table.curve_note"]),
        ],
    )


def _curve_table(page: ReportPage, curve: Curve, words: Words) -> Html:
    heads = [words[f"table.{key}"] for key in ("batch", "first", "tpot", "each", "output", "dollars")]
    rows, marked = [], []
    assert page.best is not None
    asked, full = page.best.speed.batch, page.best.full.batch
    for number, point in enumerate(curve.points):
        speed = point.speed
        named = [words[f"table.{key}"] for key, batch in (("asked", asked), ("full", full)) if batch == point.batch]
        marked += [number] if named else []
        name = joined([f"{point.batch:,}", *(element("span.tag", text) for text in named)])
        rows.append([name, *_speed_cells(speed), _dollars(page, point.dollars_per_million, words)])
    return table(heads, rows, marked=marked)


def _speed_cells(speed: Speed) -> Iterator[str]:
    yield figures.seconds(speed.prefill.seconds)
    yield figures.seconds(speed.decode.seconds)
    yield figures.rate(speed.decode.tokens_per_second / speed.batch)
    yield figures.rate(speed.output_tokens_per_second)


def _dollars(page: ReportPage, dollars: float | None, words: Words) -> str:
    return words["page.unknown"] if dollars is None else page.currency.text(dollars)


def time_section(page: ReportPage, words: Words) -> Html:
    """Of a plan that has choices."""
    best = page.plan.best
    bars: list[Html] = []
    for speed in {one.batch: one for one in (best.speed, best.full)}.values():
        for name, phase in (("prefill", speed.prefill), ("decode", speed.decode)):
            said = {"phase": words[f"plots.{name}"], "batch": f"{speed.batch:,}"}
            parts = shares(phase, best.placement.layout)
            told = [
                f"{words[f'part.{part}']} {figures.percent(share)}"
                for part, share in sorted(parts, key=lambda pair: -pair[1])
                if share >= 0.005
            ]
            title = [element("b", words.say("time.row", said)), element("span.faint", " · ".join(told))]
            bars.append(element("p.bar-title", title))
            segments = [
                Segment(share, part, f"{words[f'part.{part}']}: {figures.percent(share)}") for part, share in parts
            ]
            bars.append(stacked(segments, 1.0, words.say("time.label", said)))
    step = best.speed.decode.step
    longest = sorted(step.ops, key=lambda op: -op.seconds)[:_MAX_OPS]
    rows = [
        [
            f"{op.name} x{op.count}" if op.count > 1 else op.name,
            figures.seconds(op.seconds),
            figures.percent(op.seconds / step.seconds),
            words.named("bound", op.bound),
        ]
        for op in longest
    ]
    heads = [words[f"time.{key}"] for key in ("op", "seconds", "share", "bound")]
    return element(
        "section",
        [
            element("h2", words["time.title"]),
            element("p.lead", words["time.lead"]),
            *bars,
            legend([(part, words[f"part.{part}"]) for part in _PARTS]),
            element("h3", words.say("time.ops", {"batch": f"{best.speed.batch:,}"})),
            table(heads, rows),
        ],
    )


def layouts_section(page: ReportPage, words: Words) -> Html:
    """Empty where there is one way only."""
    choices = page.plan.choices
    if len(choices) < 2:
        return Html()
    heads = [words[f"table.{key}"] for key in ("split", "kv", "first", "tpot", "batch", "output", "dollars")]
    rows = []
    for choice in choices:
        full = choice.full
        dollars = page.plan.price.per_million_tokens(full.output_tokens_per_second)
        rows.append(
            [
                figures.split(choice.placement.layout) or words["shape.one"],
                f"{choice.placement.kv_tokens:,}",
                figures.seconds(choice.speed.prefill.seconds),
                figures.seconds(choice.speed.decode.seconds),
                f"{full.batch:,}",
                figures.rate(full.output_tokens_per_second),
                _dollars(page, dollars, words),
            ]
        )
    return element(
        "section",
        [
            element("h2", words["layouts.title"]),
            element("p.lead", words["layouts.lead"]),
            table(heads, rows, marked=[0]),
        ],
    )

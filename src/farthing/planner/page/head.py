"""The top of the page: what is planned, whether it fits, the few figures that decide, and what to know before.

Knows nothing of the rest of the page.
"""

from collections.abc import Iterator

from farthing.planner.page import figures
from farthing.planner.page.html import Html, element, listed
from farthing.planner.page.report_page import ReportPage
from farthing.planner.page.words import Words
from farthing.units import format_bytes, format_count


def head(page: ReportPage, words: Words) -> Html:
    plan = page.plan
    state = "lacks" if not plan.fits else "untimed" if plan.untimed else "fits"
    pills = [element(f"span.pill.{state}", words[f"page.{state}"])]
    if plan.plan_only:
        pills.append(element("span.pill", words["page.plan_only"]))
    title = words.say("page.title", {"model": plan.model, "hardware": plan.hardware})
    return element(
        "header",
        [
            element("p.kicker", [element("b", "Farthing"), " · ", words["page.kicker"], " · ", page.date]),
            element("h1", title),
            element("p.shape", [*pills, element("span", " · ".join(_shape(page, words)))]),
            element("dl.tiles", list(_tiles(page, words))),
        ],
    )


def _shape(page: ReportPage, words: Words) -> Iterator[str]:
    """How it is set up, in a line."""
    plan, layout = page.plan, page.plan.placement.layout
    yield words.say("shape.weights", {"format": plan.spec.precision.format.name})
    yield words.say("shape.kv", {"format": plan.spec.precision.kv_dtype})
    yield figures.split(layout) or words["shape.one"]
    yield words.say("shape.context", {"tokens": f"{plan.placement.context:,}"})
    lengths = {"prompt": f"{plan.request.prompt_tokens:,}", "answer": f"{plan.request.answer_tokens:,}"}
    yield words.say("shape.lengths", lengths)


def _tiles(page: ReportPage, words: Words) -> Iterator[Html]:
    plan = page.plan
    if page.best is not None:
        yield from _speed_tiles(page, words)
    elif not plan.fits:
        worst = max(page.memory, key=lambda group: group.missing_bytes)
        said = {"device": worst.device, "context": f"{plan.placement.context:,}"}
        missing = format_bytes(worst.missing_bytes)
        yield _tile(words["tile.missing"], missing, "", words.say("tile.missing_note", said))
    if plan.fits:
        room = {"sequences": f"{plan.placement.num_sequences:,}", "context": f"{plan.placement.context:,}"}
        tokens = f"{plan.placement.kv_tokens:,}"
        yield _tile(words["tile.kv"], tokens, words["tile.kv_unit"], words.say("tile.kv_note", room))
    if page.best is None:
        spec = plan.spec
        said = {"parameters": format_count(spec.num_parameters), "format": spec.precision.format.name}
        yield _tile(words["tile.weights"], format_bytes(spec.weight_bytes), "", words.say("tile.weights_note", said))
        usable = sum(group.usable_bytes * group.count for group in page.memory)
        count = {"count": f"{len(plan.placement.ranks):,}"}
        yield _tile(words["tile.memory"], format_bytes(usable), "", words.say("tile.memory_note", count))


def _speed_tiles(page: ReportPage, words: Words) -> Iterator[Html]:
    plan = page.plan
    asked, most = plan.best.speed, plan.most_tokens
    decode, batch = asked.decode, f"{asked.batch:,}"
    yield _tile(
        words["tile.decode"],
        figures.rate(decode.tokens_per_second),
        words["tile.decode_unit"],
        words.say("tile.decode_note", {"seconds": figures.seconds(decode.seconds), "batch": batch}),
        _interval(page, words, "tpot", decode.seconds),
    )
    tokens = f"{plan.request.prompt_tokens:,}"
    yield _tile(
        words["tile.prefill"],
        figures.seconds(asked.prefill.seconds),
        "",
        words.say("tile.prefill_note", {"tokens": tokens, "batch": batch}),
        _interval(page, words, "ttft", asked.prefill.seconds),
    )
    rate = most.full.output_tokens_per_second
    other = "" if most is plan.best else figures.split(most.placement.layout) or words["shape.one"]
    as_split = words.say("tile.as_split", {"split": other}) if other else ""
    yield _tile(
        words["tile.full"],
        figures.rate(rate),
        words["tile.decode_unit"],
        words.say("tile.full_note", {"batch": f"{most.full.batch:,}", "split": as_split}),
    )
    dollars = plan.price.per_million_tokens(rate)
    if dollars is None or plan.price.dollars_per_hour is None:
        yield _month_tile(page, words)
        return
    price = page.currency.text(plan.price.dollars_per_hour)
    note = words.say("tile.cost_note", {"price": price})
    yield _tile(words["tile.cost"], page.currency.text(dollars), words["tile.cost_unit"], note)


def _month_tile(page: ReportPage, words: Words) -> Html:
    """What nobody rents may be owned."""
    if not page.costs:
        return _tile(words["tile.cost"], words["page.unknown"], "", "")
    cost, text = page.costs[0], page.currency.text
    said = {"way": words[f"cost.{cost.monthly.way}"], "price": text(cost.dollars_per_month)}
    dollars = text(cost.saturated_dollars_per_million_tokens)
    return _tile(words["tile.cost"], dollars, words["tile.cost_unit"], words.say("tile.cost_month", said))


def _interval(page: ReportPage, words: Words, metric: str, seconds: float) -> str:
    if metric not in page.intervals:
        return ""
    low, high = page.intervals[metric]
    spread = figures.spread(seconds * low, seconds * high)
    return words.say("tile.interval", {"spread": spread})


def _tile(name: str, figure: str, unit: str, note: str, interval: str = "") -> Html:
    shown = [element("b", figure), " ", element("span.unit", unit) if unit else ""]
    told = [element("dd.note", text) for text in (note, interval) if text]
    return element("div.tile", [element("dt", name), element("dd", shown), *told])


def cautions(page: ReportPage, words: Words) -> Html:
    """Empty where there is nothing to be careful of."""
    plan = page.plan
    notes = [words.say("caution.plan_only", {"reason": words.note(reason)}) for reason in plan.plan_only]
    notes += [words.note(caution) for caution in plan.cautions]
    if plan.untimed:
        notes.append(words.say("caution.untimed", {"reason": words.note(plan.untimed)}))
    if plan.tried:
        notes.append(words.say("caution.tried", {"formats": ", ".join(plan.tried)}))
    if not notes:
        return Html()
    return element("section.caution", [element("h2", words["caution.title"]), listed(notes)])

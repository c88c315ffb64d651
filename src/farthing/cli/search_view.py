"""How a search looks in a terminal: the winners, what else does it, why not less, where it flips, what it rests on.

Loaded, with rich's tables, only when a person reads. Knows no flags.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from farthing.cli import output
from farthing.planner.money.currency import Currency
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Descriptions
from farthing.planner.search.search import Option, Range, Search
from farthing.planner.search.search_answer import Answer, option_key
from farthing.planner.search.search_report import (
    assumptions,
    flip_lines,
    front_keys,
    nearest_object,
    rows,
    sure_text,
)
from farthing.planner.search.why_not import WhyNot

_WIDE = 100
_ROWS = 8
_WHY = 8
_TITLES = {"rent": "to rent", "buy": "to own"}


def print_search(answer: Answer, offers: Offers, descriptions: Descriptions) -> None:
    """To stdout."""
    found, show = answer.search, output.stdout.print
    currency = offers.book.currency
    ways = tuple(way for way in WAYS if offers.book.way in ("auto", way))
    show(f"{found.model} · {found.demand.line}")
    show(f"promised: {found.slo.line}")
    show(
        f"{found.num_considered:,} configurations looked at, {len(found.options):,} keep the promise"
        f" · prices of {offers.book.market.name}",
        style="dim",
    )
    show()
    if not answer.found:
        _print_nothing(answer, descriptions)
    else:
        for way in ways:
            _print_best(answer, way, currency)
        for way in ways:
            if ranked := rows(found, way, _ROWS):
                title = f"{_TITLES[way]}: the cheapest of each part; * unbeaten in cost, speed and score"
                show(title, style="bold")
                show(_options_table(answer, ranked, way, currency))
                show()
    _print_why_not(answer, ways, currency)
    if answer.flips:
        show("where it flips (closed forms, not simulated)", style="bold")
        show(_indented(flip_lines(answer.flips, currency.text)))
        show()
    show("assumed:", style="dim")
    for note in dict.fromkeys(assumptions(answer, offers)):
        show(f"  {note}", style="dim", soft_wrap=True)


def _indented(lines: Iterable[str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 0), pad_edge=False)
    table.add_column(no_wrap=True, width=2)
    table.add_column()
    for line in lines:
        table.add_row("", line)
    return table


def _print_best(answer: Answer, way: str, currency: Currency) -> None:
    found, show = answer.search, output.stdout.print
    best = found.best(way)
    title = {"rent": "cheapest to rent", "buy": "cheapest to own"}[way]
    if best is None:
        show(f"{title}: nothing that keeps the promise has a price", style="bold")
        show()
        return
    dollars, users = best.dollars(way), found.demand.users
    each = f", {currency.text(dollars / users)} a user" if users and users > 1 else ""
    show(f"{title}: {best.name(way)} for {currency.text(dollars)} a month{each}", style="bold")
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, width=7, justify="right")
    table.add_column()
    for name, text in _about(answer, best, way, currency):
        table.add_row(name, text)
    show(table)
    show()


def _about(answer: Answer, best: Option, way: str, currency: Currency) -> Iterator[tuple[str, str]]:
    """Rows: what it is, what runs it, why it wins, how sure that is, what it costs in answers and at once."""
    found, configuration = answer.search, best.configuration
    precision, split = configuration.precision, configuration.split
    replicas = f"{best.replicas} replicas" + (f", {split} each" if split != "whole" else "")
    spare = best.count(way) - best.num_devices
    idle = f" · {spare} of {best.count(way)} stay idle: boards are sold in boxes of eight" if spare else ""
    yield (
        "how",
        f"weights {precision.format.name}, KV {_kv(precision.kv_dtype)} · {replicas if best.replicas > 1 else split} · "
        f"up to {best.max_num_seqs} requests at a time{' in each' if best.replicas > 1 else ''}{idle}",
    )
    engines = ", ".join(configuration.runs_with)
    forecast = f" (forecast as {configuration.engine})"
    yield "runs on", engines + forecast if engines else f"plan only: no engine is known to run it{forecast}"
    yield "why", _why_it_wins(answer, best, way)
    yield (
        "sure",
        f"first token {_seconds(best.steady.ttft)} ({_range(best.ttft_range)}), a token {_seconds(best.steady.tpot)} "
        f"({_range(best.tpot_range)}): {_sure(answer, best)}",
    )
    safe = next((option for option in found.ranked(way) if option.is_safe(found.slo)), None)
    if safe is not None and safe is not best:
        what = f"{safe.name(way)} ({safe.configuration.precision.format.name}, {_split(safe)})"
        yield "safer", f"{what} keeps it at the slow end, too: {currency.text(safe.dollars(way))} a month"
    if best.quality.text != "full":
        yield "score", f"{_score_text(best)}{_full_text(found, way, currency)}"
    monthly = best.monthly[way]
    assert isinstance(monthly, Monthly)
    if monthly.capital_dollars:
        parts = " + ".join(f"{part.name} {currency.text(part.dollars)}" for part in monthly.parts)
        yield "pay", f"{currency.text(monthly.capital_dollars)} at once; a month {parts}"


def _score_text(option: Option) -> str:
    quality, name = option.quality, option.configuration.precision.format.name
    if quality.worst is None:
        return f"unknown with {name} weights and {_kv(option.configuration.precision.kv_dtype)} KV"
    return f"{quality.text} against 16 bits"


def _why_it_wins(answer: Answer, best: Option, way: str) -> str:
    others = [one for one in rows(answer.search, way, _ROWS) if one.configuration.accelerator.id != _id(best)]
    used = best.steady.kv_tokens / best.kv_tokens
    text = f"{best.steady.running:.1f} requests run at a time, the KV room is {used:.0%} used"
    text += "" if best.replicas == 1 else " (each replica)"
    if others:
        more = others[0].dollars(way) / best.dollars(way) - 1
        text += f"; the next part, {others[0].name(way)}, costs {more:+.0%}"
    return text


def _sure(answer: Answer, best: Option) -> str:
    slo, confirmed = answer.search.slo, answer.confirmed(best)
    text = "kept even at the slow end" if best.is_safe(slo) else "kept, but not at the slow end"
    if confirmed is None:
        return text
    outcome = "the simulator agrees" if confirmed.is_met(slo) else "the simulator does NOT agree"
    return f"{text}; {outcome}: {_seconds(confirmed.ttft)}, {_seconds(confirmed.tpot)}"


def _full_text(found: Search, way: str, currency: Currency) -> str:
    full = next((option for option in found.ranked(way) if option.quality.text == "full"), None)
    return "" if full is None else f"; in 16 bits: {full.name(way)} for {currency.text(full.dollars(way))} a month"


def _options_table(answer: Answer, ranked: Sequence[Option], way: str, currency: Currency) -> Table:
    found, wide = answer.search, output.stdout.width >= _WIDE
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("", "", "a month", "first", "token", "format"):
        table.add_column(heading, justify="right" if heading in ("a month", "first", "token") else "left", no_wrap=True)
    for heading in (*(("split",) if wide else ()), "score", "sure"):
        table.add_column(heading, no_wrap=True)
    table.add_column("runs with", no_wrap=True)
    unbeaten = front_keys(found, way)
    for option in ranked:
        configuration, precision = option.configuration, option.configuration.precision
        confirmed = answer.confirmed(option)
        agreed = "" if confirmed is None else " ✓" if confirmed.is_met(found.slo) else " ✗"
        cells = [
            "*" if option_key(option) in unbeaten else "",
            option.name(way),
            currency.text(option.dollars(way)),
            _seconds(option.steady.ttft),
            _seconds(option.steady.tpot),
            precision.format.name + (" kv8" if precision.kv_dtype in ("fp8_e4m3", "int8") else ""),
            *((_split(option),) if wide else ()),
            _score(option),
            sure_text(option, found) + agreed,
        ]
        cells.append(_runs_with(configuration.runs_with))
        table.add_row(*cells, style=None if cells[0] else "dim")
    return table


def _print_why_not(answer: Answer, ways: Sequence[str], currency: Currency) -> None:
    show = output.stdout.print
    for way in ways:
        best = answer.search.best(way)
        reasons: list[WhyNot] = [one for one in answer.why_not[way] if one.dollars is not None]
        if not reasons:
            continue
        than = f"than {best.name(way)}" if best is not None else "what there is"
        show(f"why nothing cheaper {_TITLES[way]} {than}" if best else f"why nothing {_TITLES[way]}", style="bold")
        table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        for name in ("name", "dollars"):
            table.add_column(name, no_wrap=True, justify="left" if name == "name" else "right")
        table.add_column("kind", no_wrap=True, style="bold")
        table.add_column("text")
        for one in reasons[:_WHY]:
            table.add_row(f"  {one.name}", currency.text(one.dollars or 0.0), one.kind, one.text)
        show(table)
        left = len(reasons) - _WHY
        unknown = [one.id for one in answer.why_not[way] if one.dollars is None and one.kind == "price"]
        if left > 0:
            show(f"  and {left} more (--json has them all)", style="dim")
        if unknown:
            show(f"  without a price {_TITLES[way]}, though they would do it: {', '.join(unknown)}", style="dim")
        show()


def _print_nothing(answer: Answer, descriptions: Descriptions) -> None:
    show, found = output.stdout.print, answer.search
    near = nearest_object(answer, descriptions)
    if found.options:
        show("nothing that keeps the promise has a price within the limits", style="bold")
    elif near is None:
        show("nothing meets this: the model fits on no hardware that was looked at", style="bold")
    else:
        show("nothing meets this", style="bold")
        carries = near["carries"]
        amount = f"carries {carries:g} of {found.demand.amount:g}" if carries else "carries none of it"
        show(
            f"  the nearest is {near['devices']}x {near['accelerator']} a replica, which {amount}; what binds is "
            f"{near['kind']}: {near['text']}"
        )
        if carries:
            needed = math.ceil(found.demand.amount / carries) * near["devices"]
            show(f"  {needed:,} of it would carry all, --max-devices allows {found.wishes.max_devices:,}")
    show()


def _runs_with(engines: Sequence[str]) -> str:
    if not engines:
        return "plan only"
    return engines[0] + (f" +{len(engines) - 1}" if len(engines) > 1 else "")


def _split(option: Option) -> str:
    configuration = option.configuration
    short = "x".join(
        [f"tp{configuration.tp}"] * (configuration.tp > 1) + [f"pp{configuration.pp}"] * (configuration.pp > 1)
    )
    if option.replicas > 1:
        return f"{option.replicas}x({short})" if short else f"{option.replicas} replicas"
    return short or "whole"


def _score(option: Option) -> str:
    worst = option.quality.worst
    return "?" if worst is None else "full" if worst == 0 else f"{worst:+.1%}"


def _kv(dtype: str) -> str:
    return "fp8" if dtype.startswith("fp8") else dtype


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value * 1e3:.0f} ms" if value < 0.2 else f"{value:.1f} s"


def _range(limits: Range) -> str:
    return f"{_seconds(limits.low)} to {_seconds(limits.high)}"


def _id(option: Option) -> str:
    return option.configuration.accelerator.id

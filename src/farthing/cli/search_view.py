"""How a search looks in a terminal: the winners, what else does it, why not less, where it flips, what it rests on.

Loaded, with rich's tables, only when a person reads. Knows no flags.
"""

import math
from collections.abc import Sequence

from rich.table import Table

from farthing.cli import output
from farthing.planner.candidates import Descriptions
from farthing.planner.currency import Currency
from farthing.planner.monthly import Monthly
from farthing.planner.offers import WAYS, Offers
from farthing.planner.search import Option, Range, Search
from farthing.planner.search_answer import Answer, option_key
from farthing.planner.search_report import (
    assumptions,
    flip_text,
    front_keys,
    nearest_object,
    rows,
    sure_text,
)
from farthing.planner.why_not import WhyNot

_WIDE = 100
_ROWS = 8
_WHY = 8
_TITLES = {"rent": "to rent", "buy": "to own"}


def print_search(answer: Answer, offers: Offers, descriptions: Descriptions) -> None:
    """To stdout."""
    found, show = answer.search, output.stdout.print
    currency = offers.book.currency
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
        for way in WAYS:
            _print_best(answer, way, currency)
        for way in WAYS:
            if ranked := rows(found, way, _ROWS):
                show(_options_table(answer, ranked, way, currency))
                show()
    _print_why_not(answer, currency)
    if answer.flips:
        show("where it flips")
        for flip in answer.flips:
            money = {"money": currency.text(flip.dollars) if flip.dollars is not None else ""}
            show(f"  {flip_text(flip, money)}")
        show()
    show("assumed:", style="dim")
    for note in dict.fromkeys(assumptions(answer, offers)):
        show(f"  {note}", style="dim", soft_wrap=True)


def _print_best(answer: Answer, way: str, currency: Currency) -> None:
    found, show = answer.search, output.stdout.print
    best = found.best(way)
    title = {"rent": "cheapest to rent", "buy": "cheapest to own"}[way]
    if best is None:
        show(f"{title}: nothing that keeps the promise has a price", style="bold")
        show()
        return
    monthly = best.monthly[way]
    assert isinstance(monthly, Monthly)
    dollars, users = best.dollars(way), found.demand.users
    each = f", {currency.text(dollars / users)} a user" if users and users > 1 else ""
    once = f", {currency.text(monthly.capital_dollars)} to pay at once" if monthly.capital_dollars else ""
    show(f"{title}: {best.name} for {currency.text(dollars)} a month{each}{once}", style="bold")
    configuration = best.configuration
    replicas = f"{best.replicas} replicas of {configuration.split}" if best.replicas > 1 else configuration.split
    engines = ", ".join(configuration.runs_with) or "plan only: no engine runs it"
    show(
        f"  how   {configuration.precision.format.name} weights, {configuration.precision.kv_dtype} KV · {replicas}"
        f" · at most {best.max_num_seqs} requests at a time in each"
    )
    show(f"  with  {engines}; forecast as {configuration.engine}")
    show(f"  why   {_why_it_wins(answer, best, way, currency)}")
    show(
        f"  sure  first token {_seconds(best.steady.ttft)} ({_range(best.ttft_range)}), a token "
        f"{_seconds(best.steady.tpot)} ({_range(best.tpot_range)}): {_sure(answer, best)}"
    )
    safe = next((option for option in found.ranked(way) if option.is_safe(found.slo)), None)
    if safe is not None and safe is not best:
        show(f"  safer {safe.name} keeps the promise at the slow end, too: {currency.text(safe.dollars(way))} a month")
    if best.quality.text != "full":
        show(f"  score {best.quality.text} of the 16-bit model's{_full_text(found, best, way, currency)}")
    show()


def _why_it_wins(answer: Answer, best: Option, way: str, currency: Currency) -> str:
    others = [one for one in rows(answer.search, way, _ROWS) if one.configuration.accelerator.id != _id(best)]
    used = best.steady.kv_tokens / best.kv_tokens
    text = f"{best.steady.running:.1f} requests run at a time in each, KV {used:.0%} full"
    if others:
        more = others[0].dollars(way) / best.dollars(way) - 1
        text += f"; the next part, {others[0].name}, costs {more:+.0%}"
    return text


def _sure(answer: Answer, best: Option) -> str:
    slo, confirmed = answer.search.slo, answer.confirmed(best)
    text = "within the promise even at the slow end" if best.is_safe(slo) else "within it, but not at the slow end"
    if confirmed is None:
        return text
    outcome = "confirmed" if confirmed.is_met(slo) else "NOT confirmed"
    return f"{text}; {outcome} by simulation: {_seconds(confirmed.ttft)}, {_seconds(confirmed.tpot)}"


def _full_text(found: Search, best: Option, way: str, currency: Currency) -> str:
    full = next((option for option in found.ranked(way) if option.quality.text == "full"), None)
    return "" if full is None else f"; nothing lost: {full.name} for {currency.text(full.dollars(way))} a month"


def _options_table(answer: Answer, ranked: Sequence[Option], way: str, currency: Currency) -> Table:
    found, wide = answer.search, output.stdout.width >= _WIDE
    table = Table(title=f"{_TITLES[way]} ({'*' }: nothing beats it)", title_justify="left", box=None, padding=(0, 1))
    table.pad_edge = False
    table.add_column("", no_wrap=True)
    for heading, justify in (("what", "left"), ("a month", "right"), ("1st token", "right"), ("a token", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("weights/KV", no_wrap=True)
    table.add_column("split", no_wrap=True)
    table.add_column("score", no_wrap=True)
    table.add_column("", no_wrap=True)
    if wide:
        table.add_column("runs with")
    best_front = front_keys(found, way)
    for option in ranked:
        configuration = option.configuration
        confirmed = answer.confirmed(option)
        sure = sure_text(option, found) + ("" if confirmed is None else " ✓" if confirmed.is_met(found.slo) else " ✗")
        cells = [
            "*" if option_key(option) in best_front else "",
            option.name,
            currency.text(option.dollars(way)),
            _seconds(option.steady.ttft),
            _seconds(option.steady.tpot),
            f"{configuration.precision.format.name}/{_kv(configuration.precision.kv_dtype)}",
            _split(option),
            _score(option),
            sure,
        ]
        if wide:
            cells.append(", ".join(configuration.runs_with) or "plan only")
        table.add_row(*cells, style=None if cells[0] else "dim")
    return table


def _print_why_not(answer: Answer, currency: Currency) -> None:
    show = output.stdout.print
    for way in WAYS:
        best = answer.search.best(way)
        reasons: list[WhyNot] = [one for one in answer.why_not[way] if one.dollars is not None]
        if not reasons:
            continue
        than = f"than {best.name}" if best is not None else "what there is"
        show(f"why not cheaper {_TITLES[way]} {than}" if best else f"why not {_TITLES[way]}")
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
    show()


def _split(option: Option) -> str:
    configuration = option.configuration
    short = "x".join([f"tp{configuration.tp}"] * (configuration.tp > 1) + [f"pp{configuration.pp}"] * (configuration.pp > 1))
    if option.replicas > 1:
        return f"{option.replicas}x({short})" if short else f"{option.replicas} replicas"
    return short or "whole"


def _score(option: Option) -> str:
    worst = option.quality.worst
    return "unknown" if worst is None else "full" if worst == 0 else f"{worst:+.1%}"


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

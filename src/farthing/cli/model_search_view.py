"""How the models for a piece of hardware look in a terminal: those that keep the promise, and what the others die of.

Loaded, with rich's tables, only when a person reads. Knows no flags.
"""

from collections.abc import Sequence

from rich.table import Table

from farthing.cli import output
from farthing.planner.money.offers import Offers
from farthing.planner.search.candidates import Target
from farthing.planner.search.model_search import Fitting

_FEW = 6
_WIDE = 100


def print_models(found: Sequence[Fitting], target: Target, offers: Offers) -> None:
    """The largest first, to stdout."""
    show, currency = output.stdout.print, offers.book.currency
    fitting = [one for one in found if one.option is not None]
    demand = next((one.demand for one in found if one.demand is not None), None)
    show(
        f"models for {target.count or 1}x {target.accelerator.id}"
        + (f" · {demand.amount_text}, {demand.name}" if demand else "")
    )
    if fitting and fitting[0].option is not None:
        first = fitting[0].option
        prices = [
            f"{currency.text(first.dollars(way))} a month {name}"
            for way, name in (("rent", "rented"), ("buy", "owned"))
            if first.dollars(way) < 1e300
        ]
        show("costs " + ", ".join(prices) if prices else "its price is not known", style="dim")
    show()
    if not fitting:
        show("no published model keeps the promise there", style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    wide = output.stdout.width >= _WIDE
    headings = ("keeps the promise", "size", "format", "split", "first", "token", "score")
    for heading in headings + (("KV used", "runs with") if wide else ()):
        right = heading in ("size", "first", "token", "KV used")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for one in fitting:
        option = one.option
        assert option is not None
        configuration, worst = option.configuration, option.quality.worst
        engines = configuration.runs_with
        cells = [
            one.model.name,
            f"{one.model.parameters / 1e9:.3g}B",
            configuration.precision.format.name + (" kv8" if configuration.precision.kv_dtype == "fp8_e4m3" else ""),
            (f"{option.replicas} x " if option.replicas > 1 else "") + configuration.split,
            f"{option.steady.ttft:.2g} s",
            f"{option.steady.tpot * 1e3:.0f} ms",
            "?" if worst is None else "full" if worst == 0 else f"{worst:+.1%}",
        ]
        if wide:
            cells.append(f"{option.steady.kv_tokens / option.kv_tokens:.0%}")
            more = f" +{len(engines) - 1}" if len(engines) > 1 else ""
            cells.append(engines[0] + more if engines else "plan only")
        table.add_row(*cells)
    if fitting:
        show(table)
        show()
    others = [one for one in found if one.option is None]
    if others:
        show("why not larger ones" if fitting else "why not", style="bold")
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for one in others[-_FEW:]:
            table.add_row(f"  {one.model.name}", one.kind, one.why)
        show(table)
        if len(others) > _FEW:
            show(f"  and {len(others) - _FEW} larger ones (--json has them all)", style="dim")

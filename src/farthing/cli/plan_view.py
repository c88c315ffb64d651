"""How a plan looks in a terminal: memory map, speed, what takes the time, what it rests on.

Loaded, with rich's tables, only when a person reads. Knows no flags.
"""

from collections.abc import Iterable, Sequence

from rich.table import Table

from farthing.cli import output
from farthing.models.config_reader import ConfigReader
from farthing.planner import explain_report
from farthing.planner.explain import explain
from farthing.planner.hardware import Hardware
from farthing.planner.money.cost import break_even_line, cost_rows
from farthing.planner.money.price_book import PriceBook
from farthing.planner.plan import Plan
from farthing.planner.plan_cost import costs_of_plan, law_lines
from farthing.planner.report import headline, layout_rows, memory_columns, op_rows, speed_columns
from farthing.units import format_bytes

_BAR_WIDTH = 20
_WIDTH_FOR_BARS = 80


def print_plan(plan: Plan, config: ConfigReader, hardware: Hardware, book: PriceBook) -> None:
    """The line, the tables, what would help, what it costs and the assumptions to stdout; where a market was said, what
    law and licences say there, too."""
    show = output.stdout.print
    money = book.currency.text
    show(headline(plan, money), soft_wrap=True)
    for reason in plan.plan_only:
        show(f"plan only - {reason}", soft_wrap=True)
    for caution in plan.cautions:
        show(f"caution - {caution}", soft_wrap=True)
    if plan.tried:
        show(f"format auto: too large in {', '.join(plan.tried)}", soft_wrap=True)
    show()
    show(_by_columns("memory of each device", memory_columns(plan)))
    placement = plan.placement
    show(
        f"KV cache {format_bytes(plan.spec.kv_bytes_per_token)} a token ({plan.spec.precision.kv_dtype}); room for "
        f"{placement.kv_tokens:,} tokens = {placement.num_sequences:,} x {placement.context:,}",
        soft_wrap=True,
    )
    if plan.choices:
        show()
        title = f"prompts of {plan.request.prompt_tokens:,} tokens, answers of {plan.request.answer_tokens:,}"
        show(_by_columns(title, speed_columns(plan, money)))
        show()
        show(_op_table(plan))
    if len(plan.choices) > 1:
        show()
        show(_layout_table(plan))
    if plan.choices:
        show("\nwhy, and what each remedy would gain:")
        for line in explain_report.to_lines(explain(plan, config, hardware)):
            show(f"  {line}", soft_wrap=True)
    _print_costs(plan, hardware, book)
    for line in law_lines(plan, book.market.code) if book.said.market else ():
        show(f"  {line}", style="dim", soft_wrap=True)
    if plan.would_fit:
        show("\nwhat would fit:")
        for phrase in plan.would_fit:
            show(f"  {phrase}", soft_wrap=True)
    show("\nassumed (sources: farthing hardware NAME):", style="dim")
    for note in plan.assumptions:
        show(f"  {note}", style="dim", soft_wrap=True)


def _print_costs(plan: Plan, hardware: Hardware, book: PriceBook) -> None:
    """Owned and rented, as far as there are prices."""
    show, costs = output.stdout.print, costs_of_plan(plan, hardware, book)
    if costs:
        table = _table(f"costs in {book.market.name}")
        heading, *rows = cost_rows(costs, book.currency)
        for index, name in enumerate(heading):
            table.add_column(name, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        show()
        show(table)
    for cost in costs:
        line = break_even_line(cost, book.currency)
        if line is not None:
            show(f"  {line}", soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 2), pad_edge=False)


def _by_columns(title: str, columns: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> Table:
    """Figures downwards, one column per case: fits a narrow terminal."""
    table, listed = _table(title), list(columns)
    table.add_column("")
    for heading, _ in listed:
        table.add_column(heading, justify="right")
    for row, (name, _) in enumerate(listed[0][1]):
        table.add_row(name, *(figures[row][1] for _, figures in listed))
    return table


def _op_table(plan: Plan) -> Table:
    table = _table("where a decode step's time goes")
    for heading in ("op", "time", "share", "bound", ""):
        is_figure = heading in ("time", "share")
        table.add_column(heading, justify="right" if is_figure else "left", no_wrap=True, min_width=8 * is_figure)
    for name, time, share, bound in op_rows(plan.best.speed.decode.step):
        bar = "█" * round(_BAR_WIDTH * share) if output.stdout.width >= _WIDTH_FOR_BARS else ""
        table.add_row(name, time, f"{share:.0%}", bound, bar)
    return table


def _layout_table(plan: Plan) -> Table:
    table = _table("ways to split it, the fastest answer first; right: with memory full")
    table.padding = (0, 1)
    for heading in ("tp", "pp", "rep.", "KV tokens", "prefill", "per token", "decode", "batch", "output"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in layout_rows(plan):
        table.add_row(*row)
    return table

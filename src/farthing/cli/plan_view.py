"""How a plan looks in a terminal: memory map, speed, what takes the time, what it rests on. Loaded with rich's tables
only when a person reads. Knows no flags."""

from rich.table import Table

from farthing.cli import output
from farthing.planner.plan import Plan
from farthing.planner.report import headline, layout_rows, memory_rows, op_rows, speed_rows
from farthing.units import format_bytes

_BAR_WIDTH = 20


def print_plan(plan: Plan) -> None:
    """The line, the tables and the assumptions to stdout."""
    show = output.stdout.print
    show(headline(plan), soft_wrap=True)
    for reason in plan.plan_only:
        show(f"plan only - {reason}", soft_wrap=True)
    if plan.tried:
        show(f"format auto: {', '.join(plan.tried)} does not fit", soft_wrap=True)
    show()
    show(_memory_table(plan))
    placement = plan.placement
    show(
        f"KV cache {format_bytes(plan.spec.kv_bytes_per_token)} a token ({plan.spec.precision.kv_dtype}); room for "
        f"{placement.kv_tokens:,} tokens = {placement.num_sequences:,} sequences of {placement.context:,}",
        soft_wrap=True,
    )
    if plan.fits:
        show()
        show(_speed_table(plan))
        show()
        show(_op_table(plan))
    if len(plan.choices) > 1:
        show()
        show(_layout_table(plan))
    if plan.would_fit:
        show("\nwhat would fit:")
        for phrase in plan.would_fit:
            show(f"  {phrase}", soft_wrap=True)
    show("\nassumed:", style="dim")
    for note in plan.assumptions:
        show(f"  {note}", style="dim", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("device", "op", "bound", "limited by") else "right")
    return table


def _memory_table(plan: Plan) -> Table:
    last = "left" if plan.fits else "missing"
    table = _table(
        "memory of each device", "#", "device", "layers", "weights", "KV room", "activations", "reserve", "usable", last
    )
    for row in memory_rows(plan):
        table.add_row(*row)
    return table


def _speed_table(plan: Plan) -> Table:
    request = plan.request
    table = _table(
        f"prompts of {request.input_tokens} tokens, answers of {request.output_tokens}",
        *("batch", "prefill", "rate", "limited by", "time per token", "decode", "limited by", "per Mtok out"),
    )
    for row in speed_rows(plan):
        table.add_row(*row)
    return table


def _op_table(plan: Plan) -> Table:
    table = _table("where a decode step's time goes", "op", "time", "share", "bound", "")
    for name, time, share, bound in op_rows(plan.best.speed.decode.step):
        table.add_row(name, time, f"{share:.0%}", bound, "█" * round(_BAR_WIDTH * share))
    return table


def _layout_table(plan: Plan) -> Table:
    table = _table(
        "ways to split it, the fastest answer first",
        *("tp", "pp", "replicas", "KV tokens", "prefill", "time per token", "decode", "full batch", "output when full"),
    )
    for row in layout_rows(plan):
        table.add_row(*row)
    return table

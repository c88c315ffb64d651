"""`farthing plan diff A.toml B.toml`: two plan files side by side.

Knows plan files and a terminal; planner/plan_diff.py compares. Loads no torch.
"""

from typing import Annotated

from cyclopts import Parameter

from farthing.cli import output
from farthing.cli.planned_model import config_of
from farthing.errors import UsageError
from farthing.planner.hardware import find_hardware
from farthing.planner.money.price_book import PriceBook, price_book
from farthing.planner.plan import make_plan
from farthing.planner.plan_diff import PlanDiff, Side, rows, side_of, to_json_object
from farthing.planner.plan_file import is_plan_file, load_plan_file


def diff(
    before: Annotated[str, Parameter(name="A.toml", help="A plan file.")],
    after: Annotated[str, Parameter(name="B.toml", help="Another.")],
    /,
    *,
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False,
) -> int:
    """Two plan files side by side."""
    return plan_diff(before, after, json)


def plan_diff(a: str, b: str, json: bool) -> int:
    """Print what differs; the exit code, 0."""
    book = price_book()
    diff = PlanDiff(_side(a, book), _side(b, book))
    if json:
        output.print_json(to_json_object(diff))
        return 0
    table = [("", a, b, "b / a"), *rows(diff)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for name, *cells in table:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        output.stdout.print("  ".join([name.ljust(widths[0]), *padded]).rstrip(), soft_wrap=True)
    return 0


def _side(name: str, book: PriceBook) -> Side:
    """A plan file, planned anew with today's figures."""
    if not is_plan_file(name):
        raise UsageError(f"{name!r:.80} is no plan file", fix="write one: farthing plan MODEL --on HW --save FILE.toml")
    kept = load_plan_file(name)
    model, config = config_of(kept.model)
    hardware = find_hardware(kept.request)
    return side_of(make_plan(model, config, hardware, kept.request), hardware, book)

"""`farthing bill`: what serving cost in a month, by key, model or day, beside what an API would have asked.

Knows flags, CSV and JSON; cli/bill_view.py knows how it looks. Needs no extra: the file is read where it lies.
"""

import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from farthing.cli import output
from farthing.cli.bill_view import bill_lines, month_name
from farthing.engine.accounts.api_price import Comparison, compare
from farthing.engine.accounts.bill_file import bill_path
from farthing.engine.accounts.statement import Amount, Bill, By, Line, billed_months, read_bill
from farthing.errors import UsageError
from farthing.planner.money.api_price import ApiPrice, parse_api_price

SCHEMA = "farthing.bill/1"
_MAX_PRICE = 1e6
_COLUMNS = (
    "requests", "prompt_tokens", "cached_tokens", "output_tokens", "seconds", "unpriced_seconds", "dollars",
    "up_seconds", "up_dollars",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BillFlags:
    """What `farthing bill` is told."""

    month: Annotated[str | None, Parameter(help="2026-11; the current one (UTC) if not given.")] = None
    by: Annotated[By, Parameter(help="A line for each API key, model or day.")] = "key"
    against: Annotated[
        str | None,
        Parameter(help="An API's dollars per million input and output tokens: api:2.5/10.", name="--against"),
    ] = None
    price_per_hour: Annotated[float | None, Parameter(help="Dollars, for the hours that had no price.")] = None
    file: Annotated[Path | None, Parameter(help="Another bill than that of this user.")] = None
    csv: Annotated[bool, Parameter(help="Print comma-separated values.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


_DEFAULTS = BillFlags()


def bill(*, flags: Annotated[BillFlags, Parameter(name="*")] = _DEFAULTS) -> None:
    """Print what serving cost in a month."""
    if flags.csv and flags.json:
        raise UsageError("--csv and --json are two answers", fix="give one of them")
    price = flags.price_per_hour
    if price is not None and not 0 <= price <= _MAX_PRICE:
        raise UsageError(f"--price-per-hour is {price}", fix=f"a price lies between 0 and {_MAX_PRICE:,.0f} dollars")
    api = None if flags.against is None else parse_api_price(flags.against)
    path = flags.file or bill_path()
    if flags.file is not None and not flags.file.exists():
        raise UsageError(f"there is no file {flags.file}", fix="name the bill.sqlite of a server")
    month = flags.month or time.strftime("%Y-%m", time.gmtime())
    found = read_bill(path, month=month, by=flags.by)
    if price is not None:
        found = found.priced(price)
    if flags.json:
        output.print_json(to_json_object(found, None if api is None else compare(found, api)))
    elif flags.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_csv_rows(found, api))
    elif not found.total.seconds and not found.lines:
        output.stderr.print(_nothing(month, path), soft_wrap=True)
    else:
        width = output.stdout.width if output.stdout.is_terminal else None
        for line in bill_lines(found, None if api is None else compare(found, api), width):
            output.stdout.print(line, soft_wrap=True)


def to_json_object(bill: Bill, comparison: Comparison | None) -> dict[str, Any]:
    """requests + idle = total. `dollars` are those of the seconds that have a price, null where none has one."""
    api = None if comparison is None else comparison.price
    tokens = bill.requests.output_tokens
    is_priced = bool(tokens) and not bill.total.unpriced_seconds
    return {
        "schema": SCHEMA,
        "month": bill.month,
        "by": bill.by,
        "lines": [{"label": line.label, **_figures(line, api)} for line in bill.lines],
        "requests": _figures(bill.requests, api),
        "idle": _amount(bill.idle),
        "total": _amount(bill.total),
        "dollars_per_hour": bill.dollars_per_hour,
        "dollars_per_million_output_tokens": bill.total.dollars / tokens * 1e6 if is_priced else None,
        "against": None if comparison is None else {**asdict(comparison.price), **_without_price(comparison)},
    }


def _nothing(month: str, path: Path) -> str:
    """What to do where nothing is on the bill."""
    if months := billed_months(path):
        others = ", ".join(months[-6:])
        return f"nothing was served in {month_name(month)}; there are bills of {others}: --month {months[-1]}"
    return f"there is no bill yet: farthing serve writes it to {path} as it runs; another one: --file FILE"


def _figures(line: Line, api: ApiPrice | None) -> dict[str, Any]:
    return {
        "requests": line.requests,
        "prompt_tokens": line.prompt_tokens,
        "cached_tokens": line.cached_tokens,
        "output_tokens": line.output_tokens,
        **_amount(line.amount),
        "up": None if line.up is None else _amount(line.up),
        "api_dollars": None if api is None else api.of(line),
    }


def _amount(amount: Amount) -> dict[str, Any]:
    return {
        "seconds": amount.seconds,
        "unpriced_seconds": amount.unpriced_seconds,
        "dollars": amount.known_dollars,
    }


def _without_price(comparison: Comparison) -> dict[str, Any]:
    return {name: value for name, value in asdict(comparison).items() if name != "price"}


def _csv_rows(bill: Bill, api: ApiPrice | None) -> Iterator[list[Any]]:
    """`kind` is "requests" for a line, then come "idle" and "total"; what is not known stays empty."""
    yield ["month", "kind", bill.by, *_COLUMNS, *(["api_dollars"] if api else [])]
    for line in bill.lines:
        up = (None, None) if line.up is None else (line.up.seconds, line.up.known_dollars)
        row = [
            line.requests, line.prompt_tokens, line.cached_tokens, line.output_tokens,
            line.amount.seconds, line.amount.unpriced_seconds, line.amount.known_dollars, *up,
        ]  # fmt: skip
        yield [bill.month, "requests", line.label, *row, *([api.of(line)] if api else [])]
    counts = bill.requests
    for kind, amount, tokens in (
        ("idle", bill.idle, [None] * 4),
        ("total", bill.total, [counts.requests, counts.prompt_tokens, counts.cached_tokens, counts.output_tokens]),
    ):
        figures = [amount.seconds, amount.unpriced_seconds, amount.known_dollars, None, None]
        yield [bill.month, kind, "", *tokens, *figures, *([api.of(counts) if kind == "total" else None] if api else [])]

"""Accelerators as a list in a terminal: a line each, in as many columns as fit.

Knows no flag. What is not known says "unknown"; an estimate is no price.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farthing.cli import output
from farthing.hardware.accelerator import Accelerator, Price
from farthing.hardware.figure import Figure
from farthing.units import format_bytes, format_count

UNKNOWN = "unknown"
_GAP = "  "
_SYMBOLS = {"USD": "$", "CNY": "¥"}


@dataclass(frozen=True, slots=True)
class _Column:
    """`rank`: where the terminal is too narrow for all, the highest goes first."""

    title: str
    rank: int
    texts: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.texts))) + len(_GAP)


def print_list(accelerators: Sequence[Accelerator]) -> None:
    """A line each to stdout; a pipe gets every column. What the columns mean goes to stderr."""
    columns = [
        _column("id", 0, (one.id for one in accelerators)),
        _column(
            "memory",
            1,
            (UNKNOWN if one.memory_bytes is None else format_bytes(one.memory_bytes) for one in accelerators),
        ),
        _column("bandwidth", 2, (_rate(one.bandwidth, "B/s") for one in accelerators)),
        _column("bf16", 3, (_flops(one, "bf16", "fp16") for one in accelerators)),
        _column("fp8", 8, (_flops(one, "fp8") for one in accelerators)),
        _column(
            "power", 7, (UNKNOWN if one.tdp_watts is None else f"{one.tdp_watts.value:g} W" for one in accelerators)
        ),
        _column("link", 9, (_link(one) for one in accelerators)),
        _column("to own", 6, (_newest(one.prices) for one in accelerators)),
        _column("per hour", 5, (_range(one.rentals) for one in accelerators)),
        _column("", 4, (marks(one) for one in accelerators)),
    ]
    room = output.stdout.width if output.stdout.is_terminal else None
    while room is not None and len(columns) > 1 and sum(column.width for column in columns) > room + len(_GAP):
        columns.remove(max(columns, key=lambda column: column.rank))
    for row in zip(*((column.title, *column.texts) for column in columns), strict=True):
        line = "".join(cell.ljust(column.width) for cell, column in zip(row, columns, strict=True))
        output.stdout.print(line.rstrip(), soft_wrap=True)
    output.stderr.print(
        "dense rates; * fp16, where bf16 is unknown; to own: the newest price; per hour: all offers; "
        "one in full, with its sources: farthing hardware NAME",
        soft_wrap=True,
    )


def marks(accelerator: Accelerator) -> str:
    """What to know before buying: that Farthing only plans for it, that it is not sold as others are."""
    plan_only = ("plan only",) if accelerator.plan_only else ()
    not_simply_sold = (accelerator.sale.replace("-", " "),) if accelerator.sale != "sold" else ()
    return ", ".join(plan_only + not_simply_sold)


def money(price: Price) -> str:
    """$1,999, $0.60, $0.106: the decimals that it has, and never one alone."""
    digits = f"{price.value:,.10g}"
    padding = "0" if len(digits.partition(".")[2]) == 1 else ""
    return f"{_SYMBOLS.get(price.currency, f'{price.currency} ')}{digits}{padding}"


def _column(title: str, rank: int, texts: Iterable[str]) -> _Column:
    return _Column(title, rank, tuple(texts))


def _rate(figure: Figure[float] | None, unit: str) -> str:
    return UNKNOWN if figure is None else format_count(figure.value, unit)


def _flops(accelerator: Accelerator, dtype: str, instead: str = "") -> str:
    """The rate in `dtype`; with a star in `instead`, where only that is known."""
    if dtype in accelerator.flops:
        return _rate(accelerator.flops[dtype], "FLOP/s")
    if instead in accelerator.flops:
        return _rate(accelerator.flops[instead], "FLOP/s") + "*"
    return "-" if dtype in accelerator.unsupported_dtypes else UNKNOWN


def _link(accelerator: Accelerator) -> str:
    """The fast link between devices where there is one, else the one to the host."""
    link = accelerator.scale_up if accelerator.scale_up.kind != "none" else accelerator.host
    return (
        link.kind
        if link.bytes_per_second is None
        else f"{link.kind} {format_count(link.bytes_per_second.value, 'B/s')}"
    )


def _newest(prices: Sequence[Price]) -> str:
    offers = [price for price in prices if price.market != "estimate"]
    if not offers:
        return UNKNOWN
    newest = max(offers, key=lambda price: price.date)
    return f"{money(newest)} ({newest.date[:7]})"


def _range(rentals: Sequence[Price]) -> str:
    offers = sorted((price for price in rentals if price.market != "estimate"), key=lambda price: price.value)
    if not offers:
        return UNKNOWN
    return money(offers[0]) if len(offers) == 1 else f"{money(offers[0])} - {money(offers[-1])}"

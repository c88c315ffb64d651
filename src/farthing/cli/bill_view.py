"""How a bill looks in a terminal: a line each, idle time, the total, and an API's price beside it.

Knows no flag and no file.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farthing.cli.amounts import dollars, dollars_column, duration, percent
from farthing.engine.accounts.api_price import Comparison
from farthing.engine.accounts.statement import Amount, Bill, Line
from farthing.units import format_count

_GAP = "  "
_MAX_LABEL = 28
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    """`rank`: where the terminal is too narrow for all, the highest goes first."""

    title: str
    rank: int
    texts: Sequence[str]

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.texts)))


def bill_lines(bill: Bill, comparison: Comparison | None, width: int | None) -> Iterator[str]:
    """The bill in lines of `width` characters at most; None: every column in full, for a pipe."""
    price = bill.dollars_per_hour
    at = "" if price is None else f" at {dollars(price)} an hour"
    yield f"{month_name(bill.month)} (UTC): up {duration(bill.total.seconds)}{at}"
    yield ""
    yield from _table(_columns(bill, comparison, None if width is None else _MAX_LABEL), width)
    yield ""
    for line in (*_sums(bill), *(() if comparison is None else _beside(comparison))):
        yield from [line] if width is None else textwrap.wrap(line, width)


def month_name(month: str) -> str:
    """ "2026-11" -> "November 2026"."""
    return f"{_MONTHS[int(month[5:]) - 1]} {month[:4]}"


def _columns(bill: Bill, comparison: Comparison | None, max_label: int | None) -> list[_Column]:
    """A row per line, one for the idle time where it has no column of its own, and one for the total."""
    by_key = bill.by == "key"
    lines, below = bill.lines, [""] if by_key else []
    labels = [_shortened(line.label or "(no key)", max_label) for line in lines]
    total = bill.total.seconds
    rows: list[Line] = [*lines, bill.requests]
    columns = [_Column(bill.by, 0, [*labels, *(["(idle)"] if by_key else []), "total"])]

    def add(title: str, rank: int, texts: list[str]) -> None:
        """`texts` are those of the lines and of the total; the idle row has none."""
        columns.append(_Column(title, rank, [*texts[:-1], *below, texts[-1]]))

    add("requests", 5, [f"{line.requests:,}" for line in rows])
    add("input", 6, [format_count(line.prompt_tokens) for line in rows])
    add("cached", 9, [percent(_ratio(line.cached_tokens, line.prompt_tokens)) for line in rows])
    add("output", 4, [format_count(line.output_tokens) for line in rows])
    if by_key:
        spent = [*(line.amount for line in lines), bill.idle, bill.total]
        columns.append(_Column("time", 7, [duration(amount.seconds) for amount in spent]))
        columns.append(_Column("share", 3, [percent(_ratio(amount.seconds, total)) for amount in spent]))
        columns.append(_Column("dollars", 1, dollars_column(amount.known_dollars for amount in spent)))
    else:
        ups = [line.up or Amount() for line in rows]
        add("up", 7, [duration(up.seconds) for up in ups])
        add("busy", 3, [percent(_ratio(line.amount.seconds, up.seconds)) for line, up in zip(rows, ups, strict=True)])
        idle = [up - line.amount for line, up in zip(rows, ups, strict=True)]
        three = dollars_column(
            amount.known_dollars for part in ([line.amount for line in rows], idle, ups) for amount in part
        )
        for place, (title, rank) in enumerate((("requests $", 8), ("idle $", 2), ("total $", 1))):
            columns.append(_Column(title, rank, three[place * len(rows) : (place + 1) * len(rows)]))
    if comparison is not None:
        add("API", 2, dollars_column(comparison.price.of(line) for line in rows))
    return columns


def _table(columns: list[_Column], width: int | None) -> Iterator[str]:
    def total_width() -> int:
        return sum(column.width + len(_GAP) for column in columns) - len(_GAP)

    while width is not None and len(columns) > 1 and total_width() > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    for row in zip(*((column.title, *column.texts) for column in columns), strict=True):
        first, *rest = (column.width for column in columns)
        cells = [row[0].ljust(first), *(cell.rjust(size) for cell, size in zip(row[1:], rest, strict=True))]
        yield _GAP.join(cells).rstrip()


def _sums(bill: Bill) -> Iterator[str]:
    """What the figures come to, and what is missing in them."""
    price, tokens, unpriced = bill.dollars_per_hour, bill.requests.output_tokens, bill.total.unpriced_seconds
    if price is not None:
        hours = bill.total.priced_seconds / 3600
        yield f"total: {hours:,.{2 if hours >= 0.1 else 5}f} h x {dollars(price)} = {dollars(bill.total.dollars)}"
        if tokens and not unpriced:
            without = dollars(bill.requests.amount.dollars / tokens * 1e6)
            yield (
                f"per million output tokens: {dollars(bill.total.dollars / tokens * 1e6)}, "
                f"and {without} without the idle time"
            )
    if unpriced and price is None:
        yield "no price was known: --price-per-hour X gives one"
    elif unpriced:
        yield f"{duration(unpriced)} had no price and are not in the dollars: --price-per-hour X prices them"


def _beside(comparison: Comparison) -> Iterator[str]:
    price, ratio = comparison.price, comparison.load_ratio
    yield (
        f"an API at {dollars(price.input_dollars)} in and {dollars(price.output_dollars)} out per million tokens: "
        f"{dollars(comparison.dollars)} for the same tokens"
    )
    if ratio is None:
        return
    assert comparison.break_even_busy_ratio is not None and comparison.break_even_output_tokens_per_second is not None
    yield (
        f"break-even at {_times(ratio)} this load: {comparison.break_even_output_tokens_per_second:.3g} "
        f"output tokens/s, now {comparison.output_tokens_per_second:.3g}"
    )
    now, then = percent(comparison.busy_ratio), percent(comparison.break_even_busy_ratio)
    if ratio <= 1:
        yield "the box is the cheaper one already"
    elif comparison.break_even_busy_ratio <= 1:
        yield f"the box would then be busy {then} of the time; now {now}"
    else:
        yield f"out of reach as it computes now: busy {then} of the time instead of {now}"
        yield "(larger batches compute faster: farthing bench serve measures how much)"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _shortened(label: str, longest: int | None) -> str:
    return label if longest is None or len(label) <= longest else f"{label[: longest - 1]}…"

"""The bill of a month, read from its file: what requests took, by key, model or day; what was idle; the total.

requests + idle = total, and total = the hours that the box was up times its price: idle is what is left of the hours
and their dollars. Knows the file by bill_file.py, and nothing of how it is written or shown.
"""

import math
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from farthing.engine.accounts.bill_file import explained, open_for_reading
from farthing.errors import UsageError

By: TypeAlias = Literal["key", "model", "day"]
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Amount:
    """Seconds of the box, and the dollars of those for which a price was known."""

    priced_seconds: float = 0.0
    unpriced_seconds: float = 0.0
    dollars: float = 0.0

    @property
    def seconds(self) -> float:
        return self.priced_seconds + self.unpriced_seconds

    @property
    def known_dollars(self) -> float | None:
        """None where nothing of it has a price."""
        return None if self.unpriced_seconds and not self.priced_seconds else self.dollars

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(
            self.priced_seconds - other.priced_seconds,
            self.unpriced_seconds - other.unpriced_seconds,
            self.dollars - other.dollars,
        )

    def priced(self, dollars_per_hour: float) -> "Amount":
        """With this price for what had none; what had one keeps it."""
        return Amount(self.seconds, 0.0, self.dollars + self.unpriced_seconds * dollars_per_hour / 3600)


@dataclass(frozen=True, slots=True)
class Line:
    """What the requests of one key, model or day took. `label` is "" for requests without a key.

    `amount`: their shares of the steps. `up`: how long the box was up for this model or on this day, and its price;
    None for a key, which has no hours of its own.
    """

    label: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: Amount
    up: Amount | None


@dataclass(frozen=True, slots=True)
class Bill:
    """`requests` is the sum of `lines`, `total` the hours that the box was up; `idle` is `total` without `requests`."""

    month: str
    by: By
    lines: tuple[Line, ...]
    requests: Line
    total: Amount

    @property
    def idle(self) -> Amount:
        return self.total - self.requests.amount

    @property
    def dollars_per_hour(self) -> float | None:
        """Of the priced hours, on average; None where there are none."""
        return self.total.dollars / self.total.priced_seconds * 3600 if self.total.priced_seconds else None

    def priced(self, dollars_per_hour: float) -> "Bill":
        """With this price for the seconds that had none."""

        def line(one: Line) -> Line:
            return Line(
                one.label, one.requests, one.prompt_tokens, one.cached_tokens, one.output_tokens,
                one.amount.priced(dollars_per_hour), one.up and one.up.priced(dollars_per_hour),
            )  # fmt: skip

        total = self.total.priced(dollars_per_hour)
        return Bill(self.month, self.by, tuple(map(line, self.lines)), line(self.requests), total)


@dataclass(frozen=True, slots=True)
class ChargesRow:
    """A row of the table of this name: sums of a day, key and model."""

    day: str
    key: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    priced_seconds: float
    unpriced_seconds: float
    dollars: float


@dataclass(frozen=True, slots=True)
class ClockRow:
    """A row of the table of this name: sums of a day and model."""

    day: str
    model: str
    priced_seconds: float
    unpriced_seconds: float
    dollars: float


def read_bill(path: Path, *, month: str, by: By = "key") -> Bill:
    """The bill of `month` ("2026-11", UTC); an empty one where there is none yet.

    UsageError if that is no month, FarthingError if the file can't be read or is damaged.
    """
    if not _MONTH.fullmatch(month):
        raise UsageError(f"{month!r:.40} is no month", fix="write year and month: --month 2026-11")
    charges: tuple[ChargesRow, ...] = ()
    clock: tuple[ClockRow, ...] = ()
    if connection := open_for_reading(path):
        try:
            charges = tuple(ChargesRow(*row) for row in _of_month(connection, ChargesRow, "charges", month))
            clock = tuple(ClockRow(*row) for row in _of_month(connection, ClockRow, "clock", month))
        except sqlite3.Error as error:
            raise explained(path, "read", error) from error
        finally:
            connection.close()
    return make_bill(month, by, charges, clock)


def billed_months(path: Path) -> tuple[str, ...]:
    """The months that have a bill, oldest first. FarthingError as `read_bill`."""
    connection = open_for_reading(path)
    if connection is None:
        return ()
    try:
        both = "SELECT substr(day, 1, 7) FROM clock UNION SELECT substr(day, 1, 7) FROM charges ORDER BY 1"
        return tuple(month for (month,) in connection.execute(both))
    except sqlite3.Error as error:
        raise explained(path, "read", error) from error
    finally:
        connection.close()


def make_bill(month: str, by: By, charges: Sequence[ChargesRow], clock: Sequence[ClockRow]) -> Bill:
    """The rows of a month added up, a line for each key, model or day, in the order of their names."""
    label_of: Callable[[ChargesRow], str] = {"key": _key, "model": _model, "day": _day}[by]
    labels = {label_of(row) for row in charges}
    if by != "key":
        labels |= {_clock_label(row, by) for row in clock}
    lines = []
    for label in sorted(labels):
        up = None if by == "key" else _sum(row for row in clock if _clock_label(row, by) == label)
        lines.append(_line(label, [row for row in charges if label_of(row) == label], up))
    total = _sum(clock)
    return Bill(month, by, tuple(lines), _line("", charges, total), total)


def _key(row: ChargesRow) -> str:
    return row.key


def _model(row: ChargesRow) -> str:
    return row.model


def _day(row: ChargesRow) -> str:
    return row.day


def _clock_label(row: ClockRow, by: By) -> str:
    return row.model if by == "model" else row.day


def _line(label: str, rows: Sequence[ChargesRow], up: Amount | None) -> Line:
    return Line(
        label,
        sum(row.requests for row in rows),
        sum(row.prompt_tokens for row in rows),
        sum(row.cached_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        _sum(rows),
        up,
    )


def _sum(rows: Iterable[ChargesRow] | Iterable[ClockRow]) -> Amount:
    """Exact to the last bit of the sum, in whatever order."""
    amounts = [(row.priced_seconds, row.unpriced_seconds, row.dollars) for row in rows]
    return Amount(*(math.fsum(column) for column in zip(*amounts, strict=True))) if amounts else Amount()


def _of_month(
    connection: sqlite3.Connection, row: type[ChargesRow] | type[ClockRow], table: str, month: str
) -> sqlite3.Cursor:
    columns = ", ".join(row.__slots__)
    return connection.execute(f"SELECT {columns} FROM {table} WHERE day LIKE ? ORDER BY 1, 2", (f"{month}-%",))

"""How a batch looks in a terminal: what is expected, how far it is, what it came to. Lines for people; no decisions.

Where standard error is no terminal, the progress is a line every few seconds.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, TextColumn

from farthing.cli import output
from farthing.client.batch_forecast import Forecast, Survey
from farthing.client.batch_tally import Tally
from farthing.units import format_count

_LINE_SECONDS = 5.0
_BAR_WIDTH = 12
_DAY_SECONDS = 86400.0


def forecast_line(found: Survey, expected: Forecast) -> str:
    """One line: rows, tokens, time, dollars, and what that rests on."""
    num_done = found.num_rows - found.num_refused - found.num_to_ask
    rows = f"{found.num_to_ask:,} of {found.num_rows:,} rows" if num_done else f"{found.num_rows:,} rows"
    if found.num_refused:
        rows += f" ({found.num_refused:,} can't be asked)"
    time_and_cost = ["no forecast of the time"]
    if expected.seconds is not None:
        time_and_cost = [f"about {duration(expected.seconds)}", f"ends {moment(time.time() + expected.seconds)}"]
    if expected.dollars is not None:
        time_and_cost.append(money(expected.dollars))
    return (
        f"{rows}: {format_count(expected.prompt_tokens)} prompt tokens, at most "
        f"{format_count(expected.output_tokens)} answer tokens, {', '.join(time_and_cost)} "
        f"(assumed: {'; '.join(expected.notes)})"
    )


def end_line(tally: Tally, seconds: float, num_output_tokens: int, dollars: float | None) -> str:
    """`seconds` and `num_output_tokens` of this run; the rest of the whole batch."""
    cached = f" ({format_count(tally.cached_tokens)} cached)" if tally.cached_tokens else ""
    parts = [
        f"{tally.num_done:,} rows, {tally.num_failed:,} failed",
        f"{format_count(tally.prompt_tokens)} prompt tokens{cached}",
        f"{format_count(tally.output_tokens)} answer tokens",
        f"{duration(seconds)}, {num_output_tokens / max(seconds, 1e-9):,.0f} tok/s",
        *_told(tally, dollars),
    ]
    return " · ".join(parts)


class BatchView:
    """The progress while it is open; `update` as often as one likes. Rates are those of this run."""

    def __init__(self, tally: Tally, price_per_hour: float | None) -> None:
        self._tally, self._price_per_hour = tally, price_per_hour
        self._started = self._told = time.monotonic()
        self._done_before, self._tokens_before = tally.num_done, tally.output_tokens
        columns = (TextColumn("{task.fields[rows]}"), BarColumn(_BAR_WIDTH), TextColumn("{task.fields[rest]}"))
        self._bar = Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal)
        self._task = self._bar.add_task("rows", total=tally.num_rows, rows="", rest="")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def num_output_tokens(self) -> int:
        return self._tally.output_tokens - self._tokens_before

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def update(self) -> None:
        rows, *rest = self._parts()
        if output.stderr.is_terminal:
            self._bar.update(self._task, completed=self._tally.num_done, rows=rows, rest=" · ".join(rest))
        elif time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            say(" · ".join([rows, *rest]))

    def _parts(self) -> list[str]:
        tally, seconds = self._tally, max(self.seconds, 1e-9)
        parts = [f"{tally.num_done:,} of {tally.num_rows:,} rows, {tally.num_failed:,} failed"]
        parts.append(f"{self.num_output_tokens / seconds:,.0f} tok/s")
        if num_done := tally.num_done - self._done_before:
            parts.append(f"ends {moment(time.time() + tally.num_left * seconds / num_done)}")
        dollars = tally.dollars(self._price_per_hour)
        return parts if dollars is None else [*parts, money(dollars)]


def _told(tally: Tally, dollars: float | None) -> Iterable[str]:
    if dollars is not None:
        yield money(dollars)
    if tally.share_of_limit is not None:
        yield f"{tally.share_of_limit:.0%} of the measured limit"


def result_object(tally: Tally, seconds: float, num_output_tokens: int, dollars: float | None) -> dict[str, Any]:
    """`seconds` and the rate are of this run, the rest of the whole batch. What no answer told is None."""
    return {
        "rows": tally.num_rows,
        "rows_done": tally.num_done,
        "rows_failed": tally.num_failed,
        "rows_left": tally.num_left,
        "prompt_tokens": tally.prompt_tokens,
        "cached_tokens": tally.cached_tokens,
        "output_tokens": tally.output_tokens,
        "seconds": seconds,
        "output_tokens_per_second": num_output_tokens / max(seconds, 1e-9),
        "engine_seconds": tally.engine_seconds or None,
        "dollars": dollars,
        "share_of_limit": tally.share_of_limit,
    }


def forecast_object(found: Survey, expected: Forecast) -> dict[str, Any]:
    return {
        "rows": found.num_rows,
        "rows_refused": found.num_refused,
        "rows_to_ask": found.num_to_ask,
        "prompt_tokens": expected.prompt_tokens,
        "max_output_tokens": expected.output_tokens,
        "seconds": expected.seconds,
        "dollars": expected.dollars,
        "assumed": list(expected.notes),
    }


def say(line: str) -> None:
    output.stderr.print(line, soft_wrap=True)


def duration(seconds: float) -> str:
    """75 s; 12 min; 3 h 05 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"


def moment(when: float) -> str:
    """A time of day; with its date where that is not within a day."""
    try:
        form = "%H:%M" if abs(when - time.time()) < _DAY_SECONDS else "%Y-%m-%d %H:%M"
        return datetime.fromtimestamp(when).strftime(form)
    except (OverflowError, ValueError, OSError):
        return "the end of time"


def money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.4f}" if dollars >= 0.01 else f"${dollars:.6f}"

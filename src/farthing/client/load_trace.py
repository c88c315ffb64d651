"""Recorded load: a file with a request a line, as JSONL or CSV: arrival in seconds, input tokens, output tokens.

A CSV has these three columns in this order, or a first line that names them. Untrusted: garbage is a UsageError that
names the line. Knows no sockets.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing.errors import UsageError

_MOST_LINES = 1_000_000
_MOST_TOKENS = 10_000_000
_LONGEST_LINE = 10_000
# Our names first, then those of published traces.
_NAMES = {
    "arrival": ("arrival", "arrival_time", "arrival_seconds", "timestamp", "time"),
    "input_tokens": ("input_tokens", "prompt_tokens", "num_prefill_tokens", "input_length", "contexttokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "num_decode_tokens", "output_length", "generatedtokens"),
}
_FORM = 'a line is {"arrival": 0.5, "input_tokens": 128, "output_tokens": 64}, or 0.5,128,64'


@dataclass(frozen=True, slots=True)
class TraceLine:
    """`arrival` in seconds."""

    arrival: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[TraceLine]:
    """Sorted by arrival. UsageError, with the line's number, for whatever is no trace."""
    try:
        with path.open(encoding="utf-8") as file:
            found = list(_lines(path, file))
    except OSError as error:
        raise UsageError(f"the trace {path} can't be read: {error.strerror}", fix="name a JSONL or CSV file") from None
    except UnicodeDecodeError:
        raise UsageError(f"the trace {path} is no UTF-8 text", fix="name a JSONL or CSV file") from None
    if not found:
        raise UsageError(f"the trace {path} has no request", fix=_FORM)
    return sorted(found, key=lambda line: line.arrival)


def _lines(path: Path, file: Iterable[str]) -> Iterator[TraceLine]:
    columns: Sequence[str] = tuple(_NAMES)
    num_found = 0
    for number, text in enumerate(file, start=1):
        try:
            if len(text) > _LONGEST_LINE:
                raise ValueError(f"it has more than {_LONGEST_LINE} characters")
            if not (text := text.strip().removeprefix("\ufeff")):
                continue
            if text.startswith("{"):
                yield _line(_object(text))
            else:
                cells = [cell.strip() for cell in next(csv.reader([text]))]
                if num_found == 0 and not _is_number(cells[0]):
                    columns = cells
                    continue
                if len(cells) < len(columns):
                    raise ValueError(f"it has {len(cells)} cells, not {len(columns)}")
                yield _line(dict(zip(columns, cells, strict=False)))
            num_found += 1
            if num_found > _MOST_LINES:
                raise ValueError(f"there are more than {_MOST_LINES:,} requests")
        except (ValueError, RecursionError, csv.Error) as error:
            raise UsageError(f"line {number} of {path}: {error}", fix=_FORM) from None


def _object(text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(text)
    except ValueError:
        raise ValueError("it is no JSON object") from None
    return found


def _line(cells: Mapping[str, Any]) -> TraceLine:
    lower = {name.strip().lower(): value for name, value in cells.items()}
    arrival = _number("arrival", lower)
    tokens = [_number(name, lower) for name in ("input_tokens", "output_tokens")]
    if arrival < 0:
        raise ValueError(f"the arrival {arrival:g} is before the beginning")
    for name, count in zip(("input_tokens", "output_tokens"), tokens, strict=True):
        if not (1 <= count <= _MOST_TOKENS and count == int(count)):
            raise ValueError(f"{name} is {count:g}, not a whole number from 1 to {_MOST_TOKENS:,}")
    return TraceLine(arrival, int(tokens[0]), int(tokens[1]))


def _number(name: str, cells: Mapping[str, Any]) -> float:
    said = next((cells[known] for known in _NAMES[name] if known in cells), None)
    if said is None:
        raise ValueError(f"it has no {name}")
    if isinstance(said, bool) or not isinstance(said, int | float | str) or not _is_number(str(said)):
        raise ValueError(f"{name} is {str(said)!r:.40}, not a number")
    return float(said)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

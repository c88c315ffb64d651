"""Lengths of requests as somebody wrote them down: JSONL or CSV, a line for each request.

The columns may be called as in the usual traces. Read as untrusted text. Knows no load.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from farthing.errors import UsageError

_MAX_BYTES = 256 * 2**20
_MAX_LINES = 1_000_000
_MAX_TOKENS = 10_000_000
_INPUTS = ("input_tokens", "input_length", "input_len", "prompt_tokens", "contexttokens", "num_prefill_tokens")
_OUTPUTS = (
    "output_tokens", "output_length", "output_len", "completion_tokens", "generatedtokens", "num_decode_tokens",
)  # fmt: skip
_FIX = "write input_tokens and output_tokens for each request, in JSONL or in a CSV with a header"


def read_lengths(name: str) -> tuple[tuple[int, int], ...]:
    """(input tokens, output tokens) of each request, in order. UsageError names the line that is none."""
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{name} has over {_MAX_BYTES >> 20} MiB", fix="give a sample of it")
        with path.open(encoding="utf-8", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = _json_rows(name, file) if first.lstrip().startswith("{") else _csv_rows(name, file)
            found = tuple(_lengths(name, number, row) for number, row in islice(rows, _MAX_LINES))
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}", fix=_FIX) from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text in UTF-8", fix=_FIX) from None
    if not found:
        raise UsageError(f"{name} has no request", fix=_FIX)
    return found


def _json_rows(name: str, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{name}, line {number}, is no JSON", fix=_FIX) from None
        if not isinstance(row, dict):
            raise UsageError(f"{name}, line {number}, is no JSON object", fix=_FIX)
        yield number, {str(key).strip().lower(): value for key, value in row.items()}


def _csv_rows(name: str, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        reader = csv.DictReader(file)
        names = [str(key).strip().lower() for key in reader.fieldnames or ()]
        reader.fieldnames = names
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{name} is no CSV: {error}", fix=_FIX) from None


def _lengths(name: str, number: int, row: Mapping[str, Any]) -> tuple[int, int]:
    return _tokens(name, number, row, _INPUTS), _tokens(name, number, row, _OUTPUTS)


def _tokens(name: str, number: int, row: Mapping[str, Any], names: tuple[str, ...]) -> int:
    key = next((key for key in names if key in row), None)
    if key is None:
        raise UsageError(f"{name}, line {number}, has no {names[0]}", fix=_FIX)
    value = row[key]
    try:
        tokens = int(value) if isinstance(value, str) else value
    except ValueError:
        tokens = None
    if type(tokens) is not int or not 1 <= tokens <= _MAX_TOKENS:
        raise UsageError(f"{name}, line {number}, has {key} {value!r:.40}", fix="a whole number from 1 up")
    return tokens

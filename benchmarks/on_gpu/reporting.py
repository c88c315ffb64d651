"""What a worker tells: a row of figures a line, as JSON, on what was its standard output; and how long it may go on.

Whatever else is written to standard output goes to standard error.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Reporter:
    """`seconds`: of all that the worker does from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def row(self, section: str, **figures: Any) -> None:
        self._stream.write(json.dumps({"section": section, **figures}) + "\n")
        self._stream.flush()

    def problem(self, what: str, why: str) -> None:
        """Something that could not be measured."""
        sys.stderr.write(f"  {what}: {why}\n")
        self.row("problem", what=what, why=why)

    def has_time(self, what: str, seconds: float = 0.0) -> bool:
        """Whether so many seconds are left; if not, that is told."""
        if self.seconds_left > seconds:
            return True
        self.problem(what, "not measured: time was short")
        return False

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """What goes wrong inside is told, and the rest goes on."""
        try:
            yield
        except Exception as error:
            self.problem(what, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")

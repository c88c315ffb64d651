"""Fields of requests that Farthing does not know: ignored, counted, and named - once in the log, always in a header.

A client that sends more than is understood is served all the same; `--strict` refuses it instead. Knows no API.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from farthing.server.errors import ApiError

HEADER = "x-farthing-ignored"
_MAX_NAMES = 1000  # different ones that are told apart; clients invent no more than a few dozen
_UNSAFE = re.compile(r"[^\w.\[\]=-]", re.ASCII)
_MAX_CHARACTERS = 80


class IgnoredFields:
    """`strict`: refuse instead. `on_new(name)` is called for each name that is seen for the first time."""

    def __init__(self, *, strict: bool, on_new: Callable[[str], None]) -> None:
        self._strict, self._on_new = strict, on_new
        self.counts: Counter[str] = Counter()

    def take(self, names: Sequence[str]) -> dict[str, str]:
        """Headers of the answer to a request with these unknown fields. ApiError 400 if they are refused."""
        if not names:
            return {}
        safe = [_UNSAFE.sub("?", name)[:_MAX_CHARACTERS] for name in names]
        if self._strict:
            raise ApiError(
                400,
                f"unknown fields: {', '.join(safe)}",
                fix="leave them out, or serve without --strict",
                code="unknown_field",
                param=safe[0],
            )
        for name in safe:
            if name not in self.counts:
                if len(self.counts) >= _MAX_NAMES:
                    continue
                self._on_new(name)
            self.counts[name] += 1
        return {HEADER: ", ".join(safe)}

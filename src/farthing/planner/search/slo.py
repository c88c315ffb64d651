"""What a user is promised: seconds to the first token and seconds a token after it, each held by nine requests of ten.

Knows no load and no hardware.
"""

import math
from dataclasses import dataclass

from farthing.errors import UsageError

SHARE = 0.9  # of requests, and of answers, that are within the promise
_MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Slo:
    """Seconds; None promises nothing. UsageError for what is no time."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None

    def __post_init__(self) -> None:
        for flag, value in (("--ttft", self.ttft_seconds), ("--tpot", self.tpot_seconds)):
            if value is not None and not (math.isfinite(value) and 0 < value <= _MAX_SECONDS):
                raise UsageError(
                    f"{flag} is {value:g}", fix=f"write seconds above 0, like {flag} {2 if 'ttft' in flag else 0.05}"
                )

    @property
    def ttft_limit(self) -> float:
        return math.inf if self.ttft_seconds is None else self.ttft_seconds

    @property
    def tpot_limit(self) -> float:
        return math.inf if self.tpot_seconds is None else self.tpot_seconds

    def is_met(self, ttft_seconds: float, tpot_seconds: float) -> bool:
        return ttft_seconds <= self.ttft_limit and tpot_seconds <= self.tpot_limit

    @property
    def line(self) -> str:
        parts = []
        if self.ttft_seconds is not None:
            parts.append(f"{self.ttft_seconds:g} s to the first token")
        if self.tpot_seconds is not None:
            parts.append(f"{self.tpot_seconds * 1e3:g} ms a token")
        return " and ".join(parts) + " for nine of ten" if parts else "no promise of latency"

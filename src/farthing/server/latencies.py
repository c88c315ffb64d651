"""What clients wait for: first token, each next one, the whole answer - as histograms, and as percentiles of late.

Knows no routes and no engine: an answer says when something of it came.
"""

import time
from collections import deque
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Histogram

_NUM_RECENT = 2000
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NEXT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_WHOLE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Latency:
    """One kind of waiting, in seconds."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float]) -> None:
        self._histogram = Histogram(f"farthing_{name}_seconds", text, buckets=buckets, registry=registry)
        self._recent: deque[float] = deque(maxlen=_NUM_RECENT)

    def add(self, seconds: float) -> None:
        self._histogram.observe(seconds)
        self._recent.append(seconds)

    def percentiles(self) -> dict[str, float | None]:
        """Of the last couple of thousand."""
        values = sorted(self._recent)
        return {name: values[int(share * (len(values) - 1))] if values else None for name, share in _PERCENTILES}


_PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


class Latencies:
    """All kinds, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.first = Latency(registry, "time_to_first_token", "From a request's arrival to its first token.", _FIRST)
        self.each = Latency(registry, "inter_token_latency", "From one token of an answer to the next.", _NEXT)
        self.mean = Latency(
            registry, "time_per_output_token", "Of a whole answer: its time behind the first token, a token.", _NEXT
        )
        self.whole = Latency(registry, "request", "From a request's arrival to the end of its answer.", _WHOLE)
        self.queue = Latency(registry, "queue", "From a request's way to the engine to its first step.", _FIRST)


class AnswerTimes:
    """The moments of one answer, which began with the arrival of its request at `started` (monotonic). Several choices
    come side by side: each has gaps of its own."""

    def __init__(self, latencies: Latencies, started: float) -> None:
        self._latencies, self._started = latencies, started
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._num_tokens = 0

    def tokens(self, choice: int, num_tokens: int, now: float) -> None:
        """Of this choice something came."""
        if not self._first:
            self._latencies.first.add(now - self._started)
        elif choice in self._last:
            self._latencies.each.add((now - self._last[choice]) / num_tokens)
        self._first.setdefault(choice, now)
        self._last[choice] = now
        self._num_tokens += num_tokens

    def end(self, queue_seconds: float | None) -> None:
        """The answer is whole."""
        now = time.monotonic()
        self._latencies.whole.add(now - self._started)
        if queue_seconds is not None:
            self._latencies.queue.add(queue_seconds)
        num_gaps = self._num_tokens - len(self._last)
        if num_gaps:
            spans = sum(last - self._first[choice] for choice, last in self._last.items())
            self._latencies.mean.add(spans / num_gaps)

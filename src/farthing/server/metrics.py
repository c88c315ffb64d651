"""The same figures as /farthing/ledger, under the names that Prometheus' users expect.

Latencies are histograms of their own (latencies.py); everything else is read from the books when it is asked for. Knows
no HTTP.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from farthing import __version__
from farthing.server.desk import Desk
from farthing.server.snapshot import dollars_per_million_tokens, kv_usage, window_seconds

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_GPU_GAUGES = (
    ("power_watts", "power_watts", "Power that the card draws."),
    ("power_limit_watts", "power_limit_watts", "Power that the card may draw."),
    ("temperature_celsius", "temperature_celsius", "Temperature of the card."),
    ("pcie_link_width", "link_width", "Lanes of the PCIe link."),
    ("pcie_link_width_max", "link_width_max", "Lanes that card and slot could have."),
)


class Metrics:
    """Registers itself with the registry of the books. `text`: the exposition."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        desk.books.registry.register(_Reader(desk))

    def text(self) -> bytes:
        return generate_latest(self._desk.books.registry)


class _Reader(Collector):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._idle_seconds = 0.0

    def collect(self) -> Iterator[Metric]:
        yield from self._state()
        yield from self._work()
        yield from self._tokens()
        if self._desk.books.measures:
            yield from self._ledger()
            yield from self._money()
        yield from _gpus(self._desk.books.gpus.rows)

    def _state(self) -> Iterator[Metric]:
        desk, engine = self._desk, self._desk.service.engine
        books = desk.books
        labels = ("version", "model", "device", "format")
        info = GaugeMetricFamily("farthing_info", "What runs.", labels=labels)
        info.add_metric((__version__, books.model, books.planned.device, books.planned.format), 1)
        yield info
        yield _gauge("engine_ready", "Whether requests are served.", engine.state == "ready")
        yield _gauge("engine_failed", "Whether the engine is given up.", engine.state == "failed")
        yield _gauge("stalled", "Whether work waits and no step is finished.", engine.is_stalled)
        yield _gauge("last_step_age_seconds", "For how long work has waited for a step.", engine.quiet_seconds)
        yield _gauge("restarts_left", "Losses that end in a restart.", engine.num_restarts_left)
        yield _counter("engine_restarts", "Restarts of the engine.", engine.num_restarts)
        yield _counter("log_lines_dropped", "Lines that the log could not write.", desk.log.num_dropped)

    def _work(self) -> Iterator[Metric]:
        desk, status = self._desk, self._desk.service.engine.status
        ended = CounterMetricFamily("farthing_requests", "Requests that ended.", labels=("route", "outcome"))
        for (route, outcome), count in sorted(desk.ended.items()):
            ended.add_metric((route, outcome), count)
        yield ended
        used = status.num_blocks - status.num_available_blocks
        admission = desk.service.admission
        yield _counter("requests_refused", "Requests answered with 429.", admission.num_refused)
        yield _gauge("requests_running", "Sequences that are computed.", status.num_running)
        yield _gauge("requests_waiting", "Sequences that wait in the engine.", status.num_waiting)
        yield _gauge("requests_queued", "Requests without a first token.", admission.num_queued)
        yield _gauge("kv_blocks", "Blocks of the KV cache.", status.num_blocks)
        yield _gauge("kv_blocks_used", "Blocks that requests hold.", used)
        yield _gauge("kv_usage_ratio", "Share of the blocks that requests hold.", kv_usage(desk))
        yield _counter("preemptions", "Sequences put back for want of blocks.", status.num_preemptions)
        yield _counter("failed_sequences", "Sequences without a next token.", status.num_failed_sequences)
        yield _counter("draft_tokens", "Tokens that were guessed.", status.num_draft_tokens)
        yield _counter("accepted_tokens", "Of these, guessed right.", status.num_accepted_tokens)

    def _tokens(self) -> Iterator[Metric]:
        spent = self._desk.books.spent
        yield _counter("prompt_tokens", "Tokens of the prompts of ended requests.", spent.num_prompt_tokens)
        yield _counter("cached_prompt_tokens", "Of these, taken from the cache.", spent.num_cached_tokens)

    def _ledger(self) -> Iterator[Metric]:
        books = self._desk.books
        total, recent = books.ledger.total, books.ledger.recent(time.time())
        yield _counter("output_tokens", "Tokens as they come, those that end a text included.", total.num_outputs)
        for name, what, values in (
            ("steps", "Steps of the engine.", {p: t.num_steps for p, t in total.phases.items()}),
            ("step_seconds", "Time of the steps.", {p: t.seconds for p, t in total.phases.items()}),
            ("limit_seconds", "Time at the machine's limit.", {p: t.limit_seconds for p, t in total.phases.items()}),
            ("forecast_seconds", "Time as planned.", {p: t.forecast_seconds for p, t in total.phases.items()}),
        ):
            yield _labelled(CounterMetricFamily(f"farthing_{name}", what, labels=("phase",)), values.items())
        shares = {phase: totals.share_of_limit for phase, totals in recent.phases.items()}
        speeds = {phase: totals.speed_to_forecast for phase, totals in recent.phases.items()}
        text = "Limit / measured time of the last minute."
        yield _labelled(GaugeMetricFamily("farthing_share_of_limit_ratio", text, labels=("phase",)), shares.items())
        text = "Measured / forecast speed of the last minute."
        yield _labelled(GaugeMetricFamily("farthing_speed_to_forecast_ratio", text, labels=("phase",)), speeds.items())
        # A counter may not fall, and steps are told of more often than the clock ticks.
        self._idle_seconds = max(self._idle_seconds, books.spent.clock_seconds - total.seconds)
        parts = {**total.parts, "idle": self._idle_seconds}
        text = "What the time went to."
        yield _labelled(CounterMetricFamily("farthing_time_seconds", text, labels=("part",)), parts.items())
        text = "Time of sequences in the engine's queue."
        yield _labelled(CounterMetricFamily("farthing_waiting_seconds", text, labels=("cause",)), total.waits.items())

    def _money(self) -> Iterator[Metric]:
        books = self._desk.books
        requests, idle = books.dollars(books.spent.request_seconds), books.dollars(self._idle_seconds)
        if requests is None or idle is None:
            return
        values = {"requests": requests, "idle": idle}
        text = "What was spent since the start."
        yield _labelled(CounterMetricFamily("farthing_dollars", text, labels=("kind",)), values.items())
        yield _gauge("dollars_per_hour", "Price of the machine.", books.price.dollars_per_hour or 0.0)
        now = time.time()
        dear = dollars_per_million_tokens(self._desk, books.ledger.recent(now), window_seconds(self._desk, now))
        if dear is not None:
            yield _gauge("dollars_per_million_output_tokens", "Of the last minute, idle time included.", dear)


def _gpus(rows: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    if not rows:
        return
    for name, field, text in _GPU_GAUGES:
        values = {str(row["index"]): row[field] for row in rows}
        yield _labelled(GaugeMetricFamily(f"farthing_gpu_{name}", text, labels=("gpu",)), values.items())
    throttled = GaugeMetricFamily("farthing_gpu_throttled", "Why the card is slowed.", labels=("gpu", "reason"))
    for row in rows:
        for reason in row["throttle_reasons"]:
            throttled.add_metric((str(row["index"]), reason), 1)
    yield throttled


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"farthing_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"farthing_{name}", text, value=value)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float | None]]) -> Metric:
    """A sample for each that is known."""
    for label, value in values:
        if value is not None:
            family.add_metric((label,), value)
    return family

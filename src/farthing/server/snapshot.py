"""How the server stands, in one document: what /farthing/ledger answers, and what page and `farthing top` draw.

Reads the books and the engine's last word; computes nothing that is not a ratio of what stands there. What an engine
that does not measure (--no-measure) can't tell is None. Knows no HTTP.
"""

import time
from dataclasses import asdict
from typing import Any

from farthing.engine.accounts.ledger import BUCKET_SECONDS, WINDOW_SECONDS, PhaseTotals, StepSums
from farthing.engine.accounts.why_slow import why_slow
from farthing.server.desk import Desk

SCHEMA = "farthing.ledger/1"
_MILLION = 1e6


def word(desk: Desk) -> str:
    """ "ok", or what the server is instead: starting, draining, restarting, failed, closed."""
    state = desk.service.engine.state
    if desk.service.admission.draining:
        return "draining"
    return "ok" if state == "ready" else state


def snapshot(desk: Desk) -> dict[str, Any]:
    """The document, as JSON values."""
    books, engine, admission = desk.books, desk.service.engine, desk.service.admission
    status, planned, now = engine.status, books.planned, time.time()
    recent = books.ledger.recent(now)
    window = window_seconds(desk, now)
    spent = books.spent
    return {
        "schema": SCHEMA,
        "time": now,
        "model": books.model,
        "device": planned.device,
        "format": planned.format,
        "plan_line": planned.line,
        "state": word(desk),
        "stalled": engine.is_stalled,
        "uptime_seconds": books.uptime_seconds,
        "num_restarts": engine.num_restarts,
        "price_dollars_per_hour": books.price.dollars_per_hour,
        "price_note": books.price.note,
        "requests": {
            "running": status.num_running,
            "waiting": status.num_waiting,
            "queued": admission.num_queued,
            "refused": admission.num_refused,
            "ended": desk.num_ended,
        },
        "kv": {
            "blocks": status.num_blocks,
            "used_blocks": status.num_blocks - status.num_available_blocks,
            "cached_blocks": status.num_cached_blocks,
            "block_size": planned.block_size,
            "usage_ratio": kv_usage(desk),
            "cache_hit_ratio": spent.num_cached_tokens / spent.num_prompt_tokens if spent.num_prompt_tokens else None,
            "preemptions": status.num_preemptions,
        },
        "tokens": {
            "prompt": spent.num_prompt_tokens,
            "cached": spent.num_cached_tokens,
            "output": books.ledger.total.num_outputs if books.measures else None,
        },
        "window_seconds": WINDOW_SECONDS,
        "recent": {name: _phase(totals) for name, totals in recent.phases.items()},
        "total": {name: _phase(totals) for name, totals in books.ledger.total.phases.items()},
        "rates": {
            "output_tokens_per_second": recent.num_outputs / window if books.measures else None,
            "prompt_tokens_per_second": _num_prompt_tokens(recent) / window if books.measures else None,
        },
        "parts": {**recent.parts, "idle": max(0.0, window - recent.seconds)},
        "waits": dict(recent.waits),
        "why_slow": [asdict(finding) for finding in why_slow(recent, max_num_seqs=planned.max_num_seqs)],
        "dollars": _dollars(desk, recent, window),
        "latency": {
            f"{name}_seconds": latency.percentiles()
            for name, latency in (
                ("ttft", books.latencies.first),
                ("tpot", books.latencies.mean),
                ("itl", books.latencies.each),
                ("request", books.latencies.whole),
                ("queue", books.latencies.queue),
            )
        },
        "history": _history(desk, now),
        "gpus": books.gpus.rows,
        "report": sorted(books.reports),
    }


def window_seconds(desk: Desk, now: float) -> float:
    """How long the last minute of the ledger has lasted: less in the first one, and never an unfinished bucket more."""
    return min(desk.books.ledger.recent_seconds(now), max(desk.books.uptime_seconds, 1e-3))


def kv_usage(desk: Desk) -> float:
    """Share of the KV blocks that are held by requests."""
    status = desk.service.engine.status
    return (status.num_blocks - status.num_available_blocks) / status.num_blocks if status.num_blocks else 0.0


def dollars_per_million_tokens(desk: Desk, recent: StepSums, window_seconds: float) -> float | None:
    """What a million output tokens cost lately, idle time included; None without tokens or a price."""
    dollars = desk.books.dollars(window_seconds)
    return dollars / recent.num_outputs * _MILLION if dollars is not None and recent.num_outputs else None


def _num_prompt_tokens(sums: StepSums) -> int:
    prefill, decode = sums.phases["prefill"], sums.phases["decode"]
    return prefill.num_tokens + decode.num_tokens - sums.num_outputs


def _phase(totals: PhaseTotals) -> dict[str, Any]:
    return {
        "steps": totals.num_steps,
        "tokens": totals.num_tokens,
        "seconds": totals.seconds,
        "limit_seconds": totals.limit_seconds,
        "forecast_seconds": totals.forecast_seconds,
        "tokens_per_second": totals.tokens_per_second if totals.seconds else None,
        "share_of_limit": totals.share_of_limit,
        "speed_to_forecast": totals.speed_to_forecast,
    }


def _dollars(desk: Desk, recent: StepSums, window_seconds: float) -> dict[str, float | None] | None:
    books = desk.books
    requests, total = books.dollars(books.spent.request_seconds), books.dollars(books.spent.clock_seconds)
    if requests is None or total is None or not books.measures:
        return None
    return {
        "requests": requests,
        "idle": total - requests,
        "total": total,
        "per_million_output_tokens": dollars_per_million_tokens(desk, recent, window_seconds),
    }


def _history(desk: Desk, now: float) -> list[dict[str, Any]]:
    """A point for every two seconds in which something was computed or that lie between such, oldest first."""
    books, blocks = desk.books, desk.service.engine.status.num_blocks
    points: list[dict[str, Any]] = []
    for bucket in books.ledger.buckets:
        seconds, limit = bucket.sums.seconds, sum(phase.limit_seconds for phase in bucket.sums.phases.values())
        points.append(
            {
                "time": bucket.time,
                "output_tokens_per_second": bucket.sums.num_outputs / BUCKET_SECONDS,
                "share_of_limit": limit / seconds if seconds and limit else None,
                "kv_usage_ratio": bucket.used_blocks / blocks if blocks else 0.0,
                "running": bucket.num_running,
                "waiting": bucket.num_waiting,
                "dollars": books.dollars(max(0.0, books.spent.clock_seconds - (now - bucket.time))),
            }
        )
    return points

"""Figures of a load: known numbers in, known percentiles, rates and goodput out."""

import random

import numpy as np
import pytest

from farthing.client.load_stats import Record, summarize, tokens_over_time
from farthing.spread import PERCENTILES, Spread, percentile


def answered(index: int, scheduled: float, times: list[float], *, sent: float | None = None) -> Record:
    """An answer whose tokens came one an event."""
    return Record(
        index, scheduled, 10, len(times), sent=scheduled if sent is None else sent, ended=times[-1], token_times=times,
        input_tokens=10, output_tokens=len(times), outcome="answered",
    )  # fmt: skip


def test_percentiles_are_those_of_numpy():
    rng = random.Random(0)
    for count in (1, 2, 3, 10, 101):
        values = sorted(rng.expovariate(1) for _ in range(count))
        for share in (0, *PERCENTILES, 100):
            assert percentile(values, share) == pytest.approx(float(np.percentile(values, share)))


def test_percentiles_of_known_numbers():
    spread = Spread.of(range(101))
    assert (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99) == (50, 50, 90, 95, 99)
    assert Spread.of([]) == Spread(None, None, None, None, None)


def test_times_count_from_the_moment_a_request_was_to_be_sent():
    record = answered(0, 1.0, [3.0, 3.5, 4.5], sent=1.25)
    assert (record.lag_seconds, record.ttft_seconds, record.tpot_seconds) == (0.25, 2.0, 0.75)
    assert (record.request_seconds, record.gaps()) == (3.5, [0.5, 1.0])
    assert answered(0, 0.0, [1.0]).tpot_seconds is None


def test_refused_failed_and_cut_requests_are_counted_apart_and_are_in_no_latency():
    records = [
        answered(0, 0.0, [1.0, 2.0]),
        Record(1, 0.5, 10, 2, sent=0.5, ended=0.5, outcome="refused", reason="HTTP 429 busy", detail="first"),
        Record(2, 0.6, 10, 2, sent=0.6, ended=0.7, outcome="refused", reason="HTTP 429 busy", detail="second"),
        Record(3, 0.7, 10, 2, sent=0.7, ended=50.0, token_times=[9.0], outcome="failed", reason="connection lost"),
        Record(4, 0.8, 10, 2, sent=0.8, ended=50.0, outcome="cut"),
    ]
    summary = summarize(records, ttft=10)
    assert (summary.sent, summary.answered, summary.refused, summary.failed, summary.cut) == (5, 1, 2, 1, 1)
    assert summary.ttft_seconds.p99 == 1.0 and summary.request_seconds.p99 == 2.0
    assert (summary.input_tokens, summary.output_tokens, summary.output_tokens_per_second) == (10, 2, 2 / 50)
    assert [(reason.reason, reason.requests, reason.example) for reason in summary.reasons] == [
        ("HTTP 429 busy", 2, "first"),
        ("connection lost", 1, ""),
    ]
    assert summary.goodput is not None
    assert (summary.goodput.requests, summary.goodput.share) == (1, 1 / 5)


def test_goodput_counts_the_requests_that_meet_both_objectives():
    records = [
        answered(0, 0.0, [0.1, 0.2]),
        answered(1, 0.0, [0.3, 0.4]),  # its first token is late
        answered(2, 0.0, [0.1, 0.9]),  # its second one is
        answered(3, 0.0, [0.1]),  # has no second one
    ]
    for ttft, tpot, good in ((0.2, 0.2, 2), (0.2, None, 3), (None, 0.2, 3), (1, 1, 4), (0.01, 0.01, 0)):
        goodput = summarize(records, ttft=ttft, tpot=tpot).goodput
        assert goodput is not None
        assert (goodput.requests, goodput.share) == (good, good / 4)
        assert goodput.requests_per_second == pytest.approx(good / 0.9)
    assert summarize(records).goodput is None


def test_answers_that_are_too_short_are_counted():
    short = answered(0, 0.0, [1.0])
    short.asked_output_tokens = 5
    assert summarize([short, answered(1, 0.0, [1.0])]).short == 1


def test_no_request_at_all_is_no_error():
    summary = summarize([])
    assert (summary.sent, summary.seconds, summary.requests_per_second) == (0, 0.0, 0.0)
    assert not summary.generator_was_late


@pytest.mark.parametrize(
    ("lag", "ttft", "late"), [(0.005, 0.02, False), (0.05, 0.02, True), (0.05, 2.0, False), (0.3, 2.0, True)]
)
def test_a_generator_is_late_when_it_shows_in_the_latencies(lag: float, ttft: float, late: bool):
    summary = summarize([answered(index, 0.0, [ttft], sent=lag) for index in range(100)])
    assert summary.generator_was_late == late


def test_tokens_over_time_add_up_to_all_tokens():
    several_an_event = answered(0, 0.0, [0.1, 0.6, 1.7])
    several_an_event.output_tokens = 9
    records = [several_an_event, answered(1, 0.5, [0.7, 1.2])]
    rates = tokens_over_time(records, 0.5)
    assert rates == [6.0, 8.0, 2.0, 6.0]
    assert sum(rates) * 0.5 == 9 + 2

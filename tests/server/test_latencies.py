"""Moments of answers, as they are counted."""

import pytest
from prometheus_client import CollectorRegistry

from farthing.server.latencies import AnswerTimes, Latencies


def test_a_choice_that_starts_late_makes_no_token_of_another_slow() -> None:
    """Two choices of ten tokens at 10 ms, the second one 30 s behind the first."""
    latencies = Latencies(CollectorRegistry())
    times = AnswerTimes(latencies, started=0.0)
    for choice, first in ((0, 1.0), (1, 31.0)):
        for number in range(10):
            times.tokens(choice, 1, first + 0.01 * number)
    times.end(queue_seconds=0.5)
    assert latencies.first.percentiles()["p99"] == 1.0
    assert latencies.mean.percentiles()["p50"] == pytest.approx(0.01)
    assert latencies.each.percentiles()["p99"] == pytest.approx(0.01)
    assert latencies.queue.percentiles()["p50"] == 0.5


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    latencies = Latencies(CollectorRegistry())
    times = AnswerTimes(latencies, started=0.0)
    times.tokens(0, 1, 2.0)
    times.end(queue_seconds=None)
    assert latencies.first.percentiles()["p50"] == 2.0 and latencies.mean.percentiles()["p50"] is None

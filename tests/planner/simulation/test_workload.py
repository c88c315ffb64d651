"""Loads: arrivals, lengths and prefixes from a seed, as bench serve would send them; garbage is one clear line."""

import itertools
import math
import random
from collections.abc import Callable
from statistics import fmean, median

import pytest

from farthing.client.load_work import Sizes, jobs_by_rate
from farthing.errors import UsageError
from farthing.planner.simulation.lengths import Lengths
from farthing.planner.simulation.workload import Prefixes, by_rate, by_users, recorded

SHORT, LONG = Lengths.parse("U(10,50)", "--input-tokens"), Lengths.parse("200", "--output-tokens")


def test_arrivals_come_at_the_rate_and_are_those_of_bench_serve():
    load = by_rate(4.0, 20_000, SHORT, LONG, seed=3)
    arrivals = [request.arrival for request in load.requests]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(20_000 / 4.0, rel=0.03)
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert fmean(gaps) == pytest.approx(0.25, rel=0.03)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02), "exponential"
    sent = itertools.islice(jobs_by_rate(4.0, Sizes(10, 50), Sizes(200, 200), 3), 100)
    assert [(job.arrival, job.input_tokens, job.output_tokens) for job in sent] == [
        (request.arrival, request.input_tokens, request.output_tokens) for request in load.requests[:100]
    ]


def test_the_same_seed_is_the_same_load_and_another_one_is_not():
    assert by_rate(1.0, 50, SHORT, LONG, seed=1) == by_rate(1.0, 50, SHORT, LONG, seed=1)
    assert by_rate(1.0, 50, SHORT, LONG, seed=1).requests != by_rate(1.0, 50, SHORT, LONG, seed=2).requests


def test_lengths_are_drawn_as_they_are_written():
    rng = random.Random(0)
    uniform = [SHORT.draw(rng) for _ in range(5000)]
    assert min(uniform) == 10 and max(uniform) == 50 and fmean(uniform) == pytest.approx(30, rel=0.02)
    lognormal = Lengths.parse("lognormal(800, 1.0)", "--input-tokens")
    drawn = [lognormal.draw(rng) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(800, rel=0.05)
    assert median(drawn) == pytest.approx(800 / math.exp(0.5), rel=0.05)
    assert {LONG.draw(rng) for _ in range(10)} == {200}
    assert [str(one) for one in (SHORT, LONG, lognormal)] == ["U(10,50)", "200", "lognormal(800,1)"]


@pytest.mark.parametrize(
    "text",
    ["", "-5", "0", "1.5", "nan", "U(5)", "U(50,10)", "lognormal(0,1)", "lognormal(100,0)", "lognormal(1,9)", "x"],
)
def test_a_length_that_makes_no_sense_is_refused_with_what_would(text: str):
    with pytest.raises(UsageError, match="--input-tokens"):
        Lengths.parse(text, "--input-tokens")


@pytest.mark.parametrize(
    "make",
    [
        lambda: by_rate(0.0, 10, SHORT, LONG),
        lambda: by_rate(-1.0, 10, SHORT, LONG),
        lambda: by_rate(math.nan, 10, SHORT, LONG),
        lambda: by_rate(math.inf, 10, SHORT, LONG),
        lambda: by_rate(1.0, 0, SHORT, LONG),
        lambda: by_rate(1.0, 10**9, SHORT, LONG),
        lambda: by_users(0, 1.0, 10, SHORT, LONG),
        lambda: by_users(3, -1.0, 10, SHORT, LONG),
        lambda: by_users(3, math.nan, 10, SHORT, LONG),
        lambda: recorded([], "empty.csv"),
        lambda: Prefixes(-1, 1),
        lambda: Prefixes(10, 0),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(make: Callable[[], object]):
    with pytest.raises(UsageError):
        make()


def test_users_think_as_long_as_they_are_said_to():
    load = by_users(3, 8.0, 10_000, SHORT, LONG)
    assert fmean(request.think_seconds for request in load.requests) == pytest.approx(8.0, rel=0.05)
    assert {request.arrival for request in load.requests} == {None}
    assert {request.think_seconds for request in by_users(3, 0.0, 10, SHORT, LONG).requests} == {0.0}


def test_a_recorded_load_begins_with_its_first_request():
    load = recorded([(7.5, 20, 3), (5.0, 10, 2)], "trace.csv")
    assert [(one.arrival, one.input_tokens, one.output_tokens) for one in load.requests] == [(0.0, 10, 2), (2.5, 20, 3)]
    assert load.mean_lengths() == (15, 2) and load.longest == 23


def test_prompts_of_a_group_begin_alike_and_no_two_are_the_same():
    load = by_rate(1.0, 40, SHORT, LONG, prefixes=Prefixes(30, 2))
    prompts = [load.prompt_ids(request) for request in load.requests]
    assert [len(prompt) for prompt in prompts] == [request.input_tokens for request in load.requests]
    assert {request.group for request in load.requests} == {0, 1}
    assert len({tuple(prompt) for prompt in prompts}) == 40
    for request, prompt in zip(load.requests, prompts, strict=True):
        shared = min(30, request.input_tokens - 1)
        assert len(set(prompt[:shared])) == 1 and prompt[-1] != prompt[0]
        assert all(token >= 0 for token in prompt)


def test_prompts_that_are_no_longer_than_the_prefix_are_told():
    few = by_rate(1.0, 50, Lengths.parse("U(10,30)", "-"), Lengths.parse("5", "-"), prefixes=Prefixes(20, 1))
    count = sum(request.input_tokens <= 20 for request in few.requests)
    assert 0 < count < 50 and f"of {count} prompts that are no longer" in few.line
    longer = by_rate(1.0, 50, Lengths.parse("30", "-"), Lengths.parse("5", "-"), prefixes=Prefixes(20, 1))
    assert "no longer" not in longer.line

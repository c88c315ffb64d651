"""Requests from a seed: the same again, Poisson on average, of exactly the lengths that were asked for."""

import itertools
import json
import statistics

import pytest

from farthing.client.load_trace import TraceLine
from farthing.client.load_work import (
    Job,
    Prompts,
    Sizes,
    Vocabulary,
    body_of,
    jobs_by_rate,
    jobs_of_trace,
    jobs_on_demand,
    within,
)
from farthing.errors import UsageError

INPUTS, OUTPUTS = Sizes(32, 512), Sizes(8, 8)


def test_arrivals_are_poisson():
    """The mean and the standard deviation of the gaps are both 1 / rate, and a gap tells nothing of the next."""
    jobs = list(itertools.islice(jobs_by_rate(4.0, INPUTS, OUTPUTS, seed=7), 20_000))
    gaps = [after.arrival - before.arrival for before, after in itertools.pairwise(jobs)]
    assert statistics.fmean(gaps) == pytest.approx(1 / 4, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1 / 4, rel=0.05)
    assert abs(statistics.correlation(gaps[:-1], gaps[1:])) < 0.03


def test_a_seed_gives_the_same_load_again_and_another_seed_another():
    first, again, other = (list(itertools.islice(jobs_by_rate(4, INPUTS, OUTPUTS, seed), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_same_requests_come_at_any_rate_and_for_users():
    slow, fast = (itertools.islice(jobs_by_rate(rate, INPUTS, OUTPUTS, 1), 50) for rate in (1, 9))
    users = itertools.islice(jobs_on_demand(INPUTS, OUTPUTS, 1), 50)
    for one, two, three in zip(slow, fast, users, strict=True):
        assert one.input_tokens == two.input_tokens == three.input_tokens
        assert one.arrival == pytest.approx(9 * two.arrival)


def test_lengths_are_even_over_their_range():
    lengths = [job.input_tokens for job in itertools.islice(jobs_on_demand(INPUTS, OUTPUTS, 0), 5000)]
    assert (min(lengths), max(lengths)) == (32, 512)
    assert statistics.fmean(lengths) == pytest.approx(272, rel=0.03)


def test_a_load_ends_after_so_many_requests_or_seconds():
    assert len(list(within(jobs_by_rate(4, INPUTS, OUTPUTS, 0), requests=7, seconds=None))) == 7
    in_time = list(within(jobs_by_rate(4, INPUTS, OUTPUTS, 0), requests=None, seconds=5))
    assert in_time and all(job.arrival <= 5 for job in in_time)
    lines = [TraceLine(10.0, 1, 2), TraceLine(10.5, 3, 4), TraceLine(99.0, 5, 6)]
    assert list(within(jobs_of_trace(lines), requests=None, seconds=2)) == [Job(0, 0.0, 1, 2), Job(1, 0.5, 3, 4)]


def test_prompts_have_their_length_and_are_inside_the_vocabulary():
    prompts = Prompts(Vocabulary(5, 9), seed=3)
    for job in itertools.islice(jobs_on_demand(INPUTS, OUTPUTS, 0), 20):
        ids = prompts.ids(job)
        assert len(ids) == job.input_tokens and set(ids) <= set(range(5, 10))
        assert ids == prompts.ids(job)
    assert set(prompts.ids(Job(0, None, 500, 1))) == set(range(5, 10))


def test_prompts_share_a_prefix_and_nothing_else():
    prompts = Prompts(Vocabulary(0, 10**6), seed=3, prefix_tokens=16)
    first, second, short = (prompts.ids(Job(*of)) for of in ((0, None, 40, 1), (1, None, 50, 1), (2, None, 10, 1)))
    assert (len(first), len(second), len(short)) == (40, 50, 10)
    assert first[:16] == second[:16] and first[:10] == short
    assert not set(first[16:]) & set(second[16:])


def test_a_request_asks_for_an_exact_length_as_a_stream():
    body = json.loads(body_of(Job(0, None, 3, 17), Prompts(Vocabulary(5, 5), 0), "m"))
    assert body == {
        "model": "m", "prompt": [5, 5, 5], "max_tokens": 17, "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("128", (128, 128)), ("U(32,512)", (32, 512)), ("u( 1, 2 )", (1, 2)), ("1_000", (1000, 1000)), ("U(4,4)", (4, 4))],
)
def test_lengths_are_a_number_or_a_range(text: str, sizes: tuple[int, int]):
    found = Sizes.parse(text, "--input-tokens")
    assert (found.low, found.high) == sizes
    assert Sizes.parse(str(found), "--input-tokens") == found


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "U(3)", "U(5,2)", "U(0,2)", "N(1,2)", "9" * 30, "U(1,2,3)"])
def test_what_is_no_length_is_refused(text: str):
    with pytest.raises(UsageError, match="--input-tokens"):
        Sizes.parse(text, "--input-tokens")

"""When a figure is called slower: never of equal rounds, always of a loss that stands out, seldom of mere noise."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cli.bench_compare import LEAST_CHANGE, compare, median, spread

speeds = st.floats(1e-3, 1e9)
rounds = st.lists(speeds, min_size=1, max_size=12)


def noisy(rng: random.Random, center: float, noise: float, count: int) -> list[float]:
    return [center * max(0.05, rng.gauss(1, noise)) for _ in range(count)]


@given(rounds)
def test_equal_rounds_never_lose(values: list[float]):
    found = compare(values, values[::-1])
    assert (found.verdict, found.ratio) == ("same", 1.0)
    assert found.low <= 1 <= found.high


@given(rounds, rounds)
def test_exchanged_rounds_give_the_opposite(before: list[float], after: list[float]):
    there, back = compare(before, after), compare(after, before)
    assert {there.verdict, back.verdict} in ({"same"}, {"loss", "gain"})
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1) and there.high * back.low == pytest.approx(1)
    assert there.noticed == pytest.approx(back.noticed)


@given(rounds, rounds, st.floats(0.01, 100))
def test_the_unit_does_not_matter(before: list[float], after: list[float], factor: float):
    plain = compare(before, after)
    scaled = compare([value * factor for value in before], [value * factor for value in after])
    assert scaled.ratio == pytest.approx(plain.ratio) and scaled.low == pytest.approx(plain.low)


@given(rounds, rounds)
def test_a_verdict_needs_both_the_size_and_the_interval(before: list[float], after: list[float]):
    found = compare(before, after)
    assert found.low <= found.ratio * (1 + 1e-9) and found.high >= found.ratio * (1 - 1e-9)
    assert found.noticed >= LEAST_CHANGE
    if found.verdict == "loss":
        assert found.high < 1 and found.ratio < 1 - found.noticed
    if found.verdict == "gain":
        assert found.low > 1 and found.ratio > 1


@given(st.integers(3, 12), st.integers(3, 12), st.integers(0, 10**6), st.floats(0.1, 1e6))
def test_a_loss_of_30_percent_in_noise_of_2_percent_is_always_found(num_old: int, num_new: int, seed: int, unit: float):
    rng = random.Random(seed)
    before, after = noisy(rng, unit, 0.02, num_old), noisy(rng, 0.7 * unit, 0.02, num_new)
    assert compare(before, after).verdict == "loss"


@given(rounds, st.floats(0.96, 1.04))
def test_a_change_below_5_percent_is_the_same(values: list[float], factor: float):
    assert compare(values, [value * factor for value in values]).verdict == "same"


@pytest.mark.parametrize(
    ("noise", "change", "is_as_expected"),
    [
        (0.02, 1.0, lambda share: share < 0.002),
        (0.1, 1.0, lambda share: share < 0.01),
        (0.2, 1.0, lambda share: share < 0.01),
        (0.02, 0.9, lambda share: share > 0.97),
        (0.1, 0.7, lambda share: share > 0.75),
    ],
)
def test_of_five_noisy_rounds_few_equal_ones_are_called_a_loss_and_most_losses_are(
    noise: float, change: float, is_as_expected: Callable[[float], bool]
):
    rng = random.Random(1)
    lost = [
        compare(noisy(rng, 100, noise, 5), noisy(rng, 100 * change, noise, 5)).verdict == "loss" for _ in range(2000)
    ]
    assert is_as_expected(sum(lost) / len(lost))


def test_median_and_spread_of_known_numbers():
    assert median([3, 1, 2]) == 2 and median([4, 1, 2, 3]) == 2.5
    assert spread([1, 2, 3, 4, 5]) == pytest.approx(2 / 3) and spread([7]) == 0


def test_the_interval_of_one_round_is_its_ratio():
    found = compare([10.0], [8.0])
    assert (found.low, found.ratio, found.high, found.verdict) == (0.8, 0.8, 0.8, "loss")

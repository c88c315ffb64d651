"""Philox4x32-10 against the known answers of Random123, and the uniform numbers that the sampler draws from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.kernels.philox import philox, uniform

KNOWN_ANSWERS = (  # kat_vectors of Random123 (Salmon et al. 2011): counter, key, answer of "philox4x32 10"
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def run(counters: list[list[int]], keys: list[list[int]]) -> list[list[int]]:
    counter, key = torch.tensor(counters).unbind(1), torch.tensor(keys).unbind(1)
    return torch.stack(philox(counter, key), 1).tolist()  # type: ignore[arg-type]


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """The definition in Python's unbounded integers."""
    for _ in range(10):
        first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second & 0xFFFFFFFF,
            (first >> 32) ^ counter[3] ^ key[1],
            first & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_known_answers_of_random123_come_out(counter: str, key: str, answer: str) -> None:
    assert run([words(counter)], [words(key)]) == [words(answer)]


def test_a_row_is_the_same_alone_and_among_others() -> None:
    counters, keys, answers = ([words(text) for text in column] for column in zip(*KNOWN_ANSWERS, strict=True))
    assert run(counters * 7, keys * 7) == answers * 7


@given(*(st.lists(st.integers(0, 2**32 - 1), min_size=size, max_size=size) for size in (4, 2)))
def test_signed_tensors_compute_what_unbounded_integers_do(counter: list[int], key: list[int]) -> None:
    assert run([counter], [key]) == [plain_philox(counter, key)]


def numbers(seeds: list[int], token_indices: list[int], sample_indices: list[int]) -> list[float]:
    return uniform(torch.tensor(seeds), torch.tensor(token_indices), torch.tensor(sample_indices)).tolist()


def test_a_number_is_made_of_the_first_53_bits() -> None:
    high, low, *_ = plain_philox([11, 3, 0, 0], [5, 0])
    assert numbers([5], [11], [3]) == [((high >> 5) * 2**26 + (low >> 6)) / 2**53]


def test_all_64_bits_of_a_seed_the_token_and_the_sample_count() -> None:
    seeds = [0, 1, -1, 2**32, 2**62, -(2**63), 2**63 - 1]
    drawn = numbers(seeds, [0] * 7, [0] * 7) + numbers([0] * 7, [1, 2, 3, 0, 0, 0, 9], [0, 0, 0, 1, 2, 3, 9])
    assert len(set(drawn)) == 14


def test_a_number_does_not_depend_on_the_rows_beside_it() -> None:
    seeds, tokens, samples = list(range(-20, 20)), list(range(40)), [row % 3 for row in range(40)]
    together = numbers(seeds, tokens, samples)
    assert together == [numbers([s], [t], [n])[0] for s, t, n in zip(seeds, tokens, samples, strict=True)]
    assert together[::-1] == numbers(seeds[::-1], tokens[::-1], samples[::-1])


@pytest.mark.parametrize("varied", ["seeds", "token_indices", "sample_indices"])
def test_numbers_fill_the_unit_interval_evenly_whatever_is_counted_up(varied: str) -> None:
    count, num_bins = 20_000, 100
    columns = {name: [0] * count for name in ("seeds", "token_indices", "sample_indices")}
    columns[varied] = list(range(count))
    drawn = torch.tensor(numbers(**columns), dtype=torch.float64)
    assert 0 <= drawn.min() < 1e-3 and 1 - 1e-3 < drawn.max() < 1
    expected = count / num_bins
    chi_square = ((torch.bincount((drawn * num_bins).long(), minlength=num_bins) - expected) ** 2 / expected).sum()
    assert 60 < chi_square < 149  # 99 degrees of freedom: the 0.1 % points of both tails
    correlation = torch.corrcoef(torch.stack((drawn[:-1], drawn[1:])))[0, 1]
    assert abs(correlation) < 0.025  # 3.5 standard deviations of the correlation of neighbours

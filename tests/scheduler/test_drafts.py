"""Guesses from a sequence's own tokens."""

import time

from hypothesis import given
from hypothesis import strategies as st

from farthing.scheduler.drafts import Drafter


def guessed(token_ids: list[int], num_tokens: int) -> tuple[int, ...]:
    drafter = Drafter(token_ids)
    drafter.acceptance()
    return drafter.drafts(num_tokens)


def test_what_followed_the_last_tokens_before_is_guessed() -> None:
    assert guessed([1, 2, 3, 4, 5, 9, 1, 2], 3) == (3, 4, 5)


def test_nothing_is_guessed_where_the_last_two_tokens_are_new() -> None:
    drafter = Drafter([1, 2, 3, 4, 5, 2])
    assert drafter.acceptance() == 0.0 and drafter.drafts(4) == ()
    assert Drafter([1]).acceptance() == 0.0


def test_the_longest_match_wins_and_of_equal_ones_the_most_recent() -> None:
    assert guessed([7, 1, 2, 50, 8, 1, 2, 60, 7, 1, 2], 1) == (50,)
    assert guessed([8, 1, 2, 50, 8, 1, 2, 60, 7, 1, 2], 1) == (60,)


def test_what_repeats_is_guessed_to_go_on_however_short_it_is() -> None:
    assert guessed([4, 4, 4], 5) == (4, 4, 4, 4, 4)
    assert guessed([1, 2, 3, 1, 2], 8) == (3, 1, 2, 3, 1, 2, 3, 1)


def test_acceptance_rises_while_guesses_are_right_and_falls_when_they_are_not() -> None:
    token_ids = [1, 2, 3, 4] * 2
    drafter = Drafter(token_ids)
    at_first = drafter.acceptance()
    token_ids += [1, 2, 3, 4] * 10
    assert (learned := drafter.acceptance()) > 0.9 > at_first
    for other in range(10, 20):
        token_ids += [other, 1, 2, 3, 4, 1, 2, 3, 4]
    token_ids += [1]
    assert 0.0 < drafter.acceptance() < learned


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 60))
def test_token_by_token_it_guesses_as_one_that_sees_the_whole_text(token_ids: list[int], start: int) -> None:
    growing = token_ids[:start]
    drafter = Drafter(growing)
    for token_id in token_ids[start:]:
        growing.append(token_id)
        drafter.acceptance()
    assert drafter.drafts(5) == guessed(token_ids, 5)


def test_a_token_costs_microseconds() -> None:
    token_ids = [1, 2] * 100
    drafter = Drafter(token_ids)
    started = time.perf_counter()
    for number in range(10_000):
        token_ids.append(number % 7)
        drafter.acceptance()
    assert (time.perf_counter() - started) / 10_000 < 100e-6, "usually 3"

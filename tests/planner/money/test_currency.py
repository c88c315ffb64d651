"""Dollars as another currency: dated rates, one's own rate, and nonsense."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UsageError
from farthing.planner.money.currency import find_currency


def test_the_rates_are_dated_and_have_a_source() -> None:
    assert find_currency("cny").per_dollar == pytest.approx(7.0197)  # China Foreign Exchange Trade System
    assert "2026-01-08" in (find_currency("CNY").note or "")
    assert find_currency("EUR").per_dollar == pytest.approx(1 / 1.14, rel=1e-3)
    assert find_currency("USD").note is None


def test_a_rate_of_ones_own_goes_before() -> None:
    mine = find_currency("CNY", 7.5)
    assert mine.text(100) == "¥750.00" and "--exchange-rate" in (mine.note or "")


@given(st.sampled_from(["USD", "EUR", "CNY"]), st.floats(1e-3, 1e7))
def test_there_and_back_is_the_same_and_rates_are_positive(code: str, dollars: float) -> None:
    currency = find_currency(code)
    assert currency.per_dollar > 0
    assert currency.dollars(dollars * currency.per_dollar) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("dollars", "text"), [(1234.5, "$1,234"), (13.837, "$13.84"), (0.0031, "$0.0031"), (0, "$0.00"), (-20, "-$20.00")]
)
def test_amounts_are_as_long_as_they_need_to_be(dollars: float, text: str) -> None:
    assert find_currency("USD").text(dollars) == text


@pytest.mark.parametrize("rate", [0.0, -7.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="--exchange-rate"):
        find_currency("CNY", rate)


def test_an_unknown_currency_names_the_known() -> None:
    with pytest.raises(UsageError, match="USD, EUR, CNY"):
        find_currency("DOGE")
    with pytest.raises(UsageError, match="dollars to dollars"):
        find_currency("USD", 2.0)

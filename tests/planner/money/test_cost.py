"""What tokens cost: per month, user, million tokens and characters, in energy, and beside an API."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UsageError
from farthing.planner.money.api_price import ApiPrice
from farthing.planner.money.characters import vocabularies
from farthing.planner.money.cost import Cost, Load, break_even_line, cost_of, cost_rows, to_json_object
from farthing.planner.money.currency import find_currency
from farthing.planner.money.monthly import SECONDS, Monthly, Part
from farthing.planner.money.power import Power

RATES = st.floats(0.1, 1e5)


def monthly(fixed: float = 900.0, load: float = 100.0) -> Monthly:
    power = Power(busy_watts=1000, idle_watts=300, pue=1.2, notes=())
    return Monthly("buy", (Part("box", fixed, ""), Part("power", load, "")), fixed, load, 1.0, 30_000.0, power, ())


def cost(output: float = 500.0, full: float = 1000.0, api: ApiPrice | None = None, users: int | None = None) -> Cost:
    return cost_of(monthly(), Load(4 * output, output, full, users), vocabulary=vocabularies()[0], api=api)


def test_a_month_a_user_and_a_million_tokens_worked_out_by_hand() -> None:
    made = cost(users=10)
    assert made.dollars_per_month == pytest.approx(950)
    assert made.dollars_per_user == pytest.approx(95)
    assert made.dollars_per_million_tokens == pytest.approx(950 / (500 * SECONDS) * 1e6)
    assert made.saturated_dollars_per_million_tokens == pytest.approx(1000 / (1000 * SECONDS) * 1e6)


def test_energy_of_a_token_is_the_site_s_watts_over_tokens_per_second() -> None:
    assert cost(1000.0).joules_per_token == pytest.approx(1.2)
    assert cost(500.0).joules_per_token == pytest.approx(1.2 * 650 / 500)
    assert cost(500.0).saturated_joules_per_token == pytest.approx(1.2)


@given(RATES, RATES)
def test_more_load_on_the_same_box_is_never_dearer_a_token(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert cost(high, 1e5).dollars_per_million_tokens <= cost(low, 1e5).dollars_per_million_tokens * (1 + 1e-9)


@given(RATES, st.floats(0.01, 1e3))
def test_at_break_even_the_box_costs_what_the_api_does(output: float, dollars: float) -> None:
    api = ApiPrice(dollars / 4, dollars)
    even = cost(output, 1e5, api).break_even
    assert even is not None
    if even.utilisation is not None and even.utilisation <= 1:
        tokens = even.utilisation * 1e5
        there = cost_of(monthly(), Load(4 * tokens, tokens, 1e5), api=api)
        assert there.break_even is not None
        assert there.dollars_per_month == pytest.approx(there.break_even.api_dollars_per_month)


def test_an_api_cheaper_than_the_power_alone_is_never_beaten() -> None:
    even = cost(api=ApiPrice(0, 0.01)).break_even
    assert even is not None and even.utilisation is None and not even.is_reached
    assert "cheaper at any load" in (break_even_line(cost(api=ApiPrice(0, 0.01)), find_currency("USD")) or "")


def test_a_dearer_api_is_beaten_earlier() -> None:
    evens = [cost(api=ApiPrice(price, price)).break_even for price in (0.5, 1, 2)]
    ratios = [even.utilisation for even in evens if even is not None and even.utilisation is not None]
    assert len(ratios) == 3 and ratios == sorted(ratios, reverse=True)


def test_chinese_costs_more_a_character_with_the_older_vocabulary() -> None:
    by_name = {one.name: one.per_million_characters(1.0) for one in vocabularies()}
    assert by_name["llama-2"]["zh"] > 1.8 * by_name["qwen2.5"]["zh"]
    assert all(found["zh"] > found["en"] for found in by_name.values())


@pytest.mark.parametrize("rates", [(1, 0, 10), (1, 1, 0), (1, math.nan, 1), (-1, 1, 1), (1, 1, math.inf)])
def test_a_load_that_is_none_is_refused(rates: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError):
        Load(*rates)
    with pytest.raises(UsageError):
        Load(1, 1, 1, users=0)


def test_json_is_in_dollars_and_the_table_in_the_currency() -> None:
    made = cost(users=5, api=ApiPrice(2.5, 10))
    keys = to_json_object(made)
    assert keys["dollars_per_month"] == pytest.approx(950)
    assert keys["against"]["input_dollars"] == 2.5
    rows = {row[0]: row[1] for row in cost_rows((made,), find_currency("CNY", 7.0))}
    assert rows["a month"] == "¥6,650" and rows["to pay at once"] == "¥210,000"
    assert rows[""] == "owned"

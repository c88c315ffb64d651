"""Dollars per hour and per million tokens: the median of dated offers, and unknown where nobody offers."""

import pytest
from round_hardware import rental, round_accelerator, round_device

from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.planner.money.price import HourlyPrice, hourly_price
from farthing.planner.timing.device import Device


def card(id: str = "round-1", *offers) -> Device:
    return round_device(id, accelerator=round_accelerator(id=id, rentals=tuple(offers)))


def test_the_price_is_the_median_of_the_offers_times_the_devices():
    device = card("round-1", rental(0.2), rental(0.9), rental(0.3))
    assert hourly_price([device], None).dollars_per_hour == pytest.approx(0.3)
    assert hourly_price([device] * 4, None).dollars_per_hour == pytest.approx(1.2)
    assert hourly_price([card("round-1", rental(1.0), rental(2.0))], None).dollars_per_hour == pytest.approx(1.5)


def test_devices_of_several_kinds_add_up():
    mixed = [card("a", rental(1.0))] * 2 + [card("b", rental(0.25))] * 4
    price = hourly_price(mixed, None)
    assert price.dollars_per_hour == pytest.approx(3.0)
    assert "a: " in price.note and "b: " in price.note


def test_what_the_user_says_goes_before_the_catalogue():
    assert hourly_price([card("a", rental(1.0))] * 8, 0.5).dollars_per_hour == 0.5
    assert hourly_price([card()], 0.0).dollars_per_hour == 0


def test_an_estimate_and_another_currency_are_no_offers():
    offers = (rental(1.0, market="estimate"), rental(7.0, currency="CNY"))
    assert hourly_price([card("a", *offers)], None).dollars_per_hour is None
    assert hourly_price([card("a", *offers, rental(2.0))], None).dollars_per_hour == 2.0


def test_one_device_without_an_offer_makes_the_whole_unknown_and_is_named():
    price = hourly_price([card("a", rental(1.0)), card("b")], None)
    assert price.dollars_per_hour is None
    assert "b: no price" in price.note and "--price-per-hour" in price.note


def test_old_offers_count_only_where_there_is_no_young_one():
    assert hourly_price([card("a", rental(9.0, "2023"), rental(1.0, "2025-03"))], None).dollars_per_hour == 1.0
    assert hourly_price([card("a", rental(9.0, "2023"), rental(7.0, "2022-01-01"))], None).dollars_per_hour == 8.0


def test_the_note_tells_range_and_dates():
    note = hourly_price([card("a", rental(1.0, "2025-03"), rental(3.0, "2026-05"))], None).note
    for part in ("median of 2", "1 to 3", "2025-03 to 2026-05"):
        assert part in note


def test_a_million_tokens_cost_what_the_hours_cost_that_they_take():
    assert HourlyPrice(3.6, "").per_million_tokens(1000.0) == pytest.approx(1.0)
    assert HourlyPrice(0.0, "").per_million_tokens(1000.0) == 0.0
    assert HourlyPrice(None, "").per_million_tokens(1000.0) is None


def test_an_rtx_4090_costs_the_median_of_its_offers_but_the_spot_one():
    """0.20 0.35 0.40 0.55 0.60 0.69; spot 0.34"""
    accelerator = load_accelerator("rtx-4090")
    device = round_device("rtx-4090", accelerator=accelerator)
    assert hourly_price([device], None).dollars_per_hour == pytest.approx(0.475)


@pytest.mark.parametrize("id", accelerator_ids())
def test_a_price_of_the_catalogue_lies_within_its_offers(id: str):
    accelerator = load_accelerator(id)
    price = hourly_price([round_device(id, accelerator=accelerator)], None)
    offers = [
        one.value
        for one in accelerator.rentals
        if one.currency == "USD" and one.market not in ("estimate", "spot") and not one.of
    ]
    assert (price.dollars_per_hour is None) == (not offers)
    assert price.dollars_per_hour is None or min(offers) <= price.dollars_per_hour <= max(offers)

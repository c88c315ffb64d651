"""What a box costs owned: parts that add up, published figures, and what can only move one way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UsageError
from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.hardware.names import parse_hardware
from farthing.planner.money.monthly import HOURS, Monthly
from farthing.planner.money.owning import own
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import price_book

BOJIE_4090 = PriceAssumptions(device_price=1600, server_price=27_200, years=3, electricity="0", pue=1.0)


def owned(name: str, asked: PriceAssumptions | None = None, nodes: int = 1) -> Monthly:
    found = own(parse_hardware(name).devices, nodes, price_book(asked))
    assert isinstance(found, Monthly), found
    return found


def test_the_article_of_2023_comes_out_40000_dollars_over_3_years_are_152_cents_an_hour() -> None:
    """facts/hardware.md 3.1 (Li Bojie): a box of 8 4090 for 40,000 $ is 1.52 $/h; one for 300,000 $ is 11.4."""
    assert owned("8x4090", BOJIE_4090).capital_dollars == 40_000
    assert owned("8x4090", BOJIE_4090).dollars_per_hour == pytest.approx(1.522, abs=0.001)
    h100 = PriceAssumptions(device_price=30_000, server_price=60_000, electricity="0")
    assert owned("8xh100-sxm", h100).dollars_per_hour == pytest.approx(11.42, abs=0.01)


@pytest.mark.parametrize(("years", "dollars"), [(3, 1.52), (4, 1.14), (5, 0.91), (6, 0.76)])
def test_the_table_of_years_of_the_facts_comes_out(years: float, dollars: float) -> None:
    """facts/hardware.md 1.3, 40,000 $ without power."""
    asked = PriceAssumptions(device_price=1600, server_price=27_200, years=years, electricity="0")
    assert owned("8x4090", asked).dollars_per_hour == pytest.approx(dollars, abs=0.005)


def test_power_of_the_facts_comes_out() -> None:
    """facts/hardware.md 1.3: 4.6 kW at 0.0929 are 43 cents an hour, the 13.84 kW of 8 H100 all-in 1.29 $; colocation
    at 184 $/kW-month adds 1.16 for 4.6 kW."""
    rig = PriceAssumptions(watts=575, pue=1.0, electricity="0.0929", space=184)
    parts = {part.name: part.dollars / HOURS for part in owned("8x4090", rig).parts}
    assert parts["power"] == pytest.approx(0.427, abs=0.001)
    assert parts["space"] == pytest.approx(1.16, abs=0.005)
    h100 = {part.name: part.dollars / HOURS for part in owned("8xh100-sxm").parts}
    assert h100["power"] == pytest.approx(1.29, abs=0.005)


def test_a_node_of_eight_h100_costs_about_what_was_asked_for_one() -> None:
    """facts/hardware.md 1.1: 310,000 and 317,000 $ with InfiniBand, 366,000 to 413,000 each in a cluster of 16."""
    assert 300_000 < owned("8xh100-sxm").capital_dollars < 330_000
    assert 366_000 < owned("16x8xh100-sxm", nodes=16).capital_dollars / 16 < 413_000


def test_the_parts_add_up_to_the_month_and_the_month_to_the_hour() -> None:
    for name in ("8x4090", "4xl40s+2x3090", "gb10", "mi300x"):
        box = owned(name, PriceAssumptions(space=100, utilisation=0.4))
        assert math.fsum(part.dollars for part in box.parts) == pytest.approx(box.dollars)
        assert box.dollars_per_hour * HOURS == pytest.approx(box.dollars)


def test_a_machine_that_is_sold_whole_needs_no_server() -> None:
    assert [part.name for part in owned("gb10").parts] == ["1x gb10", "power"]


def test_what_has_no_price_says_which_and_how_to_say_one() -> None:
    for name, reason in (
        ("maia-100", "its maker keeps it"),
        ("tpu-v5e", "can be rented, not bought"),
        ("mi325x", "say --device-price"),
        ("epyc-9654", "say --server-price"),
        ("rtx-4090d", "made for China"),
    ):
        found = own(parse_hardware(name).devices, 1, price_book())
        assert isinstance(found, str) and name in found and reason in found


@pytest.mark.parametrize("id", accelerator_ids())
def test_every_accelerator_has_a_cost_or_a_reason(id: str) -> None:
    found = own([load_accelerator(id)], 1, price_book(PriceAssumptions(market="cn")))
    if isinstance(found, Monthly):
        assert found.dollars > 0 and all(part.dollars > 0 for part in found.parts)
        assert found.power is not None and 0 < found.power.idle_watts < found.power.busy_watts
    else:
        assert id in found


cents = st.floats(0, 2)


@given(low=cents, high=cents)
def test_cheaper_electricity_is_never_dearer(low: float, high: float) -> None:
    low, high = sorted((low, high))
    boxes = [owned("8x4090", PriceAssumptions(electricity=f"{price:f}")) for price in (low, high)]
    assert boxes[0].dollars <= boxes[1].dollars


@given(st.floats(0.1, 30), st.floats(0.1, 30))
def test_a_longer_depreciation_is_never_dearer_a_month(one: float, other: float) -> None:
    short, long = sorted((one, other))
    dear, cheap = (owned("8x4090", PriceAssumptions(years=years)) for years in (short, long))
    assert cheap.dollars <= dear.dollars
    assert cheap.capital_dollars == dear.capital_dollars


@given(st.integers(1, 64), st.integers(1, 64))
def test_more_devices_are_never_cheaper_to_own(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert owned(f"{few}x4090").dollars <= owned(f"{many}x4090").dollars


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_busier_box_draws_more_power_and_costs_less_for_what_it_does(one: float, other: float) -> None:
    low, high = sorted((one, other))
    box = owned("8x4090")
    assert box.dollars_at(low) <= box.dollars_at(high)
    assert box.dollars_at(high) / high <= box.dollars_at(low) / low * (1 + 1e-12)


def test_a_dearer_night_counts_as_much_as_its_hours() -> None:
    flat = owned("8x4090", PriceAssumptions(electricity="0.10"))
    halves = owned("8x4090", PriceAssumptions(electricity="0-12:0.05,12-24:0.15"))
    assert halves.dollars == pytest.approx(flat.dollars)


@pytest.mark.parametrize(
    "flags",
    [
        {"device_price": -1.0},
        {"years": 0.0},
        {"years": -3.0},
        {"pue": 0.9},
        {"utilisation": 0.0},
        {"utilisation": 1.1},
        {"watts": math.nan},
        {"server_price": math.inf},
        {"space": -1.0},
        {"exchange_rate": 0.0},
        {"market": "atlantis"},
        {"buy": True, "rent": True},
    ],
)
def test_what_makes_no_sense_is_refused(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PriceAssumptions(**flags)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["-0.1", "nan", "inf", "cheap", "0-7:0.05", "0-24:0.1,3-4:0.2", "7-0:0.1", "0-25:0.1", "0-24:-1", ""]
)
def test_a_tariff_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        price_book(PriceAssumptions(electricity=text))

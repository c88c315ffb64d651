"""Flags, then the file, then dated defaults - and a file with a mistake names it."""

from pathlib import Path

import pytest

from farthing.errors import UsageError
from farthing.hardware.names import parse_hardware
from farthing.planner.money.price import BoxPrice, box_price
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import price_book
from farthing.planner.money.price_data import owning_figures, per_device_kw

FILE = """
years = 4
electricity = { "0-8" = 0.05, "8-24" = 0.14 }
space = 120
buy = true
[devices.rtx-4090]
price = 1900
rental = 0.31
watts = 400
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def priced(asked: PriceAssumptions, name: str = "8x4090") -> BoxPrice:
    return box_price(parse_hardware(name).devices, 1, price_book(asked))


def test_a_file_goes_before_the_defaults_and_flags_before_the_file(file: Path) -> None:
    book = price_book(PriceAssumptions(prices=str(file)))
    assert (book.years, book.space, book.way) == (4, 120, "buy")
    assert book.tariff.mean == pytest.approx((8 * 0.05 + 16 * 0.14) / 24)
    flagged = price_book(PriceAssumptions(prices=str(file), years=6, rent=True))
    assert (flagged.years, flagged.space, flagged.way) == (6, 120, "rent")


def test_prices_of_ones_own_go_before_the_catalogue(file: Path) -> None:
    mine = priced(PriceAssumptions(prices=str(file), server_price=0, electricity="0", space=0))
    assert not isinstance(mine.buy, str) and not isinstance(mine.rent, str)
    assert mine.buy.capital_dollars == 8 * 1900
    assert mine.rent.dollars_per_hour == pytest.approx(8 * 0.31)
    assert mine.buy.power is not None and mine.buy.power.busy_watts == 8 * 400


def test_what_nobody_said_is_noted_with_its_source_and_what_was_said_is_not() -> None:
    assert "BOJIE" in price_book().notes["years"] and "EIA" in price_book().notes["electricity"]
    assert set(price_book(PriceAssumptions(years=5, electricity="0.1")).notes) == {"pue", "utilisation"}


def test_every_default_has_a_date_and_a_source_or_is_called_assumed() -> None:
    for figure in (*owning_figures().values(), *per_device_kw().values()):
        assert figure.date and (figure.sources or figure.assumed)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("yeers = 4", "yeers"),
        ("years = true", "years"),
        ("years = 0", "--years"),
        ("years = nan", "--years"),
        ('market = "moon"', "--market"),
        ("electricity = -1", "--electricity"),
        ("electricity = []", "electricity"),
        ("devices = 3", "devices"),
        ("[devices.rtx-40900]\nprice = 1", "rtx-40900"),
        ("[devices.rtx-4090]\nprize = 1", "prize"),
        ("[devices.rtx-4090]\nprice = -1", "price"),
        ("[devices.rtx-4090]\nprice = nan", "price"),
        ("years =", "TOML"),
    ],
)
def test_a_file_with_a_mistake_names_file_and_key(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=names):
        price_book(PriceAssumptions(prices=str(path)))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        price_book(PriceAssumptions(prices="nowhere.toml"))


def test_both_ways_stand_side_by_side_and_the_cheaper_is_chosen() -> None:
    both = priced(PriceAssumptions())
    assert not isinstance(both.buy, str) and not isinstance(both.rent, str)
    assert both.chosen is min((both.buy, both.rent), key=lambda way: way.dollars)
    assert priced(PriceAssumptions(rent=True)).chosen is not None
    assert priced(PriceAssumptions(rent=True)).chosen.way == "rent"  # type: ignore[union-attr]
    assert priced(PriceAssumptions(buy=True)).hourly.dollars_per_hour == pytest.approx(both.buy.dollars_per_hour)


def test_a_way_without_a_price_is_told_and_the_other_is_chosen() -> None:
    rented = priced(PriceAssumptions(), "tpu-v5e")
    assert rented.chosen is not None and rented.chosen.way == "rent"
    assert priced(PriceAssumptions(buy=True), "tpu-v5e").chosen is None
    assert "can be rented, not bought" in priced(PriceAssumptions(buy=True), "tpu-v5e").hourly.note
    assert priced(PriceAssumptions(), "maia-200").hourly.dollars_per_hour is None


def test_what_the_user_says_of_the_whole_box_goes_before_both() -> None:
    said = box_price(parse_hardware("maia-200").devices, 1, price_book(), 2.5)
    assert said.hourly.dollars_per_hour == pytest.approx(2.5)
    assert said.chosen is not None and said.chosen.dollars == pytest.approx(2.5 * 730)


def test_from_so_many_hours_a_day_on_owning_is_the_cheaper() -> None:
    both = priced(PriceAssumptions())
    hours = both.even_hours_per_day
    assert hours is not None and 0 < hours < 24
    assert not isinstance(both.buy, str) and not isinstance(both.rent, str)
    assert both.buy.dollars_at(hours / 24) == pytest.approx(both.rent.dollars * hours / 24)
    assert priced(PriceAssumptions(device_price=1e6)).even_hours_per_day is None


def test_the_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "prices.md").read_text(encoding="utf-8")
    path = tmp_path / "prices.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    book = price_book(PriceAssumptions(prices=str(path)))
    assert (book.years, book.utilisation, book.currency.code) == (4, 0.6, "EUR")
    assert book.devices["rtx-4090"].rental == 0.31
    for figure in ("server_cards_1", "server_cards_4", "server_cards_8", "server_board_8", "network_board"):
        assert f"${owning_figures()[figure].value:,.0f}" in page, figure

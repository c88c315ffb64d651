"""What is to be had where, what law says of it, and that nothing is said that nobody looked up."""

import pytest

from farthing.errors import UsageError
from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.planner.money.law import NOT_ADVICE, is_lawful, legal_notes
from farthing.planner.money.market import availability, find_market, is_available, offers, rentals, sales
from farthing.planner.money.price_assumptions import MARKETS

EVERY = [(id, market) for id in accelerator_ids() for market in MARKETS]


def export(id: str, market: str) -> str:
    return legal_notes(load_accelerator(id), market)[0].line


def test_every_market_has_its_currency_and_electricity() -> None:
    markets = [find_market(code) for code in MARKETS]
    assert [one.currency for one in markets] == ["USD", "EUR", "CNY"]
    assert all(0.02 < one.electricity_dollars < 0.5 for one in markets)
    with pytest.raises(UsageError, match="us, eu, cn"):
        find_market("moon")


def test_a_chinese_price_is_china_s_though_it_stands_in_dollars() -> None:
    card = load_accelerator("rtx-4090")
    assert sales(card, "cn").dollars == 2000  # 13,000 to 16,000 yuan (facts/hardware.md 1.1)
    assert sales(card, "us").dollars == 1417.2
    assert sales(load_accelerator("rtx-5090d-v2"), "cn").dollars == 2299


def test_where_a_market_has_no_price_another_s_is_told_as_such() -> None:
    found = rentals(load_accelerator("rtx-4090"), "cn")
    assert found.elsewhere == "us" and found.dollars == pytest.approx(0.475)


def test_modified_and_d_cards_are_china_s() -> None:
    for id in ("rtx-4090-48g", "rtx-4090d-48g", "rtx-4090d", "rtx-5090d-v2", "h20", "ascend-910b"):
        card = load_accelerator(id)
        assert availability(card, "cn").bought, id
        assert not availability(card, "us").bought, id
        assert is_available(card, "cn"), id
    assert any("warranty" in line for line in availability(load_accelerator("rtx-4090-48g"), "cn").why)


def test_what_can_t_be_had_is_proposed_only_when_all_is_asked_for() -> None:
    kept = load_accelerator("maia-200")
    assert not is_available(kept, "us") and is_available(kept, "us", include_all=True)
    assert not is_available(load_accelerator("rtx-4090d"), "eu")


def test_law_is_told_with_date_and_source() -> None:
    assert export("rtx-4090", "cn").startswith("export: US export to China needs a licence since 17 October 2023")
    assert "(SEC8K, 2023-10-17)" in export("rtx-4090", "cn")
    assert "BIS26" in export("h200-sxm", "cn")
    [customs] = [note for note in legal_notes(load_accelerator("h200-sxm"), "cn") if note.kind == "import"]
    assert customs.barred and "2026-01-16" in customs.line
    [licence] = [note for note in legal_notes(load_accelerator("rtx-5090"), "us") if note.kind == "licence"]
    assert "datacenter" in licence.text and "GEFORCE" in licence.sources
    assert NOT_ADVICE == "not legal advice"


def test_law_filters_only_when_asked() -> None:
    banned, allowed = load_accelerator("h100-sxm"), load_accelerator("rtx-4090d")
    assert is_available(banned, "cn") and not is_available(banned, "cn", legal_only=True)
    assert is_available(allowed, "cn", legal_only=True)
    assert is_available(banned, "us", legal_only=True)


def test_what_nobody_looked_up_is_unknown() -> None:
    assert export("m3-ultra", "cn").startswith("export: unknown")
    assert export("h100-sxm", "eu") == "export: unknown"
    assert is_lawful(load_accelerator("m3-ultra"), "cn") is None


@pytest.mark.parametrize(("id", "market"), EVERY)
def test_every_note_has_date_and_source_or_says_unknown(id: str, market: str) -> None:
    accelerator = load_accelerator(id)
    notes = legal_notes(accelerator, market)
    assert [note.kind for note in notes] == ["export", "import", "licence"]
    for note in notes:
        assert (note.date and note.sources) or note.text.startswith(("unknown", "none"))
    for found in offers(accelerator, market):
        assert found.dollars is None or found.dollars > 0

"""The article's claims, each against arithmetic done here, and the page against the program that writes it."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts" / "write_article.py"
GIB = 2**30
USABLE_4090 = 25_757_220_864  # nvidia-smi: 24,564 MiB
PARAMETERS_70B = 68_976_648_192


@pytest.fixture(scope="module")
def article():
    spec = importlib.util.spec_from_file_location("write_article", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["write_article"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["write_article"]


@pytest.fixture(scope="module")
def page(article) -> str:
    return article.page()


def test_the_page_is_what_the_program_writes(article, page: str):
    assert article.PAGE.read_text(encoding="utf-8") == page, "run python scripts/write_article.py"


def test_grouped_queries_keep_an_eighth_of_the_cache(article):
    cache = article.kv_cache(8)
    assert cache.bytes_per_token == 80 * 2 * 8 * 128 * 2 == 327_680
    assert cache.ungrouped_bytes == 8 * 4096 * 80 * 2 * 64 * 128 * 2 == 85_899_345_920
    assert cache.grouped_bytes == 85_899_345_920 // 8


def test_the_cache_saves_640_times_2_to_the_40_operations_8192_per_byte(article):
    """K and V of every token: 80 layers x 2 products x 2 x 8192 x 8192 operations, for 8 x 4,096 tokens."""
    cache = article.kv_cache(8)
    assert cache.saved_flops == 8 * 4096 * 80 * 2 * 2 * 8192 * 8192 == 640 * 2**40
    assert cache.saved_flops / cache.ungrouped_bytes == 8192
    assert cache.grouped_saved_flops == 80 * 2**40
    assert cache.grouped_saved_flops / cache.grouped_bytes == 8192


def test_7b_takes_13_48_gb(article):
    embeddings, layer = 2 * 32000 * 4096, 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    assert article.spec_of("llama-2-7b").weight_bytes == 2 * (embeddings + 32 * layer + 4096)
    assert round(article.spec_of("llama-2-7b").weight_bytes / 1e9, 2) == 13.48


def test_13b_fits_a_4090_in_int8_only(article):
    weights = article.spec_of("llama-2-13b").weight_bytes
    assert (round(weights / GIB, 2), round(USABLE_4090 / GIB, 2)) == (24.24, 23.99)
    assert not article.plan_of("llama-2-13b", "rtx-4090", format="fp16").fits
    assert article.plan_of("llama-2-13b", "rtx-4090", format="int8").fits


def test_ratios_of_the_cards(article):
    """989.5 TFLOP/s and 3.35 TB/s against 165.2 (sums in fp32) or 330.3 (in fp16) and 1.008."""
    ratios = article.ratios()
    assert round(ratios["h100_compute_fp32_accumulate"], 2) == 5.99
    assert round(ratios["h100_compute_fp16_accumulate"], 2) == 3.00
    assert round(ratios["h100_bandwidth"], 2) == 3.32


def test_70b_does_not_fit_five_cards(article):
    weights = article.spec_of("llama-2-70b").weight_bytes
    assert weights == 2 * PARAMETERS_70B
    assert (round(weights / GIB, 1), round(5 * USABLE_4090 / GIB, 1)) == (128.5, 119.9)
    plan = article.cards_of_70b()[5]
    assert not plan.fits and plan.placement.layout.pp == 5


LAYER_70B = 2 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192)
END_70B = 2 * 32000 * 8192  # embedding or head


def test_70b_fits_six_with_under_1_7_gib_left_on_the_fullest(article):
    """13 or 14 layers a card: the fullest ends are an embedding or the head with 13, the middle ones 14."""
    plan = article.cards_of_70b()[6]
    assert plan.fits
    left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in plan.placement.ranks]
    fullest = max(14 * LAYER_70B, 13 * LAYER_70B + END_70B)
    assert min(left) == pytest.approx(USABLE_4090 - fullest, abs=2**20)
    assert 0 < min(left) < 1.7 * GIB


def test_eight_leave_7_9_gib_a_card(article):
    plan = article.cards_of_70b()[8]
    left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in plan.placement.ranks]
    assert sum(left) == 8 * USABLE_4090 - 2 * PARAMETERS_70B
    assert round(sum(left) / 8 / GIB, 1) == 7.9


def test_how_many_sequences_each_holds_is_printed(article, page: str):
    """KV of a sequence on one of n stages: 4,096 tokens of 4,096 bytes a layer; the card with least room decides."""
    for count, plan in article.cards_of_70b().items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {count} | ")]
        held = row.rstrip(" |").rpartition("| ")[2]
        if not plan.fits:
            assert held == "does not fit"
            continue
        rooms = [
            (rank.memory.budget_bytes - rank.memory.weights_bytes - rank.memory.activation_bytes - 600 * 2**20)
            // (4096 * 4096 * rank.num_layers)
            for rank in plan.placement.ranks
        ]
        assert int(held) == min(rooms) == plan.placement.num_sequences > 0


def test_eight_4090_do_not_train_70b(article, page: str):
    """16 bytes a parameter (weights, gradients, fp32 weights and two moments) are 1,028 GiB of 192."""
    states = 16 * PARAMETERS_70B
    assert round(states / GIB) == 1028 and states > 5 * 8 * USABLE_4090
    assert "training llama-2-70b does not fit 8x rtx-4090" in page
    assert "1,028 GiB" in page


def test_the_page_prints_the_figures_of_the_issue(page: str):
    for figure in (
        "327,680 B",
        "85,899,345,920 B",
        "640 x 2^40",
        "8,192 per byte",
        "13.48 GB",
        "24.24 GiB of 23.99 GiB",
    ):
        assert figure in page, figure
    for figure in ("5.99", "3.00", "3.32", "128.48 GiB", "119.94 GiB", "7.93 GiB"):
        assert figure in page, figure


def test_every_figure_of_speed_on_the_page_rests_on_an_assumption_that_it_names(article, page: str):
    basis = page.partition("## What this rests on")[2]
    plans = [*article.boxes(*article.LENGTHS[0]).values(), *article.cards_of_70b().values()]
    assert [note for plan in plans for note in plan.assumptions if f"- {note}\n" not in basis] == []
    assert "Forecasts, not measurements" in basis

"""The article's claims, each against arithmetic done here, and the pages against the program that writes them."""

import importlib
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))
write_article = importlib.import_module("write_article")
plans = importlib.import_module("article.plans")
memory = importlib.import_module("article.claims_memory")
speed = importlib.import_module("article.claims_speed")
money = importlib.import_module("article.claims_money")
pages = importlib.import_module("article.page")
sys.path.remove(str(REPOSITORY / "scripts"))

GIB = 2**30
USABLE_4090 = 25_757_220_864  # nvidia-smi: 24,564 MiB
PARAMETERS_70B = 68_976_648_192
BASIS = {"en": "## What this rests on", "zh": "## 这些数字的依据"}


@pytest.fixture(scope="module")
def page() -> str:
    return write_article.page("en")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_is_what_the_program_writes(language: str) -> None:
    written = write_article.PAGES[language].read_text(encoding="utf-8")
    assert written == write_article.page(language), "run python scripts/write_article.py"


def test_both_pages_have_the_same_figures_in_the_same_order() -> None:
    figures = {}
    for language, title in BASIS.items():
        text, found, notes = write_article.page(language).partition(title)
        assert found
        figures[language] = (re.findall(r"\d[\d,.]*\d|\d", text), len(notes.splitlines()))
    assert len(figures["en"][0]) > 1000
    assert figures["en"] == figures["zh"]


def test_both_pages_have_the_same_commands() -> None:
    commands = [re.findall(r"`([^`\n]+)`", write_article.page(language)) for language in BASIS]
    assert commands[0] == commands[1]


def test_grouped_queries_keep_an_eighth_of_the_cache() -> None:
    cache = memory.kv_cache(8)
    assert cache.bytes_per_token == 80 * 2 * 8 * 128 * 2 == 327_680
    assert cache.ungrouped_bytes == 8 * 4096 * 80 * 2 * 64 * 128 * 2 == 85_899_345_920
    assert cache.grouped_bytes == 85_899_345_920 // 8


def test_the_cache_saves_640_times_2_to_the_40_operations_8192_per_byte() -> None:
    """K and V of every token: 80 layers x 2 products x 2 x 8192 x 8192 operations, for 8 x 4,096 tokens."""
    cache = memory.kv_cache(8)
    assert cache.saved_flops == 8 * 4096 * 80 * 2 * 2 * 8192 * 8192 == 640 * 2**40
    assert cache.saved_flops / cache.ungrouped_bytes == 8192
    assert cache.grouped_saved_flops == 80 * 2**40
    assert cache.grouped_saved_flops / cache.grouped_bytes == 8192


def test_7b_takes_13_48_gb() -> None:
    embeddings, layer = 2 * 32000 * 4096, 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    weights = plans.spec_of("llama-2-7b").weight_bytes
    assert weights == 2 * (embeddings + 32 * layer + 4096)
    assert round(weights / 1e9, 2) == 13.48


def test_13b_fits_a_4090_in_int8_only() -> None:
    weights = plans.spec_of("llama-2-13b").weight_bytes
    assert (round(weights / GIB, 2), round(USABLE_4090 / GIB, 2)) == (24.24, 23.99)
    assert not plans.plan_of("llama-2-13b", "rtx-4090", format="fp16").fits
    assert plans.plan_of("llama-2-13b", "rtx-4090", format="int8").fits


def test_ratios_of_the_cards() -> None:
    """989.5 TFLOP/s and 3.35 TB/s against 165.2 (sums in fp32) or 330.3 (in fp16) and 1.008; 31.5 GB/s against 300."""
    ratios = speed.ratios()
    assert round(ratios["compute_fp32"], 2) == 5.99
    assert round(ratios["compute_fp16"], 2) == 3.00
    assert round(ratios["bandwidth"], 2) == 3.32
    assert round(ratios["a100_link"], 2) == round(300 / 31.5, 2)


def test_70b_does_not_fit_five_cards() -> None:
    weights = plans.spec_of("llama-2-70b").weight_bytes
    assert weights == 2 * PARAMETERS_70B
    assert (round(weights / GIB, 1), round(5 * USABLE_4090 / GIB, 1)) == (128.5, 119.9)
    plan = memory.pipeline(5)
    assert not plan.fits and plan.placement.layout.pp == 5
    assert memory.fewest_cards() == 6


LAYER_70B = 2 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192)
END_70B = 2 * 32000 * 8192  # embedding or head


def test_70b_fits_six_with_under_1_7_gib_left_on_the_fullest() -> None:
    """13 or 14 layers a card: the fullest ends are an embedding or the head with 13, the middle ones 14."""
    plan = memory.pipeline(6)
    assert plan.fits
    left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in plan.placement.ranks]
    fullest = max(14 * LAYER_70B, 13 * LAYER_70B + END_70B)
    assert min(left) == pytest.approx(USABLE_4090 - fullest, abs=2**20)
    assert 0 < min(left) < 1.7 * GIB


def test_eight_leave_7_9_gib_a_card() -> None:
    left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in memory.pipeline(8).placement.ranks]
    assert sum(left) == 8 * USABLE_4090 - 2 * PARAMETERS_70B
    assert round(sum(left) / 8 / GIB, 1) == 7.9


def test_how_many_sequences_each_holds_is_printed(page: str) -> None:
    """KV of a sequence on one of n stages: 4,096 tokens of 4,096 bytes a layer; the card with least room decides."""
    for count in memory.CARDS:
        plan = memory.pipeline(count)
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


def test_eight_4090_do_not_train_70b() -> None:
    """16 bytes a parameter (weights, gradients, fp32 weights and two moments) are 1,028 GiB of 192."""
    states = 16 * PARAMETERS_70B
    assert round(states / GIB) == 1028 and states > 5 * 8 * USABLE_4090
    made = plans.training_of("llama-2-70b", "8x rtx-4090")
    assert not made.fits and made.states_bytes == states


def test_messages_of_the_degree_at_which_they_even_take_as_long_as_computing() -> None:
    """At degree n messages of a rank are (n - 1) / n of the payload twice, its computing 1 / n: the ratio is linear in
    n - 1, and 1 at the printed degree."""
    for on in ("8x rtx-4090", "8x h100-sxm"):
        ratio = plans.training_of("llama-2-70b", on).time.ways["tensor parallel 8"]
        assert ratio * (money.degree_of(on) - 1) / 7 == pytest.approx(1)


def test_the_page_prints_the_figures_of_the_issue(page: str) -> None:
    for figure in (
        "327,680 B",
        "85,899,345,920 B",
        "640 x 2^40",
        "8,192 a byte",
        "13.48 GB",
        "24.24 GiB of 23.99 GiB",
    ):
        assert figure in page, figure
    for figure in ("5.99", "3.00", "3.32", "128.48 GiB", "119.94 GiB", "7.93 GiB", "1,028 GiB"):
        assert figure in page, figure


def test_every_figure_of_speed_of_the_two_boxes_rests_on_an_assumption_that_the_page_names(page: str) -> None:
    basis = page.partition(BASIS["en"])[2]
    boxes = (plans.STOCK, plans.PATCHED, plans.H100)
    notes = [note for box in boxes for note in plans.box_plan(plans.ARTICLE, box).assumptions]
    assert [note for note in notes if f"- {note}\n" not in basis] == []
    assert "Forecasts, not measurements" in basis


def test_memory_and_not_a_limit_of_sequences_ends_the_batch_of_a_box() -> None:
    for load in plans.LOADS:
        for box in (plans.STOCK, plans.PATCHED, plans.H100):
            plan = plans.box_plan(load, box)
            for choice in plan.choices:
                limit = plan.request.max_num_seqs
                assert choice.full.batch < limit * choice.placement.layout.replicas or limit == plans.LIMITS[-1]

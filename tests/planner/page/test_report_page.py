"""What the report of a plan shows, and its page: sections, languages, escaping. Without matplotlib."""

import re
import sys
from subprocess import run

import pytest
from plan_pages import DAY, HOSTILE, Reader, assert_needs_nothing_else, made, read
from round_hardware import one_node, round_accelerator, round_device, tiny_config

from farthing.errors import UsageError
from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.hardware import find_hardware
from farthing.planner.money.offers import Offers
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import price_book
from farthing.planner.page.document import page_html, report_html
from farthing.planner.page.html import Html, element
from farthing.planner.page.report_page import ReportPage, command_of, report_page
from farthing.planner.page.report_sources import request_of, way_of
from farthing.planner.page.words import LANGUAGES, words_of
from farthing.planner.plan import make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.search.candidates import Descriptions, targets_of
from farthing.planner.search.loads import demand_of
from farthing.planner.search.search import search


def page_of(model: str, on: str, **asked: object) -> ReportPage:
    plan, config, hardware = made(model, on, **asked)
    return report_page(plan, DAY, config=config, hardware=hardware)


def written(page: ReportPage, language: str = "en") -> Reader:
    return read(page_html(page, words_of(language)))


def test_a_plan_that_fits_is_told_whole():
    page = page_of("llama-3.1-8b", "rtx-4090", batch=4)
    text = written(page).text
    for heading in ("Where the memory goes", "How fast", "Where the time goes", "What would make it better"):
        assert heading in text
    for heading in ("What it costs", "What moves the answer", "The length of prompts", "What this rests on"):
        assert heading in text
    assert "llama-3.1-8b on 1x rtx-4090" in text
    assert "Fits" in text and "Does not fit" not in text
    assert "farthing plan llama-3.1-8b --on rtx-4090 --batch 4" in text
    assert f"{page.plan.placement.kv_tokens:,}" in text
    assert "Data sheet: GeForce RTX 4090" in text and DAY in text


def test_what_does_not_fit_says_what_is_missing_and_what_would_fit():
    page = page_of("llama-3.1-405b", "4x4090")
    (group,) = page.memory
    assert group.missing_bytes == page.plan.placement.shortfall_bytes > 0
    text = written(page).text
    assert "Does not fit" in text and "28.70 GiB" in text
    assert "What would fit" in text and "11x rtx-4090 in a pipeline" in text
    assert "How fast" not in text and "What it costs" not in text
    assert page.curves == () and page.levers == () and page.roof is None


def test_devices_that_hold_the_same_share_a_bar_and_every_byte_is_shown():
    page = page_of("llama-3.1-70b", "4x4090+4x3090", pp=8, format="bf16")
    assert [(group.device, group.devices, group.stages) for group in page.memory] == [
        ("rtx-4090", "0", "1"),
        ("rtx-4090", "1–3", "2–4"),
        ("rtx-3090", "4–6", "5–7"),
        ("rtx-3090", "7", "8"),
    ]
    for group in page.memory:
        parts = group.weights_bytes + group.kv_bytes + group.activation_bytes + group.reserve_bytes
        assert parts + group.free_bytes == group.usable_bytes
    assert sum(group.count for group in page.memory) == 8


def test_the_curve_goes_from_one_request_to_what_memory_holds():
    page = page_of("llama-3.1-70b", "4x4090", batch=5)
    first = page.curves[0]
    batches = [point.batch for point in first.points]
    assert batches == sorted(set(batches)) and batches[0] == 1 and batches[-1] == page.plan.best.full.batch
    assert 5 in batches
    assert len(page.curves) == 3 and len({curve.layout for curve in page.curves}) == 3
    assert first.points[-1].speed == page.plan.best.full


@pytest.mark.parametrize("on", ["rtx-4090", "h100-sxm", "4xrtx-4090", "2xh100-sxm"])
def test_no_step_lies_above_the_roof_of_its_device(on: str):
    page = page_of("llama-3.1-8b", on, batch=8, format="bf16")
    roof = page.roof
    assert roof is not None
    assert {point.phase for point in roof.points} == {"prefill", "decode"}
    for point in roof.points:
        assert point.flops_per_second <= 1.001 * min(roof.ceiling.rate, point.intensity * roof.ceiling.bandwidth)


def test_a_decode_step_moves_right_with_the_batch():
    roof = page_of("llama-3.1-8b", "rtx-4090", batch=8).roof
    assert roof is not None
    decode = [point for point in roof.points if point.phase == "decode"]
    assert [point.batches[0] for point in decode] == sorted(point.batches[0] for point in decode)
    assert [point.intensity for point in decode] == sorted(point.intensity for point in decode)


def test_an_unknown_price_is_said_and_the_levers_are_in_tokens():
    page = page_of("llama-3.1-8b", "ascend-910b")
    assert page.costs == () and page.costs_unknown
    assert {lever.name for lever in page.levers} == {"batch", "prompt", "answer"}
    text = written(page).text
    assert "The price is not known." in text and "Output tokens per second with the memory full" in text
    assert "nan" not in text.lower().split() and "None" not in text


def test_a_price_that_was_said_is_the_one_that_is_shown():
    page = page_of("llama-3.1-8b", "rtx-4090", price_per_hour=2.0)
    text = written(page).text
    assert "as said" in text and "$2.00" in text and "$1,460" in text
    (price,) = [lever for lever in page.levers if lever.name == "price"]
    assert [end.moved_to for end in price.ends] == [1.0, 4.0]


def test_owning_and_renting_stand_beside_each_other():
    page = page_of("llama-3.1-70b", "4x4090")
    assert {cost.monthly.way for cost in page.costs} == {"buy", "rent"}
    for cost in page.costs:
        assert sum(part.dollars for part in cost.monthly.parts) == pytest.approx(cost.monthly.dollars)
    text = written(page).text
    assert "owned" in text and "rented" in text and "1 server" in text


def test_amounts_are_in_the_currency_of_the_prices():
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    book = price_book(PriceAssumptions(currency="CNY", exchange_rate=7.0))
    text = written(report_page(plan, DAY, config=config, hardware=hardware, book=book)).text
    assert plan.price.dollars_per_hour is not None
    assert f"¥{plan.price.dollars_per_hour * 7:.2f} per hour" in text
    assert "$" not in text.split("What the parts rest on")[0]


def test_each_way_stands_beside_the_api_that_was_named():
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    book = price_book(PriceAssumptions(against="api:0.1/0.5", utilisation=0.2))
    page = report_page(plan, DAY, config=config, hardware=hardware, book=book)
    for cost in page.costs:
        assert sum(part.dollars for part in cost.monthly.parts_at(cost.busy)) == pytest.approx(cost.dollars_per_month)
    for language, sentence in (("en", "output tokens a day"), ("zh", "token 时持平")):
        assert written(page, language).text.count(sentence) == len(page.costs) == 2
    assert "API" not in written(page_of("llama-3.1-8b", "rtx-4090")).text


def test_a_mixture_of_experts_is_plan_only():
    page = page_of("mixtral-8x7b", "2x4090")
    text = written(page).text
    assert "plan only" in text and "the engine does not run this family yet" in text


def test_a_longer_prompt_leaves_room_for_fewer():
    rows = [row for row in page_of("llama-3.1-8b", "rtx-4090").lengths if row.full is not None]
    batches = [row.full.batch for row in rows if row.full is not None]
    assert batches == sorted(batches, reverse=True)
    assert sum(row.is_asked for row in rows) == 1


def test_the_command_asks_the_same_again():
    plan, _, _ = made("llama-3.1-8b", "rtx-4090", batch=3, p2p=False, price_per_hour=0.25, input_tokens=700)
    assert command_of(plan) == (
        "farthing plan llama-3.1-8b --on rtx-4090 --batch 3 --input-tokens 700 --no-p2p --price-per-hour 0.25"
    )


def test_both_languages_have_the_same_words_with_the_same_gaps():
    english, chinese = words_of("en"), words_of("zh")
    assert set(LANGUAGES) == {"en", "zh"}
    assert list(english.texts) == list(chinese.texts)
    for key, text in english.texts.items():
        if key != "remedy.detail":  # what the planner says in English, which Chinese says by its flag alone
            assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", chinese.texts[key])), key


@pytest.mark.parametrize(
    ("model", "on"), [("llama-3.1-70b", "4x4090"), ("llama-3.1-405b", "4x4090"), ("mixtral-8x7b", "2x4090")]
)
def test_the_chinese_page_has_the_same_numbers(model: str, on: str):
    page = page_of(model, on)
    number = re.compile(r"\$?[\d,.]+%?( [A-Za-zµ/]+)?")
    english, chinese = written(page), written(page, "zh")
    tables = [
        [text for text in reader.texts if text.strip() and number.fullmatch(text.strip())]
        for reader in (english, chinese)
    ]
    assert tables[0] == tables[1] and len(tables[0]) > 5
    assert ("html", "lang", "zh-CN") in chinese.attributes and ("html", "lang", "en") in english.attributes
    assert "内存分布" in chinese.text and "Where the memory goes" not in chinese.text


def test_sentences_that_are_known_are_told_in_chinese_and_others_as_they_are():
    words = words_of("zh")
    assert words.note("rtx-4090: no offer to rent it is known") == "rtx-4090：没有已知的租赁报价"
    assert words.note("a sentence that nobody knows") == "a sentence that nobody knows"
    assert words_of("en").note("rtx-4090: can be rented, not bought") == "rtx-4090: can be rented, not bought"
    for pattern, translated in words.notes:
        used = {int(number) for number in re.findall(r"\\(\d)", translated)}
        assert max(used, default=0) <= pattern.groups, pattern.pattern


def test_another_language_is_a_mistake():
    with pytest.raises(UsageError, match="use en or zh"):
        words_of("fr")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("on", ["rtx-4090", "8x4090"])
def test_the_page_needs_nothing_else(language: str, on: str):
    plan, config, _ = made("llama-3.1-70b", on)
    assert_needs_nothing_else(report_html(plan, language, DAY, config))


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_from_outside_stay_text(language: str):
    request = PlanRequest(on="here", context=1024)
    hardware = one_node(round_device(HOSTILE, accelerator=round_accelerator(id=HOSTILE, name=HOSTILE)))
    config = tiny_config()
    plan = make_plan(HOSTILE, config, hardware, request)
    page = report_page(plan, HOSTILE, config=config, hardware=hardware)
    html = page_html(page, words_of(language))
    assert_needs_nothing_else(html)
    assert "<script" not in html and HOSTILE in read(html).text


def test_a_text_is_escaped_and_html_is_not():
    assert element("p.a.b", ["<", Html("<b>x</b>")], {"title": '"&'}) == (
        '<p class="a b" title="&quot;&amp;">&lt;<b>x</b></p>'
    )


def test_the_same_plan_gives_the_same_page():
    pages = [report_html(made("llama-3.1-8b", "rtx-4090")[0], "en", DAY) for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_page_is_written_without_matplotlib_torch_and_numpy():
    code = (
        "import sys; import farthing.planner.page.document, farthing.cli.report_flags; "
        "sys.exit(len({'matplotlib', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_report_of_a_search_is_its_winners_and_shows_the_others():
    config = config_of(find_model("qwen2.5-7b"))
    demand, slo = demand_of(32_768, users=8, workload="chat")
    found = search(
        "qwen2.5-7b", Descriptions(config), targets_of("rtx-4090,h100-sxm"), demand, slo, Offers(price_book())
    )
    way = way_of(found)
    assert way is not None
    winner = found.best(way)
    assert winner is not None
    request = request_of(winner, demand, PlanRequest(on="any"))
    assert (request.engine, request.max_num_seqs) == (winner.configuration.engine, winner.max_num_seqs)
    assert (request.input_tokens, request.output_tokens, request.context) == (1020, 338, demand.longest)
    hardware = find_hardware(request)
    plan = make_plan("qwen2.5-7b", config, hardware, request)
    page = report_page(plan, DAY, config=config, hardware=hardware, search=found)
    assert page.options[0].is_chosen
    prices = [option.dollars_per_month for option in page.options]
    assert prices == sorted(prices) and len({option.name for option in page.options}) > 1
    assert len([option for option in page.options if option.on_front]) == len(found.front(way))
    assert "Other ways to do it" in written(page).text and "h100-sxm" in written(page).text

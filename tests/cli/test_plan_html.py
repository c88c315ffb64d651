"""The files that --html, --plot and --lang of `farthing plan` write."""

import builtins
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plan_pages import DAY, HOSTILE, assert_needs_nothing_else, made, read
from round_hardware import one_node, round_accelerator, round_device, tiny_config

from farthing import discover
from farthing.cli.report_flags import ReportFlags, check, write_reports
from farthing.errors import FarthingError, MissingExtraError, UsageError
from farthing.planner.page.report_page import report_page
from farthing.planner.page.report_sources import Option
from farthing.planner.page.words import words_of
from farthing.planner.plan import make_plan
from farthing.planner.request import PlanRequest


def plots() -> Any:
    return discover.load("farthing.cli", "report_plots")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("model", "on"), [("llama-3.1-70b", "4x4090"), ("mixtral-8x7b", "2x4090")])
def test_the_page_has_its_plots_inside(tmp_path: Path, lang: Any, model: str, on: str, capsys: Any):
    plan, config, hardware = made(model, on, batch=4)
    path = tmp_path / "report.html"
    write_reports(plan, ReportFlags(html=path, lang=lang), config, hardware)
    html = path.read_text(encoding="utf-8")
    assert_needs_nothing_else(html)
    assert html.count("<figure") == 2 and "var(--p-1)" in html
    assert "吞吐量与每 token 耗时" in html if lang == "zh" else "Throughput against time per token" in html
    captured = capsys.readouterr()
    assert "report.html" in captured.err and captured.out == ""
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_no_id_of_a_page_is_there_twice_and_every_reference_is_met(tmp_path: Path):
    plan, config, hardware = made("llama-3.1-70b", "4x4090")
    path = tmp_path / "report.html"
    write_reports(plan, ReportFlags(html=path), config, hardware)
    html = path.read_text(encoding="utf-8")
    ids = [value for _, name, value in read(html).attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)) <= {(id, "") for id in ids} | {
        ("", id) for id in ids
    }


def test_what_does_not_fit_has_a_page_and_no_plot(tmp_path: Path):
    plan, config, hardware = made("llama-3.1-405b", "4x4090")
    flags = ReportFlags(html=tmp_path / "report.html", plot=tmp_path / "plot.png")
    with pytest.raises(UsageError, match="does not fit"):
        write_reports(plan, flags, config, hardware)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Does not fit" in html and "<figure" not in html
    assert not (tmp_path / "plot.png").exists()


@pytest.mark.parametrize(("ending", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_plot_is_of_the_kind_that_its_name_says_and_the_same_each_time(tmp_path: Path, ending: str, begins: bytes):
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    written = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}{ending}"
        write_reports(plan, ReportFlags(plot=path), config, hardware)
        written.append(path.read_bytes())
    assert written[0].startswith(begins) and len(written[0]) > 10_000
    assert written[0] == written[1]


def test_the_same_plan_gives_the_same_plots():
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    page = report_page(plan, DAY, config=config, hardware=hardware)
    assert plots().page_plots(page, words_of("en")) == plots().page_plots(page, words_of("en"))


def test_options_of_a_search_are_drawn_and_listed():
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    options = tuple(
        Option(
            name=f"{count}x {HOSTILE}",
            format="fp8",
            split=f"tp {count}",
            engine="vllm",
            dollars_per_month=300.0 * count,
            tpot_seconds=0.04 / count,
            ttft_seconds=0.5,
            on_front=count < 4,
            is_chosen=count == 2,
        )
        for count in (1, 2, 4)
    )
    page = replace(report_page(plan, DAY, config=config, hardware=hardware), options=options)
    drawn = plots().page_plots(page, words_of("en"))
    assert set(drawn) == {"curve", "roofline", "pareto"}
    document = discover.load("farthing.planner.page", "document").page_html(page, words_of("en"), drawn)
    assert_needs_nothing_else(document)
    assert "<script" not in document and f"4x {HOSTILE}" in read(document).text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_names_from_outside_stay_text_in_plots(tmp_path: Path, lang: Any):
    hardware = one_node(round_device(HOSTILE, accelerator=round_accelerator(id=HOSTILE, name=HOSTILE)))
    config = tiny_config()
    plan = make_plan(HOSTILE + "\udcff", config, hardware, PlanRequest(on="here", context=1024))
    flags = ReportFlags(html=tmp_path / "report.html", plot=tmp_path / "plot.png", lang=lang)
    write_reports(plan, flags, config, hardware)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_needs_nothing_else(html)
    assert "<script" not in html


def test_without_a_font_for_chinese_the_plot_is_in_english_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    monkeypatch.setattr(plots().fontManager, "ttflist", [])
    write_reports(plan, ReportFlags(plot=tmp_path / "plot.svg", lang="zh"), config, hardware)
    assert capsys.readouterr().err.count("no font for Chinese") == 1


def test_a_file_of_another_kind_is_refused_before_anything_is_planned(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no \.html file"):
        check(ReportFlags(html=tmp_path / "report.txt"))
    with pytest.raises(UsageError, match="no picture"):
        check(ReportFlags(plot=tmp_path / "plot.gif"))
    check(ReportFlags())


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path):
    plan, config, hardware = made("llama-3.1-8b", "rtx-4090")
    for flags in (ReportFlags(html=tmp_path / "no" / "a.html"), ReportFlags(plot=tmp_path / "no" / "a.png")):
        with pytest.raises(FarthingError, match="can't be written"):
            write_reports(plan, flags, config, hardware)


def test_without_matplotlib_the_command_that_installs_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *rest)

    for name in [name for name in sys.modules if name == "farthing.cli.report_plots"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'farthing\[report\]'"):
        check(ReportFlags(html=tmp_path / "report.html"))

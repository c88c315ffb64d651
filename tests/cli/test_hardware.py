"""`farthing hardware`: the list and its filters, one in full, the JSON object, narrow terminals and mistakes."""

import json
from typing import Any

import pytest

from farthing.cli import app
from farthing.cli.hardware import HardwareFlags, hardware
from farthing.cli.hardware_list import money
from farthing.hardware.accelerator import Price, accelerator_ids, load_accelerator, sources


def shown(capsys: pytest.CaptureFixture[str], *names: str, **flags: Any) -> str:
    hardware(*names, flags=HardwareFlags(**flags))
    return capsys.readouterr().out


def ids_in(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()[1:]]


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        app.main(["hardware", *arguments])
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.out) == (2, "")
    assert len(captured.err.splitlines()) == 1
    return captured.err


def test_without_a_name_everything_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(ids_in(shown(capsys))) == sorted(accelerator_ids())


def test_a_line_has_memory_bandwidth_rates_power_link_prices_and_marks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.split()[0]: line for line in shown(capsys).splitlines()}
    for text in ("23.99 GiB", "1.01 TB/s", "165 TFLOP/s", "330 TFLOP/s", "450 W", "pcie4x16", "$1,417.20 (2025-03)"):
        assert text in lines["rtx-4090"]
    assert "$0.20 - $0.69" in lines["rtx-4090"]
    assert lines["mi300x"].endswith("plan only")
    assert lines["tpu-v5e"].endswith("plan only, rented")
    assert lines["maia-200"].endswith("plan only, not sold")
    assert lines["rtx-4090-48g"].endswith("modified")
    assert "unknown" in lines["rtx-5090d"]
    assert "65.1 TFLOP/s*" in lines["t4"]


def test_an_estimate_is_shown_as_no_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert {price.market for price in load_accelerator("tpu-v5p").prices} == {"estimate"}
    [line] = shown(capsys, "tpu-v5p", "tpu-v5e").splitlines()[2:]
    assert "$3,694" not in line


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ({"sale": "not-sold"}, ["maia-100", "maia-200"]),
        ({"sale": "modified"}, ["rtx-4090-48g", "rtx-4090d-48g"]),
        ({"vendor": "Apple"}, ["m2-ultra", "m3-ultra", "m4-max"]),
        ({"kind": "vm"}, ["vm-2vcpu-generic"]),
        ({"vendor": "nvidia", "min_memory": "250GiB"}, ["b300-sxm", "gb300"]),
        ({"engine": "farthing", "kind": "soc"}, ["gb10"]),
    ],
)
def test_a_filter_leaves_what_it_says(
    capsys: pytest.CaptureFixture[str], flags: dict[str, str], ids: list[str]
) -> None:
    assert ids_in(shown(capsys, **flags)) == ids


def test_unknown_memory_is_not_at_least_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert "epyc-9654" not in ids_in(shown(capsys, min_memory="1GiB"))
    assert "epyc-9654" in ids_in(shown(capsys, kind="cpu"))


def test_a_filter_that_leaves_nothing_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    hardware(flags=HardwareFlags(min_memory="9TiB"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no accelerator" in captured.err


def test_an_ambiguous_name_lists_its_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert ids_in(shown(capsys, "h100")) == ["h100-nvl", "h100-pcie", "h100-sxm"]


def test_one_in_full_shows_every_figure_with_how_it_is_known_and_its_sources(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = load_accelerator("rtx-4090")
    text = shown(capsys, "4090")
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "usable 23.99 GiB (25,757,220,864 B) measured [SMI1, SMI2]" in lines
    assert "fp16_acc16 330.3 TFLOP/s vendor [RTXBW, BOOK] fp16 accumulate" in lines
    assert "ECC unknown not verified for GeForce" in lines
    assert "fp4 no fast path" in lines
    assert "to the host pcie4x16 31.5 GB/s derived [PCIE, MLEN]" in lines
    assert "copy 912 GB/s = 90.5% of nominal [CHS]" in lines
    assert any(line.startswith("allreduce_busbw_8gpu_stock unknown users report low rates") for line in lines)
    assert any(
        line.startswith("allreduce_8B_us_8gpu 42 us [https://github.com/NVIDIA/nccl/issues/1530]") for line in lines
    )
    for price in (*one.prices, *one.rentals):
        assert f"{money(price)} {price.market}" in text
    for figure in one.flops.values():
        for key in figure.sources:
            assert (sources()[key].url or "no address") in text


@pytest.mark.parametrize("id", accelerator_ids())
def test_every_accelerator_can_be_shown_in_full(capsys: pytest.CaptureFixture[str], id: str) -> None:
    text = shown(capsys, id)
    assert text.startswith(f"{id} · ")
    assert "None" not in text


@pytest.mark.parametrize(("width", "left"), [(40, ["id", "memory"]), (80, ["id", "memory", "bandwidth", "bf16"])])
def test_in_a_narrow_terminal_the_least_important_columns_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, left: list[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(capsys).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split()[: len(left)] == left


def test_a_terminal_wraps_one_in_full_within_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    monkeypatch.setenv("COLUMNS", "70")
    lines = shown(capsys, "h100-sxm").splitlines()
    assert all(len(line) <= 70 or "://" in line for line in lines)


def test_the_json_object_has_everything_of_the_catalogue_and_the_sources_it_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = json.loads(shown(capsys, "rtx-4090", json=True))
    assert list(document) == ["schema", "accelerators", "sources"]
    assert document["schema"] == "farthing.hardware/1"
    [entry] = document["accelerators"]
    assert list(entry) == [
        *("id", "name", "vendor", "kind", "sale", "engines", "engines_sources", "launch_year", "nominal_bytes"),
        *("usable_bytes", "memory_type", "bandwidth", "ecc", "flops", "unsupported_dtypes", "l2_bytes", "scale_up"),
        *("host", "p2p", "tdp_watts", "export_china", "prices", "rentals", "measured", "vendor_docs", "notes"),
        *("unknown", "dies", "plan_only", "memory_bytes"),
    ]
    assert entry["bandwidth"] == {
        "value": 1.008e12, "sources": ["HMC", "RTXBW"], "known": "via", "date": None, "note": "GD prints 1 TB/s",
    }  # fmt: skip
    assert entry["ecc"] is None
    assert entry["plan_only"] is False
    assert entry["memory_bytes"] == 25_757_220_864
    assert {"HMC", "RTXBW", "VAST", "VLLM"} <= set(document["sources"])
    assert "APPLE" not in document["sources"]


def test_the_json_object_of_nothing_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(shown(capsys, min_memory="9TiB", json=True))
    assert document == {"schema": "farthing.hardware/1", "accelerators": [], "sources": {}}


def test_everything_fits_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(shown(capsys, json=True))
    assert len(document["accelerators"]) == len(accelerator_ids())


def test_a_mistake_is_one_line_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean rtx-4090" in mistake(capsys, "rtx-4091")
    assert "amd, apple" in mistake(capsys, "--vendor", "cyrix")
    assert "farthing, llama.cpp" in mistake(capsys, "--engine", "cobol")
    assert "not-sold" in mistake(capsys, "--sale", "stolen")
    assert "40GiB" in mistake(capsys, "--min-memory", "lots")


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (1999, "USD", "$1,999"),
        (0.6, "USD", "$0.60"),
        (0.106, "USD", "$0.106"),
        (24599, "CNY", "¥24,599"),
        (5, "EUR", "EUR 5"),
    ],
)
def test_money_has_the_decimals_that_it_has(value: float, currency: str, text: str) -> None:
    assert money(Price(value, currency, "list", "2025", ("https://example.com",))) == text

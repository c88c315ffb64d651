"""Reading a file of the catalogue: what a whole entry holds, what the smallest holds, and what is refused and how."""

from pathlib import Path

import pytest

from farthing.errors import FarthingError, UsageError
from farthing.hardware.accelerator import Link, accelerator_ids, load_accelerator

SMALLEST = """
name = "Example 9000"
vendor = "example"
kind = "gpu"
sale = "sold"
engines = []
scale_up = { kind = "none" }
host = { kind = "pcie4x16" }
"""
SHEET = 'sources = ["https://example.com/sheet.pdf"]'
PRICE = f'value = 1600, currency = "USD", market = "list", date = "2022", {SHEET}'


def write(folder: Path, *lines: str, base: str = SMALLEST) -> Path:
    (folder / "example-9000.toml").write_text("\n".join((base, *lines)), encoding="utf-8")
    return folder


def test_a_file_dropped_into_the_folder_is_an_accelerator_of_its_name(tmp_path: Path) -> None:
    one = load_accelerator("example-9000", write(tmp_path))
    assert accelerator_ids(tmp_path) == ("example-9000",)
    assert (one.id, one.name, one.kind) == ("example-9000", "Example 9000", "gpu")


def test_what_a_file_does_not_say_is_unknown(tmp_path: Path) -> None:
    one = load_accelerator("example-9000", write(tmp_path))
    figures = (one.nominal_bytes, one.usable_bytes, one.bandwidth, one.ecc, one.p2p, one.tdp_watts, one.export_china)
    assert set(figures) == {None}
    assert (one.memory_bytes, one.flops, one.prices, one.rentals, one.measured) == (None, {}, (), (), {})
    assert one.scale_up == Link("none")
    assert one.plan_only


def test_a_figure_keeps_its_sources_how_it_is_known_its_date_and_its_note(tmp_path: Path) -> None:
    known = 'known = "via", date = "2022-10", note = "n"'
    line = f'bandwidth = {{ value = 1008e9, sources = ["HMC", "http://x.example"], {known} }}'
    bandwidth = load_accelerator("example-9000", write(tmp_path, line)).bandwidth
    assert bandwidth is not None
    assert (bandwidth.value, bandwidth.sources) == (1.008e12, ("HMC", "http://x.example"))
    assert (bandwidth.known, bandwidth.date, bandwidth.note) == ("via", "2022-10", "n")


def test_usable_memory_goes_before_nominal_memory(tmp_path: Path) -> None:
    nominal = f"nominal_bytes = {{ value = 100, {SHEET} }}"
    usable = f"usable_bytes = {{ value = 90, {SHEET} }}"
    assert load_accelerator("example-9000", write(tmp_path, nominal)).memory_bytes == 100
    (tmp_path / "second").mkdir()
    assert load_accelerator("example-9000", write(tmp_path / "second", nominal, usable)).memory_bytes == 90


def test_only_what_the_own_engine_runs_on_is_more_than_planned(tmp_path: Path) -> None:
    base = SMALLEST.replace("engines = []", 'engines = ["farthing", "vllm"]')
    assert not load_accelerator("example-9000", write(tmp_path, base=base)).plan_only
    assert load_accelerator("v100-sxm2-32").plan_only


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('colour = "green"', "colour"),
        ("bandwidth = 1008e9", "bandwidth"),
        (f'bandwidth = {{ value = "fast", {SHEET} }}', "value"),
        (f"bandwidth = {{ value = true, {SHEET} }}", "value"),
        (f"bandwidth = {{ value = -1, {SHEET} }}", "value"),
        (f"bandwidth = {{ value = 0, {SHEET} }}", "value"),
        (f"bandwidth = {{ value = nan, {SHEET} }}", "value"),
        (f"bandwidth = {{ value = inf, {SHEET} }}", "value"),
        ("bandwidth = { value = 1008e9 }", "sources"),
        ("bandwidth = { value = 1008e9, sources = [] }", "sources"),
        ('bandwidth = { value = 1008e9, sources = ["NOBODY"] }', "NOBODY"),
        ('bandwidth = { value = 1008e9, sources = "HMC" }', "sources"),
        (f"bandwidth = {{ {SHEET} }}", "value"),
        (f'bandwidth = {{ value = 1008e9, {SHEET}, known = "guess" }}', "known"),
        (f'bandwidth = {{ value = 1008e9, {SHEET}, date = "May" }}', "date"),
        (f"bandwidth = {{ value = 1008e9, {SHEET}, unit = 1 }}", "unit"),
        (f"nominal_bytes = {{ value = 24.5, {SHEET} }}", "value"),
        (f"ecc = {{ value = 1, {SHEET} }}", "value"),
        (f"flops = {{ fp7 = {{ value = 1e12, {SHEET} }} }}", "fp7"),
        ('unsupported_dtypes = ["fp7"]', "fp7"),
        ('notes = "a text"', "notes"),
        (f'prices = [{{ {PRICE.replace("1600", "-5")} }}]', "value"),
        (f'prices = [{{ {PRICE.replace("list", "gossip")} }}]', "market"),
        (f'prices = [{{ {PRICE.replace("2022", "v8")} }}]', "date"),
        (f'rentals = [{{ {PRICE}, hours = 1 }}]', "hours"),
        ("prices = 1600", "prices"),
        ("prices = [1600]", "prices"),
        ("measured = { copy = { value = 1e9 } }", "sources"),
        ('engines_sources = ["NOBODY"]', "NOBODY"),
        ("= 5", "TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_one_line_with_file_and_key(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(FarthingError) as refused:
        load_accelerator("example-9000", write(tmp_path, line))
    text = str(refused.value)
    assert "example-9000.toml" in text
    assert key in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("key", ["name", "vendor", "kind", "sale", "scale_up", "host"])
def test_what_every_entry_must_say_may_not_be_missing(tmp_path: Path, key: str) -> None:
    base = "\n".join(line for line in SMALLEST.splitlines() if not line.startswith(key))
    with pytest.raises(FarthingError, match=f"example-9000.toml.*{key}"):
        load_accelerator("example-9000", write(tmp_path, base=base))


@pytest.mark.parametrize(("key", "good"), [("kind", "gpu"), ("sale", "sold")])
def test_a_word_that_is_none_of_those_is_refused_with_those(tmp_path: Path, key: str, good: str) -> None:
    base = SMALLEST.replace(f'{key} = "{good}"', f'{key} = "wrong"')
    with pytest.raises(FarthingError, match=f"example-9000.toml: {key} is 'wrong', not .*{good}"):
        load_accelerator("example-9000", write(tmp_path, base=base))


@pytest.mark.parametrize("id", ["rtx-9090", "../rtx-4090", ""])
def test_an_id_without_a_file_is_a_mistake_of_the_user(id: str) -> None:
    with pytest.raises(UsageError, match="the catalogue has no"):
        load_accelerator(id)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "example-9000.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FarthingError, match=r"example-9000\.toml is no TOML"):
        load_accelerator("example-9000", tmp_path)

"""The catalogue that is shipped: every file reads, says what it must, and agrees with the facts it was made from."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from farthing.hardware.accelerator import CATALOG, Accelerator, Link, accelerator_ids, load_accelerator, sources
from farthing.hardware.defaults import default
from farthing.hardware.figure import Figure

IDS = accelerator_ids()
ALL = [load_accelerator(id) for id in IDS]
README = (CATALOG / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def facts(shared: Path) -> Mapping[str, Any]:
    """The facts as YAML, by sections."""
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the facts")
    content: Mapping[str, Any] = yaml.safe_load((shared / "facts" / "hardware.yaml").read_text(encoding="utf-8"))
    return content


def fact_of(value: Any) -> tuple[Any, ...] | None:
    """(value, sources, known, note) of a fact, None for what is not known."""
    if value is None or value["v"] is None:
        return None
    keys = tuple("ADDRESS_NOT_KEPT" if key == "UNKEPT" else key for key in value["s"])
    return value["v"], keys, value.get("k"), value.get("n")


def figure_of(figure: Figure[Any] | None) -> tuple[Any, ...] | None:
    return None if figure is None else (figure.value, figure.sources, figure.known, figure.note)


def figures_of(one: Accelerator) -> dict[str, Figure[Any] | None]:
    """Every figure of an accelerator by its place in the facts."""
    return {
        "launch_year": one.launch_year,
        "memory nominal_bytes": one.nominal_bytes,
        "memory usable_bytes": one.usable_bytes,
        "memory bandwidth_bytes_s": one.bandwidth,
        "memory ecc": one.ecc,
        "l2_bytes": one.l2_bytes,
        "link p2p": one.p2p,
        "link scale_up per_direction_bytes_s": one.scale_up.bytes_per_second,
        "link host per_direction_bytes_s": one.host.bytes_per_second,
        "tdp_watts": one.tdp_watts,
        "export_china": one.export_china,
    }


def test_every_figure_of_the_facts_is_in_the_catalogue(facts: Mapping[str, Any]) -> None:
    for entry in facts["accelerators"]:
        one = load_accelerator(entry["id"])
        assert (one.name, one.vendor, one.kind) == (entry["name"], entry["vendor"], entry["class"])
        assert one.memory_type == entry["memory"]["type"]
        for path, figure in figures_of(one).items():
            fact = entry
            for key in path.split():
                fact = fact[key]
            assert figure_of(figure) == fact_of(fact), (one.id, path)
        rates = {dtype: fact_of(fact) for dtype, fact in entry["flops_dense"].items() if fact_of(fact)}
        assert {dtype: figure_of(figure) for dtype, figure in one.flops.items()} == rates, one.id
        assert one.unsupported_dtypes == frozenset(entry["unsupported_dtypes"])
        for link, fact in ((one.scale_up, entry["link"]["scale_up"]), (one.host, entry["link"]["host"])):
            assert (link.kind, link.note) == (fact["kind"], fact.get("n")), one.id


def test_every_measured_value_of_the_facts_is_in_the_catalogue(facts: Mapping[str, Any]) -> None:
    for entry in facts["accelerators"]:
        measured = {
            key: (found.value, found.sources, found.fraction_of_peak, found.note)
            for key, found in load_accelerator(entry["id"]).measured.items()
        }
        known = {key: fact for key, fact in entry["measured"].items() if fact["v"] is not None}
        expected = {
            key: (fact["v"], fact_of(fact)[1], fact.get("fraction_of_peak"), fact.get("n"))  # type: ignore[index]
            for key, fact in known.items()
        }
        assert measured == expected, entry["id"]


def test_every_price_of_the_facts_is_in_the_catalogue(facts: Mapping[str, Any]) -> None:
    for entry in facts["accelerators"]:
        one = load_accelerator(entry["id"])
        for prices, section in ((one.prices, "prices_usd"), (one.rentals, "cloud_usd_per_hour")):
            found = {(price.value, price.sources, price.date[:4]) for price in prices if price.currency == "USD"}
            for fact in entry[section]:
                year = "2026" if fact["d"] == "v8" else str(fact["d"])[:4]
                assert (fact["v"], fact_of(fact)[1], year) in found, (one.id, fact)  # type: ignore[index]


def test_every_default_of_the_facts_is_there(facts: Mapping[str, Any]) -> None:
    for name, fact in facts["planner_defaults"].items():
        assert figure_of(default(name)) == fact_of(fact), name


def test_every_source_of_the_facts_is_there(facts: Mapping[str, Any]) -> None:
    for key, fact in facts["sources"].items():
        if key != "UNKEPT":
            assert str(fact["what"]) in sources()[key].what
            assert sources()[key].trust == fact["trust"]


def test_every_source_that_is_named_is_told_and_every_address_is_one() -> None:
    for key, source in sources().items():
        assert source.url is None or re.fullmatch(r"https?://[^\s]+\.[^\s]+", source.url), key


@pytest.mark.parametrize("one", ALL, ids=IDS)
def test_an_engine_of_others_is_listed_with_a_source(one: Accelerator) -> None:
    assert not set(one.engines) - {"farthing"} or one.engines_sources
    assert len(set(one.engines)) == len(one.engines)


def test_the_own_engine_runs_on_processors_and_on_nvidia_from_turing_on() -> None:
    runs = {one.id for one in ALL if not one.plan_only}
    expected = {one.id for one in ALL if one.kind in ("cpu", "vm") or one.vendor == "nvidia"} - {"v100-sxm2-32"}
    assert runs == expected


def test_what_is_not_sold_has_neither_price_nor_rent() -> None:
    not_sold = [one for one in ALL if one.sale == "not-sold"]
    assert [one.id for one in not_sold] == ["maia-100", "maia-200"]
    assert all(one.prices == one.rentals == () for one in not_sold)


def test_what_is_only_rented_has_no_offer_to_own() -> None:
    rented = [one for one in ALL if one.sale == "rented"]
    assert {"tpu-v5e", "inferentia2", "trainium2"} <= {one.id for one in rented}
    for one in rented:
        assert one.rentals
        assert all(price.market == "estimate" for price in one.prices), one.id


@pytest.mark.parametrize(("id", "size"), [("rtx-4090-48g", 48), ("rtx-4090d-48g", 48)])
def test_a_modified_card_is_marked_and_says_that_no_maker_answers_for_it(id: str, size: int) -> None:
    one = load_accelerator(id)
    assert one.sale == "modified"
    assert one.nominal_bytes is not None
    assert one.nominal_bytes.value == size * 2**30
    assert any("no maker's warranty" in note for note in one.notes)
    assert {figure.known for figure in one.flops.values()} == {"inferred"}


@pytest.mark.parametrize("id", ["rtx-5090d", "rtx-5090d-v2"])
def test_a_rate_that_nobody_published_stays_unknown_and_says_why(id: str) -> None:
    one = load_accelerator(id)
    assert set(one.flops) == {"fp32", "fp4"}
    assert {"bf16", "fp8", "int8"} <= set(one.unknown)


@pytest.mark.parametrize("one", ALL, ids=IDS)
def test_a_rate_and_no_fast_path_exclude_each_other(one: Accelerator) -> None:
    assert not set(one.flops) & one.unsupported_dtypes


@pytest.mark.parametrize("one", ALL, ids=IDS)
def test_why_something_is_unknown_is_said_only_of_what_is_unknown(one: Accelerator) -> None:
    for key in one.unknown:
        known = key in one.flops or key in one.measured or getattr(one, key, None) is not None
        assert not known, key


def test_a_link_that_is_not_there_has_no_rate() -> None:
    assert all(one.scale_up == Link("none", None, one.scale_up.note) for one in ALL if one.scale_up.kind == "none")


def test_the_example_of_the_readme_is_an_accelerator(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, flags=re.S)
    (tmp_path / "example-9000.toml").write_text(example, encoding="utf-8")
    assert load_accelerator("example-9000", tmp_path).plan_only


def test_the_readme_names_every_key_that_the_files_use() -> None:
    for id in IDS:
        for key in tomllib.loads((CATALOG / f"{id}.toml").read_text(encoding="utf-8")):
            assert re.search(rf"\b{key}\b", README), key

"""What people call hardware: loose spellings, counts, nodes, mixtures; what an ambiguous or unknown name is told."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import FarthingError, UsageError
from farthing.hardware import accelerator
from farthing.hardware.accelerator import CATALOG, accelerator_ids
from farthing.hardware.names import MAX_DEVICES, matching_ids, parse_hardware

IDS = accelerator_ids()


@pytest.mark.parametrize("id", IDS)
def test_every_id_means_itself_however_it_is_separated_and_cased(id: str) -> None:
    for spelling in (id, id.upper(), id.replace("-", " "), id.replace("-", "_"), id.replace("-", ""), f" {id} "):
        assert parse_hardware(spelling).name == f"1x {id}"


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("nvidia rtx 4090", "rtx-4090"),
        ("4090 24GB", "rtx-4090"),
        ("4090 48GB", "rtx-4090-48g"),
        ("4090d", "rtx-4090d"),
        ("5090", "rtx-5090"),
        ("7900 XTX", "rx-7900-xtx"),
        ("7900xtx", "rx-7900-xtx"),
        ("B200", "b200-sxm"),
        ("H200 141GB", "h200-sxm"),
        ("MI300X", "mi300x"),
        ("mi300", "mi300x"),
        ("M3 Ultra", "m3-ultra"),
        ("EPYC 9654", "epyc-9654"),
        ("A100 80GB SXM", "a100-80-sxm"),
        ("a100 pcie 40gb", "a100-40-pcie"),
        ("h100 80gb sxm5", "h100-sxm"),
        ("H100 NVL", "h100-nvl"),
        ("a10", "a10"),
        ("l40", "l40"),
        ("TPU v5e", "tpu-v5e"),
        ("DGX Spark", "gb10"),
    ],
)
def test_a_loose_name_means_the_obvious(name: str, id: str) -> None:
    assert parse_hardware(name).name == f"1x {id}"


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-80-sxm"),
        ("NVIDIA A100 80GB PCIe", "a100-80-pcie"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32"),
        ("Tesla T4", "t4"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("NVIDIA GeForce RTX 5090 D v2", "rtx-5090d-v2"),
        ("AMD EPYC 9654 96-Core Processor", "epyc-9654"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "ryzen-7950x"),
        ("Intel(R) Xeon(R) Platinum 8480+", "xeon-8480p"),
        ("Apple M2 Ultra", "m2-ultra"),
    ],
)
def test_the_name_that_a_driver_or_system_reports_is_known(name: str, id: str) -> None:
    assert parse_hardware(name).name == f"1x {id}"


@pytest.mark.parametrize("text", ["8x4090", "8 x 4090", "8x RTX 4090", "8X rtx-4090", "4090x8", "4090 x 8", "8×4090"])
def test_a_count_stands_before_or_behind_the_name(text: str) -> None:
    cluster = parse_hardware(text)
    assert (cluster.name, cluster.num_devices, len(cluster.nodes)) == ("8x rtx-4090", 8, 1)


def test_two_counts_are_nodes_and_devices_in_each() -> None:
    cluster = parse_hardware("2x8xh100-sxm")
    assert [len(node.accelerators) for node in cluster.nodes] == [8, 8]


def test_a_plus_mixes_devices_in_one_node() -> None:
    cluster = parse_hardware("4x4090 + 4x3090")
    assert [one.id for one in cluster.devices] == ["rtx-4090"] * 4 + ["rtx-3090"] * 4
    assert len(cluster.nodes) == 1


def test_a_group_with_its_own_nodes_does_not_join_the_others() -> None:
    cluster = parse_hardware("4x4090+2x8xh100-sxm+2x3090")
    assert [node.name for node in cluster.nodes] == ["4x rtx-4090 + 2x rtx-3090", "8x h100-sxm", "8x h100-sxm"]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("h100", ["h100-nvl", "h100-pcie", "h100-sxm"]),
        ("8xh100", ["h100-nvl", "h100-pcie", "h100-sxm"]),
        ("h100 80gb", ["h100-pcie", "h100-sxm"]),
        ("a100", ["a100-40-pcie", "a100-40-sxm", "a100-80-pcie", "a100-80-sxm"]),
        ("A100 80GB", ["a100-80-pcie", "a100-80-sxm"]),
        ("rtx pro 6000", ["rtx-pro-6000-server", "rtx-pro-6000-ws"]),
        ("rtx 6000", ["rtx-6000-ada", "rtx-pro-6000-server", "rtx-pro-6000-ws"]),
        ("xeon", ["xeon-6980p", "xeon-8480p"]),
    ],
)
def test_an_ambiguous_name_lists_what_it_can_be(name: str, ids: list[str]) -> None:
    with pytest.raises(UsageError, match=f"can be {', '.join(ids)} - name one of them"):
        parse_hardware(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rtx-4091", "rtx-4090"),
        ("4091", "rtx-4090"),
        ("8xh10o", "h100"),
        ("mi3000x", "mi300x"),
        ("m3-ulta", "m3-ultra"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"there is no hardware .* did you mean .*{near}"):
        parse_hardware(name)


def test_a_memory_size_that_no_variant_has_is_not_that_hardware() -> None:
    with pytest.raises(UsageError, match="there is no hardware '4090 80gb'"):
        parse_hardware("4090 80gb")


@pytest.mark.parametrize(
    "text", ["", "+", "x", "8x", "nvidia", "8x8x", "4x4090+", "tx", "2 4090", "?" * 500, "4090\x00"]
)
def test_what_is_no_hardware_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_hardware(text)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "100001", "99999999999999999999"])
def test_a_count_goes_from_one_to_a_hundred_thousand(count: str) -> None:
    for text in (f"{count}x4090", f"{count}x8x4090", f"2x{count}x4090"):
        with pytest.raises(UsageError, match=r"is no number of devices - write 1 to 100,000"):
            parse_hardware(text)


def test_nodes_and_groups_together_have_no_more_than_the_most_devices() -> None:
    assert parse_hardware(f"{MAX_DEVICES}x4090").num_devices == MAX_DEVICES
    for text in (f"2x{MAX_DEVICES}x4090", f"{MAX_DEVICES}x4090+3090"):
        with pytest.raises(UsageError, match="more than 100,000 devices"):
            parse_hardware(text)


@given(st.text(max_size=60) | st.text("0123456789xX+- rtx4090h10", max_size=30))
def test_any_text_is_hardware_or_one_line(text: str) -> None:
    try:
        assert parse_hardware(text).num_devices >= 1
    except FarthingError as error:
        assert len(str(error).splitlines()) == 1


_GROUPS = st.lists(
    st.tuples(st.none() | st.integers(1, 3), st.integers(1, 9), st.sampled_from(IDS)), min_size=1, max_size=4
)


@given(_GROUPS)
def test_the_name_of_a_cluster_means_the_cluster(groups: list[tuple[int | None, int, str]]) -> None:
    text = "+".join(f"{count}x{id}" if nodes is None else f"{nodes}x{count}x{id}" for nodes, count, id in groups)
    cluster = parse_hardware(text)
    assert sum((nodes or 1) * count for nodes, count, _ in groups) == cluster.num_devices
    assert parse_hardware(cluster.name).devices == cluster.devices


def test_a_file_dropped_in_is_found_by_its_name(tmp_path: Path) -> None:
    folder = shutil.copytree(CATALOG, tmp_path / "catalog")
    shutil.copy(folder / "rtx-4090.toml", folder / "example-9000.toml")
    for name in ("example-9000", "Example 9000", "9000"):
        assert parse_hardware(f"2x {name}", folder).name == "2x example-9000"


def test_only_the_files_that_are_meant_are_read(tmp_path: Path) -> None:
    folder = shutil.copytree(CATALOG, tmp_path / "catalog")
    for id in set(IDS) - {"rtx-4090", "rtx-3090"}:
        (folder / f"{id}.toml").write_text("damaged", encoding="utf-8")
    assert parse_hardware("8x4090+3090", folder).num_devices == 9
    assert accelerator.accelerator_ids(folder) == IDS


def test_a_name_without_a_count_can_be_asked_for_all_it_can_mean() -> None:
    assert list(matching_ids("h100")) == ["h100-nvl", "h100-pcie", "h100-sxm"]
    with pytest.raises(UsageError, match="did you mean h100"):
        matching_ids("h1000")

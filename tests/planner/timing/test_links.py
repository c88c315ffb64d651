"""Messages between devices in seconds, against ring factors worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_hardware import figure, round_accelerator, tiny_spec

from farthing.hardware.accelerator import Accelerator, Link, Measured, load_accelerator
from farthing.models.parallel import parallelize
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.planner.timing.links import RankLink, stage_link, tensor_link

ROUND = RankLink(bytes_per_second=1e9, latency_seconds=1e-3, note="")
SOURCE = ("https://example.com",)


def _comm(kind: str, num_ranks: int) -> Comm:
    return Comm("x", kind, 64, "bf16", num_ranks)


@pytest.mark.parametrize(
    ("kind", "num_ranks", "factor"),
    [
        ("all_reduce", 2, 1.0),  # 2 (n-1)/n
        ("all_reduce", 4, 1.5),
        ("all_reduce", 8, 1.75),
        ("all_gather", 4, 3.0),  # each rank's part goes round to the n-1 others
        ("send", 2, 1.0),
    ],
)
def test_a_ring_moves_its_factor_of_the_payload_over_each_link(kind: str, num_ranks: int, factor: float):
    assert ROUND.seconds(_comm(kind, num_ranks), 8_000_000) == pytest.approx(1e-3 + factor * 8e-3)


@given(st.sampled_from(["all_reduce", "all_gather"]), st.integers(2, 64), st.integers(0, 2**40), st.integers(1, 2**30))
def test_a_longer_message_never_takes_less(kind: str, num_ranks: int, payload: int, more: int):
    comm = _comm(kind, num_ranks)
    assert 1e-3 <= ROUND.seconds(comm, payload) < ROUND.seconds(comm, payload + more)


def test_a_tensor_parallel_layer_reduces_twice_the_hidden_states_of_its_tokens():
    (rank,) = parallelize(tiny_spec(), tp=2)
    batch = BatchShape.prefill(10)
    reduces = [op for op in rank.layers[0].ops() if isinstance(op, Comm)]
    assert [(op.kind, op.cost(batch).comm_bytes) for op in reduces] == [("all_reduce", 10 * 64 * 2)] * 2


def _tensor(accelerator: Accelerator, num_ranks: int, p2p: bool | None = None) -> RankLink:
    return tensor_link([accelerator] * num_ranks, p2p=p2p, one_node=True, network=1e9)


def _stage(first: Accelerator, second: Accelerator, num_ranks: int = 2, *, one_node: bool = True) -> RankLink:
    return stage_link(first, second, num_ranks, p2p=None, one_node=one_node, network=1e9)


def test_two_cards_without_p2p_go_through_host_memory():
    assert _tensor(round_accelerator(), 2).bytes_per_second == pytest.approx(10e9 * 0.36)
    assert _tensor(round_accelerator(p2p=figure("blocked-by-driver")), 2).bytes_per_second == pytest.approx(3.6e9)


def test_many_cards_without_p2p_are_never_faster_than_two_and_the_guess_says_so():
    slow = round_accelerator()
    fast = round_accelerator(host=Link("pcie5x16", figure(63e9)))
    assert _tensor(slow, 4).bytes_per_second == pytest.approx(3.6e9)
    assert _tensor(fast, 4).bytes_per_second == pytest.approx(5e9)
    assert "a guess" in _tensor(fast, 8).note


def test_p2p_of_the_catalogue_or_of_the_user_takes_the_bus():
    assert _tensor(round_accelerator(p2p=figure("pcie")), 4).bytes_per_second == pytest.approx(8.7e9)
    assert _tensor(round_accelerator(), 4, p2p=True).bytes_per_second == pytest.approx(8.7e9)
    assert _tensor(round_accelerator(p2p=figure("pcie")), 2, p2p=False).bytes_per_second == pytest.approx(3.6e9)


def test_a_patched_driver_reaches_what_was_measured_with_one():
    rtx4090 = load_accelerator("rtx-4090")
    assert _tensor(rtx4090, 8, p2p=True).bytes_per_second == pytest.approx(24.5e9)
    assert _tensor(rtx4090, 8).bytes_per_second == pytest.approx(5e9)


def test_a_link_of_their_own_at_the_usual_share():
    switched = round_accelerator(scale_up=Link("nvlink9", figure(100e9)))
    assert _tensor(switched, 8).bytes_per_second == pytest.approx(80e9)
    h100 = _tensor(load_accelerator("h100-sxm"), 8)
    assert h100.bytes_per_second == pytest.approx(450e9 * 0.8)
    assert h100.latency_seconds == pytest.approx(16e-6)


def test_a_bridge_joins_two_cards_and_not_four():
    bridged = round_accelerator(scale_up=Link("nvlink3-bridge-pair", figure(100e9)), p2p=figure("pcie"))
    assert _tensor(bridged, 2).bytes_per_second == pytest.approx(80e9)
    assert _tensor(bridged, 4).bytes_per_second == pytest.approx(8.7e9)
    assert _stage(bridged, bridged).bytes_per_second == pytest.approx(80e9)
    assert _stage(bridged, bridged, num_ranks=4).bytes_per_second == pytest.approx(8.7e9)


@pytest.mark.parametrize(
    ("id", "num_ranks", "bytes_per_second"),
    [("mi300x", 2, 47.7e9), ("mi300x", 8, 312.9e9), ("b200-sxm", 8, 704e9), ("h200-sxm", 8, 367.6e9)],
)
def test_what_was_measured_goes_before_the_nominal_rate(id: str, num_ranks: int, bytes_per_second: float):
    assert _tensor(load_accelerator(id), num_ranks).bytes_per_second == pytest.approx(bytes_per_second)


def test_of_what_was_measured_the_nearest_number_of_cards_counts():
    measured = {f"allreduce_busbw_{n}gpu": Measured(n * 1e9, None, SOURCE) for n in (2, 8)}
    card = round_accelerator(p2p=figure("pcie"), measured=measured)
    assert [_tensor(card, n).bytes_per_second for n in (2, 3, 8, 16)] == [2e9, 2e9, 8e9, 8e9]


def test_the_slowest_link_of_a_mixed_group_decides():
    fast, slow = load_accelerator("h100-sxm"), round_accelerator()
    mixed = tensor_link([fast, slow], p2p=None, one_node=True, network=1e9)
    assert mixed.bytes_per_second == pytest.approx(3.6e9)
    assert _stage(slow, fast).bytes_per_second == pytest.approx(3.6e9)


@pytest.mark.parametrize("num_ranks", [2, 16])
def test_between_nodes_a_ring_crosses_the_network_once(num_ranks: int):
    link = tensor_link([load_accelerator("h100-sxm")] * num_ranks, p2p=None, one_node=False, network=12.5e9)
    assert link.bytes_per_second == 12.5e9
    assert "network" in link.note


def test_stages_in_two_nodes_send_over_the_network():
    h100 = load_accelerator("h100-sxm")
    assert _stage(h100, h100, one_node=False).bytes_per_second == 1e9
    assert _stage(h100, h100).bytes_per_second == pytest.approx(360e9)


def test_where_the_host_link_is_unknown_it_is_told_that_one_is_assumed():
    link = _tensor(round_accelerator(host=Link("unknown")), 2)
    assert link.bytes_per_second == pytest.approx(31.5e9 * 0.36)
    assert "assumed" in link.note


def test_cards_of_different_kinds_share_no_link_but_the_hosts():
    cards = [load_accelerator("h100-sxm"), load_accelerator("a100-80-sxm")]
    mixed = tensor_link(cards, p2p=None, one_node=True, network=1e9)
    assert mixed.bytes_per_second < 63e9  # PCIe, not the NVLink that each has to its own kind
    assert stage_link(*cards, 2, p2p=None, one_node=True, network=1e9).bytes_per_second < 63e9


def test_latencies_are_those_of_parts_that_are_linked_alike():
    for id, count, seconds in (
        ("h20", 8, 16e-6),
        ("a800-80-sxm", 8, 21e-6),
        ("mi300x", 8, 26e-6),
        ("h100-nvl", 4, 42e-6),
    ):
        link = tensor_link([load_accelerator(id)] * count, p2p=None, one_node=True, network=1e9)
        assert link.latency_seconds == pytest.approx(seconds), id


def test_in_a_mesh_the_bandwidth_grows_with_the_links():
    card = load_accelerator("mi300x")
    two, four = (tensor_link([card] * n, p2p=None, one_node=True, network=1e9).bytes_per_second for n in (2, 4))
    assert two == card.measured["allreduce_busbw_2gpu"].value and four == pytest.approx(3 * two)

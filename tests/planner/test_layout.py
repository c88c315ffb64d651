"""How devices are dealt to a model, and that every rank's memory is the plan that the engine allocates from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_hardware import KV_BYTES_PER_TOKEN, round_device, tiny_spec

from farthing.errors import DoesNotFitError, UnsupportedError
from farthing.models.memory import plan_memory
from farthing.models.spec import ModelSpec
from farthing.planner.layout import Layout, Placement, layouts, place
from farthing.planner.request import PlanRequest

CONTEXT = 1024
REQUEST = PlanRequest(max_num_seqs=8, max_batch_tokens=64)
NCCL_BYTES = 411_041_792  # NVIDIA's planner, tp 4 and 8
NCCL_BYTES_OF_TWO = 358_612_992


def splits(spec: ModelSpec, num_devices: int, **asked: int) -> set[tuple[int, int, int]]:
    found = layouts(spec, num_devices, replace(REQUEST, **asked))
    return {(layout.tp, layout.pp, layout.replicas) for layout in found}


def only(spec: ModelSpec, num_devices: int, **asked: int) -> Layout:
    (layout,) = layouts(spec, num_devices, replace(REQUEST, **asked))
    return layout


def placed(spec: ModelSpec, *memories: int, **asked: int) -> Placement:
    devices = [round_device(f"card-{size}", memory_bytes=size) for size in memories]
    return place(only(spec, len(devices), **asked), devices, REQUEST, CONTEXT)


def test_eight_devices_are_divided_in_every_way_that_the_sizes_permit():
    """4 heads divide by 1, 2 and 4; 4 layers make 1, 2 or 4 stages."""
    expected = {(1, 1, 8), (1, 2, 4), (1, 4, 2), (2, 1, 4), (2, 2, 2), (2, 4, 1), (4, 1, 2), (4, 2, 1)}
    assert splits(tiny_spec(), 8) == expected


def test_what_is_asked_is_kept():
    assert splits(tiny_spec(), 8, tp=2) == {(2, 1, 4), (2, 2, 2), (2, 4, 1)}
    assert splits(tiny_spec(), 8, pp=4, tp=2) == {(2, 4, 1)}
    assert splits(tiny_spec(), 4, tp=1, pp=3, replicas=1) == {(1, 3, 1)}, "fewer than there are, if it is said"
    for tp, pp, replicas in splits(tiny_spec(), 8, replicas=2):
        assert replicas == 2 and tp * pp * 2 <= 8


def test_a_size_that_does_not_divide_is_named():
    with pytest.raises(UnsupportedError, match="4 attention heads do not divide by tp 8"):
        splits(tiny_spec(), 8, tp=8)
    with pytest.raises(UnsupportedError, match="pp 5 is above the 4 layers"):
        splits(tiny_spec(), 5, pp=5)


def test_a_product_that_does_not_come_out_is_said_with_the_product():
    with pytest.raises(UnsupportedError, match=r"8 devices .* tp 3 .* - .*8"):
        splits(tiny_spec(), 8, tp=3)
    with pytest.raises(UnsupportedError):
        splits(tiny_spec(), 2, tp=4)


def test_ranks_of_a_stage_are_neighbours_and_replicas_come_last():
    layout = only(tiny_spec(), 8, tp=2, pp=2)
    order = [(replica, stage, rank) for replica in range(2) for stage in range(2) for rank in range(2)]
    assert [layout.device_index(*place) for place in order] == list(range(8))
    assert layout.num_devices == 8


@given(st.integers(0, 5 * 10**7), st.sampled_from([1, 16, 32]), st.integers(1, 8))
def test_one_device_gets_the_very_memory_plan_of_the_engine(memory_bytes: int, block_size: int, max_num_seqs: int):
    spec = tiny_spec()
    request = replace(REQUEST, block_size=block_size, max_num_seqs=max_num_seqs)
    device = round_device(memory_bytes=memory_bytes, reserve_bytes=1000)
    (layout,) = layouts(spec, 1, request)
    found = place(layout, [device], request, CONTEXT)
    limits = {"block_size": block_size, "max_num_seqs": max_num_seqs, "max_batch_tokens": 64, "max_model_len": CONTEXT}
    try:
        expected = plan_memory(spec, budget_bytes=memory_bytes, reserve_bytes=1000, **limits)
    except DoesNotFitError:
        assert not found.fits and found.kv_tokens == 0 and found.shortfall_bytes > 0
    else:
        assert found.ranks[0].memory == expected
        assert found.fits and found.kv_tokens == expected.kv_tokens and found.shortfall_bytes <= 0


def test_nothing_is_refused_and_what_is_missing_is_the_sum_less_the_memory():
    found = placed(tiny_spec(), 10**6)
    memory = found.ranks[0].memory
    assert (found.fits, found.kv_tokens, found.num_sequences) == (False, 0, 0)
    one_sequence = CONTEXT * KV_BYTES_PER_TOKEN
    assert found.shortfall_bytes == memory.weights_bytes + memory.activation_bytes + one_sequence - 10**6


def test_a_stage_keeps_the_cache_of_its_own_layers():
    halves = placed(tiny_spec(), 10**8, 10**8, pp=2, tp=1)
    assert [rank.memory.kv_bytes_per_token for rank in halves.ranks] == [KV_BYTES_PER_TOKEN // 2] * 2
    assert [rank.num_layers for rank in halves.ranks] == [2, 2]
    assert halves.kv_tokens == halves.ranks[0].memory.kv_tokens, "a sequence lies on both, and counts once"


def test_more_ranks_than_kv_heads_repeat_them():
    found = placed(tiny_spec(), *[10**9] * 4, tp=4)
    per_rank = [rank.memory.kv_bytes_per_token for rank in found.ranks]
    assert per_rank == [KV_BYTES_PER_TOKEN // 2] * 4, "two heads on four ranks: each is kept twice"


def test_the_rank_with_the_least_room_decides_for_its_replica():
    spec = tiny_spec()
    alone = {size: placed(spec, size).kv_tokens for size in (3_000_000, 6_000_000)}
    assert 0 < alone[3_000_000] < alone[6_000_000]
    replicas = placed(spec, 3_000_000, 6_000_000, tp=1, pp=1)
    assert replicas.kv_tokens_per_replica == (alone[3_000_000], alone[6_000_000])
    assert replicas.kv_tokens == sum(alone.values())
    assert replicas.num_sequences == sum(tokens // CONTEXT for tokens in alone.values())
    stages = placed(spec, 3_000_000, 6_000_000, tp=1, pp=2)
    rooms = [rank.memory.kv_tokens for rank in stages.ranks]
    assert stages.kv_tokens == min(rooms)


def test_collectives_take_buffers_on_a_gpu_and_not_on_a_cpu():
    spec = tiny_spec()
    reserves = {}
    for kind in ("cuda", "cpu"):
        devices = [round_device(kind=kind, reserve_bytes=7)] * 2
        for tp in (1, 2):
            layout = only(spec, 2, tp=tp, pp=1)
            reserves[kind, tp] = place(layout, devices, REQUEST, CONTEXT).ranks[0].memory.reserve_bytes
    assert reserves == {("cuda", 1): 7, ("cuda", 2): 7 + NCCL_BYTES_OF_TWO, ("cpu", 1): 7, ("cpu", 2): 7}


@given(st.integers(10**6, 10**8), st.integers(1, 10**8), st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]))
def test_more_memory_never_holds_fewer_tokens(memory_bytes: int, more: int, split: tuple[int, int]):
    tp, pp = split
    tokens = [
        placed(tiny_spec(), *[size] * (tp * pp), tp=tp, pp=pp).kv_tokens for size in (memory_bytes, memory_bytes + more)
    ]
    assert tokens[0] <= tokens[1]

"""A batch of requests on a placement: sums over stages, groups and replicas worked out by hand, and laws of nature."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_hardware import one_node, round_accelerator, round_device, tiny_spec

from farthing.models.auto import config_of
from farthing.models.parallel import parallelize
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.layout import Placement, layouts, place
from farthing.planner.plan import make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.speed import Speed, links_of, max_running, speed_of
from farthing.planner.timing.device import Device

CONTEXT = 2048
REQUEST = PlanRequest(max_num_seqs=64, max_batch_tokens=256, input_tokens=100, output_tokens=50)


def placed(devices: list[Device], **asked: int) -> Placement:
    request = replace(REQUEST, **asked)
    (layout,) = layouts(tiny_spec(), len(devices), request)
    return place(layout, devices, request, CONTEXT)


def timed(devices: list[Device], batch: int, request: PlanRequest = REQUEST, **asked: int) -> Speed:
    return speed_of(placed(devices, **asked), one_node(*devices), request, batch)


def read_seconds(spec: ModelSpec, batch: BatchShape, bandwidth: float = 1e9) -> float:
    """All bytes that a step moves, over the bandwidth: devices here take time for nothing else."""
    return spec.cost(batch).moved_bytes / bandwidth


def test_one_device_computes_the_prompt_once_and_then_a_step_for_each_token():
    speed = timed([round_device()], 1)
    prefill, step = (
        read_seconds(tiny_spec(), BatchShape.prefill(100)),
        read_seconds(tiny_spec(), BatchShape.decode(125)),
    )
    assert speed.prefill.seconds == pytest.approx(prefill)
    assert speed.decode.seconds == pytest.approx(step), "the context is the prompt and half of the answer"
    assert speed.prefill.tokens_per_second == pytest.approx(100 / prefill)
    assert speed.decode.tokens_per_second == pytest.approx(1 / step)
    assert speed.request_seconds == pytest.approx(prefill + 49 * step), "the prefill yields the first token"
    assert speed.output_tokens_per_second == pytest.approx(50 / (prefill + 49 * step))


def test_short_prompts_are_computed_together_and_long_ones_in_chunks():
    three = timed([round_device()], 3)  # two of 100 tokens in a step of 256, then one
    together = read_seconds(tiny_spec(), BatchShape.prefill(100, 2)) + read_seconds(
        tiny_spec(), BatchShape.prefill(100)
    )
    assert three.prefill.seconds == pytest.approx(together)
    long = timed([round_device()], 2, replace(REQUEST, input_tokens=600))  # 256 + 256 + 88, twice
    chunks = sum(read_seconds(tiny_spec(), BatchShape.of([shape])) for shape in ((256, 0), (256, 256), (88, 512)))
    assert long.prefill.seconds == pytest.approx(2 * chunks)


def test_a_batch_decodes_in_one_step():
    assert timed([round_device()], 7).decode.seconds == pytest.approx(
        read_seconds(tiny_spec(), BatchShape.decode(125, 7))
    )


def test_replicas_work_beside_each_other():
    one, two = timed([round_device()], 3), timed([round_device()] * 2, 6, tp=1, pp=1)
    assert two.decode.seconds == pytest.approx(one.decode.seconds)
    assert two.prefill.seconds == pytest.approx(one.prefill.seconds)
    assert two.output_tokens_per_second == pytest.approx(2 * one.output_tokens_per_second)


def test_the_slowest_replica_sets_the_time():
    fast, slow = round_device("fast", bandwidth=4e9), round_device("slow", bandwidth=1e9)
    alone = timed([slow], 3)
    both = timed([fast, slow], 6, tp=1, pp=1)
    assert both.decode.seconds == pytest.approx(alone.decode.seconds)
    assert both.prefill.seconds == pytest.approx(alone.prefill.seconds)


def stages_seconds(batch: BatchShape, *bandwidths: float) -> list[float]:
    stages = parallelize(tiny_spec(), pp=len(bandwidths))
    return [read_seconds(stage, batch, bandwidth) for stage, bandwidth in zip(stages, bandwidths, strict=True)]


def pipeline(*bandwidths: float) -> list[Device]:
    """Devices whose sends take next to nothing: a link of 1e30 bytes/s; its latency of 10 us remains."""
    link = replace(round_accelerator().host, bytes_per_second=replace(round_accelerator().bandwidth, value=1e30))
    return [
        round_device(f"stage-{n}", bandwidth=bandwidth, accelerator=round_accelerator(id=f"stage-{n}", host=link))
        for n, bandwidth in enumerate(bandwidths)
    ]


SEND_SECONDS = 1e-5


def test_one_sequence_passes_the_stages_one_after_the_other():
    speed = timed(pipeline(1e9, 1e9), 1, tp=1, pp=2)
    passed = sum(stages_seconds(BatchShape.decode(125), 1e9, 1e9)) + SEND_SECONDS
    assert speed.decode.seconds == pytest.approx(passed)


def test_as_many_groups_as_stages_go_round_and_a_slow_stage_holds_up_the_others():
    slow = 1e7
    first, second = stages_seconds(BatchShape.decode(125, 3), 1e9, slow)
    speed = timed(pipeline(1e9, slow), 6, tp=1, pp=2)
    assert 2 * second > first + second
    assert speed.decode.seconds == pytest.approx(2 * second), "both groups wait for it"
    assert speed.decode.tokens_per_second == pytest.approx(6 / (2 * second))


def test_prompts_follow_each_other_through_the_stages():
    """One prompt of 300 tokens in two steps, 256 + 44: the slowest stage of each, and the others once."""
    request = replace(REQUEST, input_tokens=300)
    speed = timed(pipeline(1e9, 5e8), 1, request, tp=1, pp=2)
    steps = [stages_seconds(BatchShape.of([shape]), 1e9, 5e8) for shape in ((256, 0), (44, 256))]
    expected = steps[0][1] + steps[1][1] + steps[1][0] + SEND_SECONDS
    assert speed.prefill.seconds == pytest.approx(expected, rel=0.02)


def test_as_many_run_as_the_least_replica_holds_times_the_replicas():
    small, large = round_device("small", memory_bytes=4_000_000), round_device("large", memory_bytes=40_000_000)
    rooms = [placed([device]).kv_tokens // 160 for device in (small, large)]  # 150 tokens take ten blocks of 16
    assert 0 < rooms[0] < rooms[1] < 10**4
    request = replace(REQUEST, max_num_seqs=256)
    mixed = place(placed([small, large], tp=1, pp=1).layout, [small, large], REQUEST, CONTEXT)
    assert max_running(mixed, request) == 2 * rooms[0], "requests are dealt evenly"
    assert max_running(mixed, replace(request, max_num_seqs=3, max_batch_tokens=256)) == 6


def test_tensor_parallel_ranks_reduce_over_their_link():
    devices = [round_device(bandwidth=1e30)] * 2
    speed = timed(devices, 4, tp=2, pp=1)
    link = 10e9 * 0.36  # no P2P: through host memory
    reduces = 9 * (42e-6 + 4 * 64 * 2 / link)  # two a layer, one behind the embedding; a ring of two moves it once
    gather = 42e-6 + 4 * 128 * 4 / link  # four rows of half the logits
    assert speed.decode.seconds == pytest.approx(reduces + gather)
    assert speed.decode.step.bound == "link"


def test_links_are_those_of_the_devices_and_nodes_that_a_stage_lies_on():
    (layout,) = layouts(tiny_spec(), 4, replace(REQUEST, tp=2, pp=2))
    device = round_device()
    near, far = Hardware("one", (device,) * 4, (0,) * 4), Hardware("two", (device,) * 4, (0, 0, 1, 1))
    split = Hardware("split", (device,) * 4, (0, 1, 2, 3))
    request = replace(REQUEST, network="2GB")
    collective, send = links_of(layout, near, request, 0, 0)
    assert collective.bytes_per_second == send.bytes_per_second == pytest.approx(3.6e9)
    collective, send = links_of(layout, far, request, 0, 0)
    assert (collective.bytes_per_second, send.bytes_per_second) == (pytest.approx(3.6e9), 2e9)
    assert links_of(layout, split, request, 0, 0)[0].bytes_per_second == 2e9
    assert links_of(layout, near, request, 0, 1)[1] is None, "the last stage hands on to nobody"


def test_a_link_to_another_kind_of_card_is_none_that_an_engine_was_measured_on():
    (layout,) = layouts(tiny_spec(), 2, replace(REQUEST, tp=1, pp=2))
    for on, is_engines in (("2x4090", True), ("4090+3090", False)):
        asked = replace(REQUEST, on=on, engine="vllm")
        _, send = links_of(layout, find_hardware(asked), asked, 0, 0)
        assert ("vllm reaches" in send.note) == is_engines, send.note


MODELS = ("llama-3.1-8b", "mixtral-8x7b", "qwen2.5-0.5b")
CARDS = ("rtx-4090", "h100-sxm", "mi300x", "xeon-8480p", "2x rtx-3090", "2x2x a100-80-sxm")


@settings(max_examples=40)
@given(st.sampled_from(MODELS), st.sampled_from(CARDS), st.integers(1, 300), st.sampled_from(["auto", "int8", "int4"]))
def test_nothing_is_faster_than_reading_the_active_weights_at_the_nominal_bandwidth(
    model: str, on: str, batch: int, weight_format: str
):
    request = PlanRequest(on=on, batch=batch, format=weight_format, memory="64GiB" if "xeon" in on else "100%")
    hardware = find_hardware(request)
    plan = make_plan(model, config_of(find_model(model)), hardware, request)
    nominal = sum(device.accelerator.bandwidth.value for device in hardware.devices)
    spec = plan.spec
    embedding = 0 if spec.head.tied else spec.vocab_size * spec.hidden_size * 2  # only its rows are read
    active_bytes = spec.active_weight_bytes - embedding
    for choice in plan.choices:
        for speed in (choice.speed, choice.full):
            assert speed.decode.tokens_per_second <= speed.batch * nominal / active_bytes


@settings(max_examples=30)
@given(st.integers(1, 81), st.sampled_from([("llama-3.1-8b", "rtx-4090"), ("mixtral-8x7b", "h200-sxm")]))
def test_a_larger_batch_never_decodes_fewer_tokens_while_it_runs_at_a_time(batch: int, pair: tuple[str, str]):
    model, on = pair
    config = config_of(find_model(model))
    speeds = []
    for count in (batch, batch + 1):
        request = PlanRequest(on=on, batch=count)
        speeds.append(make_plan(model, config, find_hardware(request), request).best.speed)
    assert [speed.batch for speed in speeds] == [batch, batch + 1]
    assert speeds[0].decode.tokens_per_second <= speeds[1].decode.tokens_per_second
    assert speeds[0].decode.seconds <= speeds[1].decode.seconds


def test_a_replica_that_lies_on_two_nodes_is_the_slowest_of_equal_ones():
    """Six equal cards, three a node, two a replica: the middle one talks over the network."""
    device = round_device(bandwidth=1e30)
    inside, across = Hardware("x", (device,) * 6, (0,) * 6), Hardware("x", (device,) * 6, (0, 0, 0, 1, 1, 1))
    request = replace(REQUEST, network="1MB")
    placement = placed([device] * 6, tp=2, pp=1)
    near, far = (speed_of(placement, hardware, request, 3) for hardware in (inside, across))
    payload = 64 * 2  # a row of hidden states in 16 bits; nine all-reduces, and the logits gathered
    assert far.decode.seconds == pytest.approx(9 * (30e-6 + payload / 1e6) + 30e-6 + 128 * 4 / 1e6)
    assert near.decode.seconds < far.decode.seconds

"""One step, op by op, against bytes over bandwidth and FLOPs over rate."""

from dataclasses import replace

import pytest
from round_hardware import round_device, tiny_spec

from farthing.models.parallel import parallelize
from farthing.ops.batch import BatchShape
from farthing.planner.timing.forecast import StepForecast, add_steps, forecast_step
from farthing.planner.timing.links import RankLink

NO_LINKS = (None, None)
DECODE = BatchShape.decode(9, batch=3)  # three sequences, ten attended positions each


def op(step: StepForecast, name: str):
    (found,) = [op for op in step.ops if op.name == name]
    return found


def test_a_matrix_product_takes_its_bytes_over_the_bandwidth():
    step = forecast_step(tiny_spec(), DECODE, round_device(bandwidth=1e9), NO_LINKS)
    moved = 64 * 96 * 2 + 3 * 64 * 2 + 3 * 96 * 2  # weights, three rows in, three rows out
    assert op(step, "mlp.gate_proj").seconds == pytest.approx(4 * moved / 1e9)
    assert (op(step, "mlp.gate_proj").count, op(step, "mlp.gate_proj").bound) == (4, "bandwidth")


def test_or_its_flops_over_the_rate_whichever_is_longer():
    step = forecast_step(tiny_spec(), DECODE, round_device(bandwidth=1e30, rate=1e6), NO_LINKS)
    assert op(step, "mlp.gate_proj").seconds == pytest.approx(4 * 2 * 3 * 64 * 96 / 1e6)
    assert op(step, "mlp.gate_proj").bound == "compute"
    balanced = forecast_step(tiny_spec(), DECODE, round_device(bandwidth=1e9, rate=1e6), NO_LINKS)
    assert op(balanced, "mlp.gate_proj").seconds == pytest.approx(4 * 2 * 3 * 64 * 96 / 1e6)


def test_attention_reads_the_cache_of_every_attended_position():
    step = forecast_step(tiny_spec(), DECODE, round_device(bandwidth=1e9), NO_LINKS)
    cache = 3 * 10 * 2 * 2 * 16 * 2  # sequences, positions, K and V, KV heads, head_dim, 16 bits
    written = 3 * 2 * 2 * 16 * 2
    queries_and_outputs = 2 * 3 * 4 * 16 * 2
    assert op(step, "self_attn").seconds == pytest.approx(4 * (cache + written + queries_and_outputs) / 1e9)


def test_the_whole_step_is_all_bytes_over_the_bandwidth_where_nothing_else_takes_time():
    spec = tiny_spec()
    for batch in (DECODE, BatchShape.prefill(100), BatchShape.of([(1, 50), (30, 10)])):
        step = forecast_step(spec, batch, round_device(bandwidth=1e9), NO_LINKS)
        assert step.seconds == pytest.approx(spec.cost(batch).moved_bytes / 1e9)
        assert step.bound == "bandwidth"


def test_the_whole_step_is_all_flops_over_the_rate_where_memory_takes_no_time():
    spec = tiny_spec()
    step = forecast_step(spec, DECODE, round_device(bandwidth=1e30, rate=1e9), NO_LINKS)
    assert step.seconds == pytest.approx(spec.cost(DECODE).total_flops / 1e9, rel=1e-6)
    assert step.bound == "compute"


def test_a_good_gpu_engine_starts_one_kernel_for_q_k_v_and_one_for_gate_and_up():
    step = forecast_step(tiny_spec(), DECODE, round_device(bandwidth=1e30, overhead_seconds=1.0), NO_LINKS)
    launched = {"self_attn.q_proj": 4, "self_attn.k_proj": 0, "self_attn.v_proj": 0, "mlp.gate_proj": 4}
    launched |= {"mlp.up_proj": 0, "mlp.down_proj": 4, "self_attn.o_proj": 4, "self_attn": 4, "mlp.add": 0}
    for name, seconds in launched.items():
        assert op(step, name).seconds == pytest.approx(seconds, abs=1e-6), name
    assert step.bound == "latency"


def test_the_engine_of_a_cpu_replays_a_call_or_a_few_for_every_op_whatever_the_batch():
    device = round_device(bandwidth=1e30, overhead_seconds=1.0, kind="cpu")
    step = forecast_step(tiny_spec(), DECODE, device, NO_LINKS)
    assert op(step, "self_attn.k_proj").seconds == pytest.approx(4)
    assert op(step, "self_attn").seconds == pytest.approx(4 * 3)
    rounded = forecast_step(tiny_spec("w8a8"), DECODE, device, NO_LINKS)
    assert op(rounded, "self_attn.k_proj").seconds == pytest.approx(4 * 2)


def test_where_nothing_could_be_compiled_torch_is_called_for_every_op_and_for_every_sequence_of_attention():
    device = replace(round_device(bandwidth=1e30, overhead_seconds=1.0, kind="cpu"), is_here=True)
    step = forecast_step(tiny_spec(), DECODE, device, NO_LINKS)
    assert op(step, "self_attn.k_proj").seconds == pytest.approx(4 * 5)
    assert op(step, "self_attn").seconds == pytest.approx(4 * (5 + 3 * 28))


def test_messages_of_a_rank_take_their_links_and_nothing_else():
    first, last = parallelize(tiny_spec(), tp=2, pp=2)
    collective, send = RankLink(1e6, 0.5, ""), RankLink(1e3, 0.25, "")
    batch = BatchShape.prefill(10)
    step = forecast_step(first, batch, round_device(bandwidth=1e30), (collective, send))
    payload = 10 * 64 * 2
    assert op(step, "mlp.down_proj.reduce").seconds == pytest.approx(2 * (0.5 + payload / 1e6))  # 2 layers, factor 1
    assert op(step, "send").seconds == pytest.approx(0.25 + payload / 1e3)
    assert step.by_bound["link"] == pytest.approx(5 * (0.5 + payload / 1e6) + 0.25 + payload / 1e3)
    assert step.bound == "link"
    ending = forecast_step(last, batch, round_device(bandwidth=1e30), (collective, None))
    assert op(ending, "lm_head.gather").seconds == pytest.approx(0.5 + 1 * 128 * 4 / 1e6)  # one row of half the logits


def test_a_message_without_a_link_is_a_bug_of_the_caller():
    (rank,) = parallelize(tiny_spec(), tp=2)
    with pytest.raises(AssertionError, match="no link"):
        forecast_step(rank, DECODE, round_device(), NO_LINKS)


@pytest.mark.parametrize("changes", [{}, {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4}])
def test_the_ops_and_the_bounds_both_add_up_to_the_step(changes: dict[str, object]):
    device = round_device(bandwidth=1e9, rate=1e9, overhead_seconds=1e-6)
    step = forecast_step(tiny_spec(**changes, num_experts_per_tok=2), DECODE, device, NO_LINKS)
    assert sum(op.seconds for op in step.ops) == pytest.approx(step.seconds)
    assert sum(step.by_bound.values()) == pytest.approx(step.seconds)
    assert all(op.seconds >= 0 for op in step.ops)


def test_layers_that_differ_are_all_counted():
    windowed = tiny_spec(
        architectures=["Qwen3ForCausalLM"],
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=2,
        layer_types=["full_attention", "full_attention", "sliding_attention", "sliding_attention"],
    )
    step = forecast_step(windowed, DECODE, round_device(bandwidth=1e9), NO_LINKS)
    assert step.seconds == pytest.approx(windowed.cost(DECODE).moved_bytes / 1e9)
    assert sum(op.count for op in step.ops if op.name == "self_attn") == 4


def test_experts_read_only_those_that_the_batch_is_expected_to_touch():
    moe = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2}
    step = forecast_step(tiny_spec(**moe), BatchShape.decode(0), round_device(bandwidth=1e9), NO_LINKS)
    (experts,) = [op for op in step.ops if "experts" in op.name]
    weights = 2 * 3 * 64 * 96 * 2  # two of eight
    assert weights * 4 / 1e9 < experts.seconds < 1.1 * weights * 4 / 1e9


def test_steps_one_after_the_other_add_up_op_by_op():
    device = round_device(bandwidth=1e9, overhead_seconds=1e-6)
    one = forecast_step(tiny_spec(), DECODE, device, NO_LINKS)
    three = add_steps([(one, 1), (one, 2)])
    assert three.seconds == pytest.approx(3 * one.seconds)
    assert op(three, "lm_head").seconds == pytest.approx(3 * op(one, "lm_head").seconds)
    assert op(three, "mlp.gate_proj").count == 12
    assert sum(op.seconds for op in three.ops) == pytest.approx(three.seconds)

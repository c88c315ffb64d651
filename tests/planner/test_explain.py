"""What a plan's speed comes from and what would change it: each remedy is the plan forecast again, so it must agree."""

import pytest

from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.explain import Explanation, Remedy, explain
from farthing.planner.explain_report import remedy_line, to_json_object, to_lines
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.request import PlanRequest


def planned(model: str, **asked: object) -> tuple[Plan, Explanation]:
    request = PlanRequest(**asked)
    found = find_published(model)
    assert found is not None
    config, hardware = ConfigReader(found.config, found.name), find_hardware(request)
    plan = make_plan(model, config, hardware, request)
    return plan, explain(plan, config, hardware)


def remedy_of(explanation: Explanation, kind: str, containing: str = "") -> Remedy:
    return next(one for one in explanation.remedies if one.kind == kind and containing in one.what + one.flag)


def test_the_parts_of_a_step_add_up_and_weights_lead_at_batch_1():
    plan, found = planned("llama-3.1-8b", on="rtx-4090")
    assert sum(found.decode.values()) == pytest.approx(plan.best.speed.decode.step.seconds)
    assert sum(found.prefill.values()) == pytest.approx(plan.best.speed.prefill.step.seconds)
    assert found.bound == "bandwidth" and max(found.decode, key=lambda part: found.decode[part]) == "weights"
    _, long = planned("llama-3.1-8b", on="rtx-4090", context=32768, input_tokens=30000, output_tokens=1000)
    assert long.decode["kv_cache"] > found.decode["kv_cache"]


def test_a_narrower_format_gains_what_its_own_plan_says():
    plan, found = planned("llama-3.1-8b", on="rtx-4090")
    narrow, _ = planned("llama-3.1-8b", on="rtx-4090", format="int4")
    remedy = remedy_of(found, "format", "int4")
    assert remedy.answer_gain == pytest.approx(plan.best.speed.request_seconds / narrow.best.speed.request_seconds)
    full = narrow.best.full.output_tokens_per_second / plan.best.full.output_tokens_per_second
    assert remedy.throughput_gain == pytest.approx(full)
    _, already = planned("llama-3.1-8b", on="rtx-4090", format="int4")
    assert not [one for one in already.remedies if one.kind == "format"], "nothing is narrower than 4 bits"


def test_another_split_gains_what_its_own_plan_says():
    asked = {"on": "4x4090", "format": "int4", "input_tokens": 2000, "output_tokens": 500}
    starved, found = planned("llama-3.1-70b", **asked, tp=1, pp=2)
    deep, _ = planned("llama-3.1-70b", **asked, tp=1, pp=4)
    remedy = remedy_of(found, "split", "--pp 4")
    assert "a deeper pipeline" in remedy.what
    assert remedy.throughput_gain == pytest.approx(
        deep.best.full.output_tokens_per_second / starved.best.full.output_tokens_per_second
    )


def test_kv_starvation_is_named_where_the_pool_ends_what_runs():
    asked = {"on": "4x4090", "format": "int4", "input_tokens": 2000, "output_tokens": 500}
    plan, found = planned("llama-3.1-70b", **asked, tp=1, pp=2)
    assert found.starvation is not None and found.starvation.gain > 1.2
    assert found.starvation.running * 2 == plan.best.full.batch < plan.request.max_num_seqs
    assert any("KV-starved" in line for line in to_lines(found))
    assert remedy_of(found, "kv-room").throughput_gain == pytest.approx(found.starvation.gain)
    assert remedy_of(found, "kv-format").throughput_gain > 1.2
    _, roomy = planned("llama-3.1-8b", on="h100-sxm", max_num_seqs=64)
    assert roomy.starvation is None and not [one for one in roomy.remedies if one.kind == "kv-room"]
    assert remedy_of(roomy, "seats").flag == "--max-num-seqs 128"


def test_p2p_is_a_remedy_where_messages_go_through_the_host():
    asked = {"on": "4x4090", "format": "int4", "tp": 4}
    plan, found = planned("llama-3.1-70b", **asked)
    direct, told = planned("llama-3.1-70b", **asked, p2p=True)
    remedy = remedy_of(found, "p2p")
    assert remedy.flag == "--p2p"
    assert remedy.answer_gain == pytest.approx(plan.best.speed.request_seconds / direct.best.speed.request_seconds)
    assert not [one for one in told.remedies if one.kind == "p2p"]
    _, alone = planned("llama-3.1-8b", on="rtx-4090")
    assert not [one for one in alone.remedies if one.kind == "p2p"]


def test_a_power_cap_is_for_what_waits_for_memory():
    _, found = planned("llama-3.1-8b", on="rtx-3090")
    cap = remedy_of(found, "power")
    assert cap.energy_gain > 1.2 and cap.answer_gain == 1.0 and "3090" in cap.note and "W)" in cap.what


def test_batches_are_weighed_both_ways():
    _, found = planned("llama-3.1-8b", on="rtx-4090", batch=32)
    more, fewer = remedy_of(found, "batch", "more"), remedy_of(found, "batch", "fewer")
    assert more.throughput_gain > 1 > more.answer_gain and fewer.answer_gain > 1 > fewer.throughput_gain


def test_remedies_are_ranked_by_gain_for_the_money_and_each_is_told():
    _, found = planned("llama-3.1-70b", on="4x4090", format="int4", tp=1, pp=2)
    known = [one for one in found.remedies if one.cost_factor is not None]
    assert [one.gain_per_dollar for one in known] == sorted((one.gain_per_dollar for one in known), reverse=True)
    assert found.remedies[: len(known)] == tuple(known), "what has no price stands last"
    twice = remedy_of(found, "replicas")
    assert twice.cost_factor == 2.0 and "2 times the price" in remedy_line(twice)
    listed = to_json_object(found)
    assert len(listed["remedies"]) == len(found.remedies) and listed["bound"] == found.bound
    lines = list(to_lines(found))
    assert "bound" in lines[0] and len(lines) <= 9
